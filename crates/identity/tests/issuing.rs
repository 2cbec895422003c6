//! What an authority signs and what it refuses.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod common;

use std::time::{Duration, SystemTime};

use ambit_identity::issue::{
    Authority, AuthorityPem, BACKDATE, IssueError, NewRootOptions, new_root,
};
use ambit_identity::{CertificateRequest, uri_names};
use common::{DAY, authority, db, web};
use x509_parser::prelude::*;

fn csr() -> String {
    CertificateRequest::new(&web()).unwrap().pem().to_owned()
}

/// A request with any names.
fn csr_for(names: Vec<rcgen::SanType>) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = names;
    let key = rcgen::KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn uri(name: &str) -> rcgen::SanType {
    rcgen::SanType::URI(name.try_into().unwrap())
}

#[test]
fn a_workload_certificate_is_for_one_identity_and_both_directions() {
    let now = SystemTime::now();
    let ca = authority(now);
    let issued = ca.sign(&web(), &csr(), DAY, now).unwrap();
    assert_eq!(uri_names(&issued.chain[0]).unwrap(), [web().to_string()]);
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(leaf.subject_alternative_name().unwrap().unwrap().critical);
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature());
    let seconds = |time: SystemTime| {
        i64::try_from(
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        )
        .unwrap()
    };
    assert_eq!(
        leaf.validity().not_before.timestamp(),
        seconds(now - BACKDATE)
    );
    assert_eq!(leaf.validity().not_after.timestamp(), seconds(now + DAY));
    let another = ca.sign(&web(), &csr(), DAY, now).unwrap();
    assert_ne!(another.serial, issued.serial);
    let response = issued.response(&ca);
    assert_eq!(response.len(), 2);
    assert_eq!(response[1], ca.roots_pem());
}

#[test]
fn requests_for_anybody_else_are_refused() {
    let ca = authority(SystemTime::now());
    let own = uri(&web().to_string());
    let dns = rcgen::SanType::DnsName("kubernetes.default".try_into().unwrap());
    for names in [
        vec![],
        vec![uri(&db().to_string())],
        vec![own.clone(), uri(&db().to_string())],
        vec![own.clone(), dns],
        vec![own.clone(), own],
    ] {
        let error = ca
            .sign(&web(), &csr_for(names.clone()), DAY, SystemTime::now())
            .unwrap_err();
        assert!(
            matches!(error, IssueError::WrongIdentity { .. }),
            "{names:?}: {error}"
        );
    }
}

#[test]
fn a_request_that_its_key_did_not_sign_is_refused() {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let pem = csr();
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let mut der = engine.decode(body).unwrap();
    // The last byte belongs to the signature.
    *der.last_mut().unwrap() ^= 1;
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        engine.encode(&der)
    );
    let ca = authority(SystemTime::now());
    for request in [forged.as_str(), "", "garbage", &"x".repeat(20_000)] {
        let error = ca
            .sign(&web(), request, DAY, SystemTime::now())
            .unwrap_err();
        assert!(matches!(error, IssueError::BadRequest(_)), "{error}");
    }
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let now = SystemTime::now();
    let options = NewRootOptions {
        trust_domain: "td",
        lifetime: Duration::from_secs(3600),
        now,
    };
    let ca = Authority::ephemeral(options).unwrap();
    let issued = ca.sign(&web(), &csr(), DAY, now).unwrap();
    assert!(issued.not_after <= now + Duration::from_secs(3600));
    let late = now + Duration::from_secs(3601);
    let error = ca.sign(&web(), &csr(), DAY, late).unwrap_err();
    assert!(matches!(error, IssueError::AuthorityExpired(_)), "{error}");
}

#[test]
fn plugged_in_files_must_fit_together() {
    let now = SystemTime::now();
    let make = || {
        new_root(NewRootOptions {
            trust_domain: "td",
            lifetime: DAY,
            now,
        })
        .unwrap()
    };
    let (one, two) = (make(), make());
    let leaf = {
        let ca = authority(now);
        ca.serving(&["name".into()], &[], DAY, now).unwrap()
    };
    let (leaf_cert, leaf_key) = (leaf.chain_pem(), leaf.key_pem());
    let good = AuthorityPem {
        ca_cert: &one.cert_pem,
        ca_key: &one.key_pem,
        cert_chain: "",
        root_cert: &one.cert_pem,
    };
    Authority::from_pem(good, now).unwrap();
    let both = format!("{}{}", one.cert_pem, two.cert_pem);
    let rotated = Authority::from_pem(
        AuthorityPem {
            root_cert: &both,
            ..good
        },
        now,
    )
    .unwrap();
    assert_eq!(rotated.roots().len(), 2);
    let cases = [
        (
            AuthorityPem {
                ca_key: &two.key_pem,
                ..good
            },
            "is not the key of",
        ),
        (
            AuthorityPem {
                root_cert: &two.cert_pem,
                ..good
            },
            "does not lead",
        ),
        (
            AuthorityPem {
                root_cert: "",
                ..good
            },
            "root-cert.pem",
        ),
        (
            AuthorityPem {
                ca_cert: "",
                ..good
            },
            "ca-cert.pem",
        ),
        (
            AuthorityPem {
                ca_cert: &both,
                ..good
            },
            "more than one",
        ),
        (
            AuthorityPem {
                ca_key: "junk",
                ..good
            },
            "ca-key.pem",
        ),
        (
            AuthorityPem {
                ca_cert: &leaf_cert,
                ca_key: &leaf_key,
                ..good
            },
            "not a certificate of an authority",
        ),
    ];
    for (pem, text) in cases {
        let error = Authority::from_pem(pem, now).unwrap_err().to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
    let error = Authority::from_pem(good, now + 2 * DAY)
        .unwrap_err()
        .to_string();
    assert!(error.contains("valid from"), "{error}");
}

#[test]
fn an_intermediate_signs_with_its_chain() {
    let now = SystemTime::now();
    let root = authority(now);
    let sub = root.intermediate("sub", 10 * DAY, now).unwrap();
    let issued = sub.sign(&web(), &csr(), DAY, now).unwrap();
    assert_eq!(issued.chain.len(), 2);
    let response = issued.response(&sub);
    assert_eq!(response.len(), 3);
    assert!(
        response
            .iter()
            .all(|pem| pem.matches("BEGIN CERTIFICATE").count() == 1)
    );
}
