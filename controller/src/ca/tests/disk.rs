//! Files: the first start, the next ones, crashes, rotation, plugged-in authorities, tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_identity::issue::{Authority, NewRootOptions};
use ambit_identity::{CertificateRequest, SystemClock};

use super::{DAY, SetClock, open, web};
use crate::ca::files::{CA_CERT, CA_KEY, CERT_CHAIN, NEXT, ROOT_CERT, TOKEN_KEY};
use crate::ca::{AuthorityConfig, CertificateAuthority, NodeTokens, TokenError};

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn roots(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

fn csr() -> String {
    CertificateRequest::new(&web()).unwrap().pem().to_owned()
}

/// The root that signs now, by what it signs.
fn signer(authority: &CertificateAuthority) -> String {
    let (issued, _) = authority.sign(&web(), &csr(), DAY).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
    leaf.issuer().to_string()
}

#[test]
fn the_first_start_makes_a_root_and_the_next_ones_keep_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let clock = SetClock::new();
    let first = open(&data, &clock);
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(data.join(CA_KEY)), 0o600);
    assert_eq!(roots(&first.roots_pem()), 1);
    let name = signer(&first);
    assert!(name.contains("O=cluster.local"), "{name}");
    let second = open(&data, &clock);
    assert_eq!(second.roots_pem(), first.roots_pem());
    assert_eq!(signer(&second), name);
}

#[test]
fn two_first_starts_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::new();
    let all: Vec<String> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| open(dir.path(), &clock).roots_pem()))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    assert!(all.iter().all(|roots| *roots == all[0]));
}

#[test]
fn a_crash_before_the_first_certificate_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CA_KEY), "half a ke").unwrap();
    let authority = open(dir.path(), &SetClock::new());
    assert_eq!(roots(&authority.roots_pem()), 1);
    assert_eq!(mode(dir.path().join(CA_KEY)), 0o600);
}

#[test]
fn a_damaged_authority_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::new();
    drop(open(dir.path(), &clock));
    let config = || AuthorityConfig::new(dir.path());
    fs::write(dir.path().join(CA_KEY), "junk").unwrap();
    let error = CertificateAuthority::open(config(), Arc::clone(&clock) as _).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("ca-key.pem"), "{source}");
    fs::remove_file(dir.path().join(CA_KEY)).unwrap();
    let error = CertificateAuthority::open(config(), clock)
        .unwrap_err()
        .to_string();
    assert!(error.contains("ca-key.pem"), "{error}");
}

#[test]
fn a_root_is_replaced_with_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::new();
    let authority = open(dir.path(), &clock);
    let old = signer(&authority);
    clock.advance(79 * DAY);
    assert_eq!(authority.maintain_once().unwrap(), Default::default());

    clock.advance(2 * DAY);
    let step = authority.maintain_once().unwrap();
    assert!(
        step.staged && step.roots_changed && !step.activated,
        "{step:?}"
    );
    assert_eq!(roots(&authority.roots_pem()), 2);
    assert_eq!(authority.tls().trust().roots().certificates().len(), 2);
    assert_eq!(signer(&authority), old, "trusted first, signing later");
    assert_eq!(mode(dir.path().join(NEXT).join(CA_KEY)), 0o600);
    assert_eq!(authority.maintain_once().unwrap(), Default::default());

    clock.advance(2 * DAY);
    let step = authority.maintain_once().unwrap();
    assert!(step.activated && !step.roots_changed, "{step:?}");
    assert_ne!(signer(&authority), old);
    assert_eq!(
        roots(&authority.roots_pem()),
        2,
        "certificates of the old one are still in use"
    );
    assert_eq!(signer(&open(dir.path(), &clock)), signer(&authority));

    clock.advance(20 * DAY);
    let step = authority.maintain_once().unwrap();
    assert!(step.roots_changed && !step.staged, "{step:?}");
    assert_eq!(roots(&authority.roots_pem()), 1);
}

#[test]
fn a_crash_in_the_middle_of_a_replacement_is_finished_or_undone() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::new();
    let authority = open(dir.path(), &clock);
    let old = signer(&authority);
    clock.advance(81 * DAY);
    authority.maintain_once().unwrap();
    let next = dir.path().join(NEXT);

    // The key was moved, its certificate was not.
    fs::rename(next.join(CA_KEY), dir.path().join(CA_KEY)).unwrap();
    let after = open(dir.path(), &clock);
    assert_ne!(signer(&after), old);
    assert_eq!(roots(&after.roots_pem()), 2);
    assert!(!next.join(CA_CERT).exists());

    // The key was made, its certificate was not.
    fs::write(next.join(CA_KEY), "half a ke").unwrap();
    let again = open(dir.path(), &clock);
    assert_eq!(signer(&again), signer(&after));
    assert!(!next.join(CA_KEY).exists());
}

