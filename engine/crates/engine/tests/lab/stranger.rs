//! Whoever connects without the right to.

use super::Lab;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// TLS of a source with the certificate of `link`, believing the authority of `lab`.
pub fn config(lab: &Lab, link: &Value) -> Arc<ClientConfig> {
    let pem = |link: &Value, field: &str| link[field].as_str().unwrap().as_bytes().to_vec();
    let mut roots = RootCertStore::empty();
    let authority = pem(&lab.authority.link("source"), "authority");
    roots
        .add(CertificateDer::from_pem_slice(&authority).unwrap())
        .unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&pem(link, "certificate")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&pem(link, "key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// Says `frames` under TLS, and returns what is heard until the other end hangs up.
pub fn say(address: &str, config: &Arc<ClientConfig>, frames: &[u8]) -> Vec<u8> {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let name = ServerName::try_from("destination.drover").unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = StreamOwned::new(connection, tcp);
    // The other end may hang up at any byte.
    let _ = stream.write_all(frames).and_then(|()| stream.flush());
    let mut heard = Vec::new();
    if let Err(error) = stream.read_to_end(&mut heard) {
        let hangs = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!hangs, "the stranger is neither answered nor sent away");
    }
    heard
}
