//! Mutual TLS 1.3 between exactly the two engines of one migration.
//!
//! Both ends trust only the migration's own authority. The source checks that the destination's
//! certificate names [`DESTINATION_NAME`]; the destination demands a client certificate that
//! names [`SOURCE_NAME`], so neither role can be played with the other's certificate.

use crate::LinkError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;

/// The name in a source's certificate.
pub const SOURCE_NAME: &str = "source.drover";

/// The name in a destination's certificate.
pub const DESTINATION_NAME: &str = "destination.drover";

/// Certificate, key and authority of one end, in PEM.
#[derive(Clone)]
pub struct Identity {
    certificates: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    authority: Arc<RootCertStore>,
    /// Made once: whoever calls costs no parsing of keys.
    server: Arc<ServerConfig>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl Identity {
    /// Parses the three PEM texts. The errors never quote their content.
    pub fn from_pem(certificate: &str, key: &str, authority: &str) -> Result<Self, LinkError> {
        let certificates = certificates(certificate, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| LinkError::Certificate("key is not a private key in PEM".into()))?;
        let mut roots = RootCertStore::empty();
        for root in self::certificates(authority, "authority")? {
            roots.add(root).map_err(|error| {
                LinkError::Certificate(format!("authority cannot be used: {error}"))
            })?;
        }
        let authority = Arc::new(roots);
        // Building a configuration finds a key that does not belong to the certificate.
        let server = server(&certificates, &key, &authority)?;
        Ok(Identity {
            certificates,
            key: Arc::new(key),
            authority,
            server: Arc::new(server),
        })
    }

    /// TLS of a source.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, LinkError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refuse)?
            .with_root_certificates(self.authority.clone());
        let mut config = builder
            .with_client_auth_cert(self.certificates.clone(), self.key.clone_key())
            .map_err(refuse)?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// TLS of a destination.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}

fn server(
    certificates: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    authority: &Arc<RootCertStore>,
) -> Result<ServerConfig, LinkError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.clone(), provider())
        .build()
        .map_err(|error| LinkError::Certificate(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refuse)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates.to_vec(), key.clone_key())
        .map_err(refuse)?;
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn refuse(error: rustls::Error) -> LinkError {
    LinkError::Certificate(error.to_string())
}

fn certificates(pem: &str, field: &str) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let list = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(LinkError::Certificate(format!(
            "{field} is not a certificate in PEM"
        ))),
    }
}

/// Whether a peer's certificate names `name`.
pub(crate) fn check_name(
    certificates: Option<&[CertificateDer<'_>]>,
    name: &'static str,
) -> Result<(), LinkError> {
    let certificate = certificates
        .and_then(<[_]>::first)
        .ok_or_else(|| LinkError::Certificate("the peer showed no certificate".into()))?;
    let server_name = ServerName::try_from(name)
        .map_err(|_| LinkError::Certificate(format!("{name} is no name")))?;
    webpki::EndEntityCert::try_from(certificate)
        .and_then(|parsed| parsed.verify_is_valid_for_subject_name(&server_name))
        .map_err(|_| LinkError::Certificate(format!("the peer's certificate does not name {name}")))
}