/// Writes an authority below a root, as a `cacerts` secret holds it.
fn plug_in(dir: &Path, now: SystemTime) -> Authority {
    let options = NewRootOptions {
        trust_domain: "corp",
        lifetime: 1000 * DAY,
        now,
    };
    let root = Authority::ephemeral(options).unwrap();
    let (sub, key) = root.intermediate_pem("sub", 100 * DAY, now).unwrap();
    fs::write(dir.join(CA_CERT), &sub).unwrap();
    fs::write(dir.join(CA_KEY), &key).unwrap();
    fs::write(dir.join(CERT_CHAIN), format!("{sub}{}", root.roots_pem())).unwrap();
    fs::write(dir.join(ROOT_CERT), root.roots_pem()).unwrap();
    root
}

#[test]
fn a_plugged_in_authority_signs_with_its_chain_and_is_exchanged_in_place() {
    let (data, plugged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = SetClock::new();
    let root = plug_in(plugged.path(), SystemTime::now());
    let config = AuthorityConfig {
        plugged_in: Some(plugged.path().to_owned()),
        ..AuthorityConfig::new(data.path())
    };
    let authority = CertificateAuthority::open(config, Arc::clone(&clock) as _).unwrap();
    let (issued, response) = authority.sign(&web(), &csr(), DAY).unwrap();
    assert_eq!(issued.chain.len(), 2, "leaf and intermediate, not the root");
    assert_eq!(response.len(), 3);
    assert_eq!(response[2], root.roots_pem());
    assert!(!data.path().join(CA_CERT).exists());

    // Unusable files leave it as it was.
    fs::write(plugged.path().join(ROOT_CERT), "").unwrap();
    authority.maintain_once().unwrap_err();
    authority.sign(&web(), &csr(), DAY).unwrap();
    let new_root = plug_in(plugged.path(), SystemTime::now());
    assert!(authority.maintain_once().unwrap().roots_changed);
    assert_eq!(authority.roots_pem(), new_root.roots_pem());
}

#[test]
fn a_token_names_its_node_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::new();
    let tokens = NodeTokens::open(dir.path(), Arc::clone(&clock) as _).unwrap();
    assert_eq!(mode(dir.path().join(TOKEN_KEY)), 0o600);
    let token = tokens.issue("node-1.example", DAY).unwrap();
    assert_eq!(tokens.verify(&token).unwrap().as_str(), "node-1.example");
    // Another process on the same directory.
    let other = NodeTokens::open(dir.path(), Arc::clone(&clock) as _).unwrap();
    assert_eq!(other.verify(&token).unwrap().as_str(), "node-1.example");
    assert_ne!(other.issue("node-1.example", DAY).unwrap(), token);
    clock.advance(DAY + Duration::from_secs(30));
    tokens.verify(&token).unwrap();
    clock.advance(Duration::from_secs(60));
    let error = tokens.verify(&token).unwrap_err();
    assert!(matches!(error, TokenError::Expired { .. }), "{error}");
}

#[test]
fn forged_tokens_are_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tokens = NodeTokens::open(dir.path(), Arc::new(SystemClock)).unwrap();
    let foreign = NodeTokens::open(other.path(), Arc::new(SystemClock)).unwrap();
    let good = tokens.issue("n1", DAY).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none","typ":"JWT"} without padding
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    // {"alg":"HS256","typ":"JWT"}: the public key taken for a secret
    let hmac = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    let second = tokens.issue("n2", DAY).unwrap();
    let payload_of_another = second.split('.').nth(1).unwrap();
    for token in [
        String::new(),
        "x".into(),
        "x".repeat(100_000),
        foreign.issue("n1", DAY).unwrap(),
        format!("{none}.{}.", parts[1]),
        format!("{hmac}.{}.{}", parts[1], parts[2]),
        format!("{}.{payload_of_another}.{}", parts[0], parts[2]),
    ] {
        let error = tokens.verify(&token).unwrap_err();
        assert!(matches!(error, TokenError::Invalid(_)), "{token}: {error}");
    }
}

#[test]
fn only_node_names_get_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = NodeTokens::open(dir.path(), Arc::new(SystemClock)).unwrap();
    for name in ["", "A", "a/b", "-a", "a.", "a b", &"a".repeat(254)] {
        let error = tokens.issue(name, DAY).unwrap_err();
        assert!(matches!(error, TokenError::NodeName(_)), "{name}: {error}");
    }
}
