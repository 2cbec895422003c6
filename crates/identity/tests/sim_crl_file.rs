//! A revocation file that changes under the agent.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::time::Duration;

use ambit_identity::{CrlFile, CrlPoll};

fn list(number: u8) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(params, key);
    let now = time::OffsetDateTime::now_utc();
    rcgen::CertificateRevocationListParams {
        this_update: now,
        next_update: now + time::Duration::days(1),
        crl_number: rcgen::SerialNumber::from_slice(&[number]),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    }
    .signed_by(&issuer)
    .unwrap()
    .pem()
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_change_is_read_when_it_is_at_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca-crl.pem");
    let mut file = CrlFile::new(&path);
    assert!(
        matches!(file.poll(), CrlPoll::Refused(_)),
        "its absence is told once"
    );
    assert!(matches!(file.poll(), CrlPoll::Unchanged));
    std::fs::write(&path, list(1)).unwrap();
    assert!(
        matches!(file.poll(), CrlPoll::Loaded(_)),
        "the first content counts at once"
    );
    assert!(matches!(file.poll(), CrlPoll::Unchanged));

    std::fs::write(&path, [list(2), list(3)].concat()).unwrap();
    assert!(matches!(file.poll(), CrlPoll::Unchanged));
    tokio::time::advance(Duration::from_secs(1)).await;
    std::fs::write(&path, [list(4), list(5), list(6)].concat()).unwrap();
    assert!(matches!(file.poll(), CrlPoll::Unchanged));
    tokio::time::advance(Duration::from_millis(1900)).await;
    assert!(
        matches!(file.poll(), CrlPoll::Unchanged),
        "changed less than two seconds ago"
    );
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(matches!(file.poll(), CrlPoll::Loaded(_)));
    assert!(matches!(file.poll(), CrlPoll::Unchanged));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_is_refused_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca-crl.pem");
    std::fs::write(&path, list(1)).unwrap();
    let mut file = CrlFile::new(&path);
    assert!(matches!(file.poll(), CrlPoll::Loaded(_)));
    for content in [
        "",
        "no list",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    ] {
        std::fs::write(&path, content).unwrap();
        assert!(matches!(file.poll(), CrlPoll::Unchanged));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(matches!(file.poll(), CrlPoll::Refused(_)), "{content:?}");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(matches!(file.poll(), CrlPoll::Unchanged), "{content:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(file.poll(), CrlPoll::Unchanged));
}
