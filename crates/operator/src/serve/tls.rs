//! TLS for health and metrics, by a certificate in files that is renewed while it is served.

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

/// How often the files are looked at. A kubelet takes a minute or two to bring a changed Secret there.
const PERIOD: Duration = Duration::from_secs(10);

/// Where the certificate is. Both files are PEM.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, and those that it was signed by.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why there is nothing to serve TLS with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("failed to read {path}: {source}; give the certificate with --tls-cert and its key with --tls-key", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("failed to find {what} in {path}: {source}", path = .path.display())]
    Pem {
        /// What it should have.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What it has instead.
        source: rustls::pki_types::pem::Error,
    },
    /// The key is not that of the certificate, or of a kind that is not supported.
    #[error("failed to use {certificate} with the key {key}: {source}", certificate = .files.certificate.display(), key = .files.key.display())]
    Pair {
        /// The two files.
        files: CertificateFiles,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// There is no version of TLS to offer.
    #[error("failed to set TLS up: {0}")]
    Config(#[from] rustls::Error),
}

/// The certificate that is served now.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads it for the first time.
    pub async fn read(files: CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(Arc::new(pair(&files).await?));
        Ok(Arc::new(Self { files, current }))
    }

    /// For the accepting side: TLS 1.2 and 1.3, and the certificate of the moment for each connection.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        // HTTP/1.1 alone is served.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Takes over what the files have become, until told to stop. While they cannot be used, as in the moment between the
    /// writing of the one and of the other, the certificate before is served.
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
                    tracing::warn!(error = %error, "the certificate cannot be renewed: the one before is served");
                }
                Err(_) => {}
            }
        }
    }

    async fn renew(&self) -> Result<(), TlsError> {
        let pair = pair(&self.files).await?;
        if pair.cert != self.current().cert {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
            tracing::info!(certificate = %self.files.certificate.display(), "another certificate is served");
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
