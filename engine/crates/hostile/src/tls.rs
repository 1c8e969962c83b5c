//! Certificates of one migration, and TLS with them for ends that then say anything.

use drover_link::tls::{DESTINATION_NAME, Identity, SOURCE_NAME};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::{Arc, OnceLock};

/// Writing to a connection that the other end has left is an error, not the end of the process. Rust's
/// start-up sees to that, but the fuzzer's does without it. To be called within a runtime.
pub(crate) fn survive_broken_pipes() {
    let handler = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::pipe());
    drop(handler.expect("a handler of SIGPIPE"));
}

/// One end's certificate, key and authority in PEM.
pub(crate) struct Pem {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) authority: String,
}

impl Pem {
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key, &self.authority).expect("an identity")
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate")]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key")
    }
}

/// Both ends.
pub(crate) struct Ends {
    pub(crate) source: Pem,
    pub(crate) destination: Pem,
    /// TLS of a source whose plaintext is ours.
    pub(crate) client: Arc<ClientConfig>,
    /// TLS of a destination whose plaintext is ours.
    pub(crate) server: Arc<ServerConfig>,
}

/// Made once per process: keys take their time.
pub(crate) fn ends() -> &'static Ends {
    static ENDS: OnceLock<Ends> = OnceLock::new();
    ENDS.get_or_init(|| {
        let mut parameters = CertificateParams::new(vec![]).expect("an authority's parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("an authority");
        let (source, destination) = (
            issue(&issuer, SOURCE_NAME),
            issue(&issuer, DESTINATION_NAME),
        );
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).expect("the authority");
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(source.chain(), source.key())
            .expect("TLS of a source");
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(destination.chain(), destination.key())
            .expect("TLS of a destination");
        Ends {
            source,
            destination,
            client: client.into(),
            server: server.into(),
        }
    })
}

fn issue(issuer: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Pem {
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate = parameters.signed_by(&key, issuer).expect("a certificate");
    Pem {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        authority: issuer.pem(),
    }
}
