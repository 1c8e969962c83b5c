//! An authority for one migration and the certificates of its two engines.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority {
            issuer: CertifiedIssuer::self_signed(parameters, key).unwrap(),
        }
    }

    /// The fields of PUT /v1/link that a role needs from us.
    pub fn link(&self, role: &str) -> Value {
        self.link_as(role, &format!("{role}.drover"))
    }

    /// As `link`, with another name in the certificate.
    pub fn link_as(&self, role: &str, name: &str) -> Value {
        self.link_until(role, name, 4096)
    }

    /// As `link_as`, with a certificate that ends with a year.
    pub fn link_until(&self, role: &str, name: &str, year: i32) -> Value {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_after = date_time_ymd(year, 12, 31);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        json!({
            "role": role,
            "certificate": certificate.pem(),
            "key": key.serialize_pem(),
            "authority": self.issuer.pem(),
        })
    }
}
