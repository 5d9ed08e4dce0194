//! What lets a client trust a server on loopback: an authority and a certificate made for one run, and a random token.
//! The authority's key is forgotten as soon as it has signed, so nobody can sign with it later.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;

/// The names by which a client on this machine may call the server.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why there is no certificate or no token.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("failed to make a certificate for {NAMES:?}: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library does not take it.
    #[error("failed to use the certificate made for {NAMES:?}: {0}")]
    Config(#[from] rustls::Error),
    /// The system gave no random bytes.
    #[error("failed to make a token: the system gave no random bytes")]
    Random,
}

/// Who the server is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The authority's certificate in PEM: what a kubeconfig calls `certificate-authority-data`.
    pub authority: String,
    /// For the accepting side.
    pub config: Arc<ServerConfig>,
}

impl Identity {
    /// A new authority, and a certificate signed by it.
    pub fn generate() -> Result<Self, TlsError> {
        let mut authority = params("sluice local authority")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let mut server = params("sluice local")?;
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
        // HTTP/1.1 alone is served; a client that is told so does not try anything else.
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

/// A bearer token: 256 random bits in hexadecimal digits.
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
    fn every_token_is_another() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, other);
    }
}
