//! A fresh key and the request for a certificate on it.

use ambit_model::Identity;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::PrivateKeyDer;

use crate::error::CaError;

/// A new ECDSA P-256 key and its signing request: empty subject, one critical URI name. The key
/// never leaves the process.
pub struct CertificateRequest {
    pem: String,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateRequest").finish_non_exhaustive()
    }
}

impl CertificateRequest {
    /// Makes the key and the request.
    pub fn new(identity: &Identity) -> Result<Self, CaError> {
        make(identity).map_err(|error| CaError::LocalRequest {
            identity: identity.clone(),
            reason: error.to_string(),
        })
    }

    /// The request as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Gives up the key.
    #[must_use]
    pub fn into_key(self) -> PrivateKeyDer<'static> {
        self.key
    }
}

fn make(identity: &Identity) -> Result<CertificateRequest, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // With an empty subject the name extension is critical (RFC 5280 §4.2.1.6).
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    let pem = params.serialize_request(&key)?.pem()?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(CertificateRequest { pem, key })
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn the_request_has_an_empty_subject_and_one_critical_uri() {
        let id: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let request = CertificateRequest::new(&id).unwrap();
        let (_, pem) = parse_x509_pem(request.pem().as_bytes()).unwrap();
        assert_eq!(pem.label, "CERTIFICATE REQUEST");
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        csr.verify_signature().unwrap();
        assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
        let attribute = csr
            .certification_request_info
            .iter_attributes()
            .next()
            .unwrap();
        let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else {
            panic!("no extension request")
        };
        assert_eq!(request.extensions.len(), 1);
        let extension = &request.extensions[0];
        assert!(extension.critical);
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            panic!("not a name extension")
        };
        let wanted = GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(names.general_names, vec![wanted]);
    }

    #[test]
    fn an_identity_that_is_not_ascii_is_an_error() {
        let id: Identity = "spiffe://cluster.local/ns/sh\u{f6}p/sa/web"
            .parse()
            .unwrap();
        let error = CertificateRequest::new(&id).unwrap_err();
        assert!(matches!(error, CaError::LocalRequest { .. }), "{error}");
    }
}
