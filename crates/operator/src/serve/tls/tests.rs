use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::serve::metrics::Metrics;
use crate::serve::{Health, run};

/// A folder with a certificate for `localhost` and its key, which is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sluice-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles { certificate: self.0.join("tls.crt"), key: self.0.join("tls.key") }
    }

    /// Writes a new certificate with a new key, and returns the certificate.
    fn issue(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.files().certificate, made.pem()).unwrap();
        std::fs::write(self.files().key, key.serialize_pem()).unwrap();
        made.der().clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Returns the answer to a client that trusts only this certificate, or the client's error.
async fn over_tls(address: std::net::SocketAddr, trusted: &CertificateDer<'static>) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Catalogue: S16.
#[tokio::test]
async fn metrics_are_served_over_tls_with_the_newest_certificate() {
    let folder = Folder::new("served");
    let first = folder.issue();
    let certificate = Certificate::read(folder.files()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let config = certificate.config().unwrap();
    let server = tokio::spawn(run(listener, Health::default(), Metrics::default(), None, Some(config), stop.clone()));

    let answer = over_tls(address, &first).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("# EOF\n"), "{answer}");
    // Plain HTTP gets no answer or a TLS alert, and no page.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let second = folder.issue();
    certificate.renew().await.unwrap();
    assert!(over_tls(address, &second).await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    let error = over_tls(address, &first).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    stop.cancel();
    server.await.unwrap().unwrap();
}

/// Catalogue: S16.
#[tokio::test(start_paused = true)]
async fn unusable_files_keep_the_previous_certificate() {
    let folder = Folder::new("followed");
    let first = folder.issue();
    let certificate = Certificate::read(folder.files()).await.unwrap();
    let stop = CancellationToken::new();
    let following = tokio::spawn(Arc::clone(&certificate).follow(stop.clone()));
    let served = || certificate.current().cert.clone();
    let key = std::fs::read(folder.files().key).unwrap();

    // The certificate is replaced, and its key is not yet.
    let second = folder.issue();
    let second_key = std::fs::read(folder.files().key).unwrap();
    std::fs::write(folder.files().key, key).unwrap();
    tokio::time::sleep(PERIOD * 2).await;
    assert_eq!(served(), vec![first.clone()]);
    std::fs::remove_file(folder.files().key).unwrap();
    tokio::time::sleep(PERIOD * 2).await;
    assert_eq!(served(), vec![first]);
    std::fs::write(folder.files().key, second_key).unwrap();
    tokio::time::sleep(PERIOD * 2).await;
    assert_eq!(served(), vec![second]);
    stop.cancel();
    following.await.unwrap();
}

/// Catalogue: S16.
#[tokio::test]
async fn unusable_files_are_reported_at_the_start() {
    let folder = Folder::new("wrong");
    let error = || async { Certificate::read(folder.files()).await.unwrap_err().to_string() };
    assert!(error().await.contains("tls.crt") && error().await.contains("--tls-cert"));
    folder.issue();
    let key = std::fs::read(folder.files().key).unwrap();
    std::fs::write(folder.files().key, "nothing").unwrap();
    assert!(error().await.starts_with("failed to find a private key in "));
    folder.issue();
    std::fs::write(folder.files().key, key).unwrap();
    assert!(error().await.starts_with("failed to use "));
    std::fs::write(folder.files().certificate, "").unwrap();
    assert!(error().await.starts_with("failed to find a certificate in "));
}

/// 128 silent clients blocked all others for ten seconds, including the kubelet's probes.
/// Catalogue: S16.
#[tokio::test]
async fn silent_tls_clients_do_not_block_others() {
    let folder = Folder::new("silent");
    let trusted = folder.issue();
    let certificate = Certificate::read(folder.files()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let config = certificate.config().unwrap();
    let server = tokio::spawn(run(listener, Health::default(), Metrics::default(), None, Some(config), stop.clone()));
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let answer = tokio::time::timeout(std::time::Duration::from_secs(5), over_tls(address, &trusted)).await;
    assert!(answer.unwrap().unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    stop.cancel();
    drop(silent);
    server.abort();
}
