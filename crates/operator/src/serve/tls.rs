//! TLS for health and metrics, with a certificate in files that is reloaded when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto::CryptoProvider};
use tokio_util::sync::CancellationToken;

/// Time between two reads of the files. The kubelet takes one or two minutes to update a mounted Secret.
const PERIOD: Duration = Duration::from_secs(10);

/// Paths of the certificate and its key, both PEM files.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// Path of the certificate chain, the server's certificate first.
    pub certificate: PathBuf,
    /// Path of the private key.
    pub key: PathBuf,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("failed to read {path}: {source}; give the certificate with --tls-cert and its key with --tls-key", path = .path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file does not contain what it should.
    #[error("failed to find {what} in {path}: {source}", path = .path.display())]
    Pem {
        /// Item that the file should contain.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: rustls::pki_types::pem::Error,
    },
    /// The key does not belong to the certificate, or its kind is not supported.
    #[error("failed to use {certificate} with the key {key}: {source}", certificate = .files.certificate.display(), key = .files.key.display())]
    Pair {
        /// Paths of the certificate and the key.
        files: CertificateFiles,
        /// Error of the TLS library.
        source: rustls::Error,
    },
    /// The TLS library supports no protocol version.
    #[error("failed to set TLS up: {0}")]
    Config(#[from] rustls::Error),
}

/// The certificate that is served.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the files for the first time.
    pub async fn read(files: CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(Arc::new(pair(&files).await?));
        Ok(Arc::new(Self { files, current }))
    }

    /// Returns the configuration of a server with TLS 1.2 and 1.3 that uses the newest certificate for each connection.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        // Only HTTP/1.1 is served.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Reloads the files every `PERIOD` until `stop` is cancelled. While they cannot be used, as between the writes of
    /// the two files, the previous certificate is served.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return,
            }
            match self.renew().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(error = %error, "cannot reload the certificate; serving the previous one");
                }
                Err(_) => {}
            }
        }
    }

    async fn renew(&self) -> Result<(), TlsError> {
        let pair = pair(&self.files).await?;
        if pair.cert != self.current().cert {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
            tracing::info!(certificate = %self.files.certificate.display(), "reloaded the certificate");
        }
        Ok(())
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

async fn pair(files: &CertificateFiles) -> Result<CertifiedKey, TlsError> {
    let (certificate, key) = (read(&files.certificate).await?, read(&files.key).await?);
    let pem = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { what, path, source }
    };
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain
        .and_then(|chain| if chain.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(chain) });
    let chain = chain.map_err(pem("a certificate", &files.certificate))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(pem("a private key", &files.key))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| TlsError::Pair { files: files.clone(), source })
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
