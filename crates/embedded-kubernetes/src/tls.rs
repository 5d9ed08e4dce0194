//! The credentials of a server on loopback: an authority and a certificate that are generated for one run, and a random
//! token. The key of the authority is dropped as soon as it has signed, so nothing can be signed with it later.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;

/// The host names for which the certificate of the server is valid.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why a certificate or a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be generated or signed.
    #[error("failed to make a certificate for {NAMES:?}: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library rejects the certificate.
    #[error("failed to use the certificate made for {NAMES:?}: {0}")]
    Config(#[from] rustls::Error),
    /// The operating system returned no random bytes.
    #[error("failed to make a token: the operating system returned no random bytes")]
    Random,
}

/// The identity of the server.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate of the authority in PEM: `certificate-authority-data` in a kubeconfig.
    pub authority: String,
    /// The configuration of the accepting side of TLS.
    pub config: Arc<ServerConfig>,
}

impl Identity {
    /// Generates an authority, and a certificate signed by it. The common name of the certificate is `name`, that of the
    /// authority `name` and the word "authority".
    pub fn generate(name: &str) -> Result<Self, TlsError> {
        let mut authority = params(&format!("{name} authority"))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let mut server = params(name)?;
        server.subject_alt_names = CertificateParams::new(NAMES.map(str::to_owned))?.subject_alt_names;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &issuer)?;

        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        // Only HTTP/1.1 is served. A client that negotiates it does not try HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { authority: authority_pem, config: Arc::new(config) })
    }
}

fn params(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// Returns a bearer token: 256 random bits in hexadecimal digits.
pub fn token() -> Result<String, TlsError> {
    let mut bytes = [0; 32];
    ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| TlsError::Random)?;
    let digit = |number: u8| char::from_digit(u32::from(number), 16).unwrap_or('0');
    Ok(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, other);
    }
}
