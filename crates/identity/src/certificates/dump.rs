//! Certificates as the administrator sees them. Field names are those that Istio's tools read.

use std::time::SystemTime;

use ambit_model::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::slot::{Slot, State};
use crate::clock::rfc3339;
use crate::x509;

/// An identity and its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateDump {
    /// SPIFFE id.
    pub identity: String,
    /// `Initializing`, `Available`, or `Unavailable: ` and why.
    pub state: String,
    /// Why the certificate was not renewed when it should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal_error: Option<String>,
    /// Leaf first.
    pub cert_chain: Vec<ChainElementDump>,
    /// The trusted roots.
    pub root_certs: Vec<ChainElementDump>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainElementDump {
    /// PEM, encoded in base64 once more.
    pub pem: String,
    /// Decimal.
    pub serial_number: String,
    /// RFC 3339.
    pub valid_from: String,
    /// RFC 3339.
    pub expiration_time: String,
}

/// The dates of an identity's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// Whose.
    pub identity: Identity,
    /// Beginning.
    pub not_before: SystemTime,
    /// End.
    pub not_after: SystemTime,
    /// The last renewal failed.
    pub renewal_failing: bool,
}

impl Slot {
    pub(super) fn dump(&self, roots: &[CertificateDer<'_>]) -> CertificateDump {
        let mut dump = CertificateDump {
            identity: self.identity.to_string(),
            state: "Initializing".into(),
            renewal_error: None,
            cert_chain: Vec::new(),
            root_certs: Vec::new(),
        };
        match self.state() {
            Some(State::Ready(certificate, error)) => {
                dump.state = "Available".into();
                dump.renewal_error = error.map(|error| error.to_string());
                dump.cert_chain = certificate.chain().iter().map(element).collect();
                dump.root_certs = roots.iter().map(element).collect();
            }
            Some(State::Failed(error)) => dump.state = format!("Unavailable: {error}"),
            Some(State::Pending) | None => {}
        }
        dump
    }

    pub(super) fn expiry(&self) -> Option<CertificateExpiry> {
        let Some(State::Ready(certificate, error)) = self.state() else {
            return None;
        };
        Some(CertificateExpiry {
            identity: self.identity.clone(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            renewal_failing: error.is_some(),
        })
    }
}

fn element(certificate: &CertificateDer<'_>) -> ChainElementDump {
    let facts = x509::facts(certificate);
    let date = |time: Option<SystemTime>| time.map(rfc3339).unwrap_or_default();
    let facts = facts.ok();
    ChainElementDump {
        pem: STANDARD.encode(crate::x509::pem("CERTIFICATE", certificate)),
        serial_number: facts
            .as_ref()
            .map(|facts| facts.serial.clone())
            .unwrap_or_default(),
        valid_from: date(facts.as_ref().map(|facts| facts.not_before)),
        expiration_time: date(facts.as_ref().map(|facts| facts.not_after)),
    }
}
