//! Handshakes between two nodes, in memory.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_identity::issue::{Authority, NewRootOptions};
use ambit_identity::{
    CertificateRequest, Clock, Compliance, ExpectedPeers, PeerError, RevocationLists, Roots,
    Signed, Tls, TlsSettings, WorkloadCertificate, peer_identity, placeholder_server_name,
};
use ambit_model::{Identity, TrustDomain};
use common::{DAY, authority, certificate, db, id, tls, tls_at, web};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, NamedGroup, ProtocolVersion,
    ServerConfig, ServerConnection,
};
use rustls_pki_types::pem::PemObject;

struct Pair {
    client: ClientConnection,
    server: ServerConnection,
}

/// Which side refused.
#[derive(Debug)]
enum Refused {
    ByClient(rustls::Error),
    ByServer(rustls::Error),
}

impl Refused {
    fn peer_error(&self) -> PeerError {
        let (Self::ByClient(error) | Self::ByServer(error)) = self;
        PeerError::find(error).unwrap_or_else(|| panic!("{self:?} says nothing about the peer"))
    }
}

fn transfer(from: &mut Connection, to: &mut Connection) -> Result<bool, rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let moved = !bytes.is_empty();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(moved)
}

fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<Pair, Refused> {
    let client = ClientConnection::new(client, placeholder_server_name()).unwrap();
    let mut client = Connection::Client(client);
    let mut server = Connection::Server(ServerConnection::new(server).unwrap());
    for _ in 0..10 {
        let there = transfer(&mut client, &mut server).map_err(Refused::ByServer)?;
        let back = transfer(&mut server, &mut client).map_err(Refused::ByClient)?;
        if !there && !back {
            break;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    match (client, server) {
        (Connection::Client(client), Connection::Server(server)) => Ok(Pair { client, server }),
        _ => unreachable!(),
    }
}

fn connect(
    client: &WorkloadCertificate,
    server: &WorkloadCertificate,
    expected: &Identity,
) -> Result<Pair, Refused> {
    let expected = ExpectedPeers::identity(expected);
    handshake(client.client_config(&expected), server.server_config())
}

/// Two certificates on one node with these settings.
fn two(settings: &TlsSettings) -> (WorkloadCertificate, WorkloadCertificate) {
    let ca = authority(SystemTime::now());
    let tls = tls(&ca, settings);
    (
        certificate(&ca, &web(), &tls),
        certificate(&ca, &db(), &tls),
    )
}

#[test]
fn both_sides_know_each_other_over_post_quantum_tls_1_3() {
    let (client, server) = two(&TlsSettings::default());
    let pair = connect(&client, &server, &db()).unwrap();
    assert_eq!(
        peer_identity(pair.client.peer_certificates().unwrap()).unwrap(),
        db()
    );
    assert_eq!(
        peer_identity(pair.server.peer_certificates().unwrap()).unwrap(),
        web()
    );
    assert_eq!(
        pair.client.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    assert_eq!(pair.client.alpn_protocol(), Some(&b"h2"[..]));
    let group = pair.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let suite = pair.client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(pair.server.server_name(), None);
}

#[test]
fn sessions_are_not_resumed() {
    let (client, server) = two(&TlsSettings::default());
    let expected = ExpectedPeers::identity(&db());
    let (client, server) = (client.client_config(&expected), server.server_config());
    for _ in 0..2 {
        let pair = handshake(Arc::clone(&client), Arc::clone(&server)).unwrap();
        assert_eq!(
            pair.client.handshake_kind(),
            Some(rustls::HandshakeKind::Full)
        );
        assert_eq!(pair.client.tls13_tickets_received(), 0);
    }
}

#[test]
fn another_identity_than_expected_is_an_error_of_its_own() {
    let (client, server) = two(&TlsSettings::default());
    let refused = connect(
        &client,
        &server,
        &id("spiffe://cluster.local/ns/shop/sa/other"),
    );
    let Err(refused @ Refused::ByClient(_)) = refused else {
        panic!("not refused by the client")
    };
    let wanted = PeerError::WrongIdentity {
        presented: db().to_string(),
        expected: "spiffe://cluster.local/ns/shop/sa/other".into(),
    };
    assert_eq!(refused.peer_error(), wanted);
}

#[test]
fn any_of_several_expected_names_will_do_and_none_will_not() {
    let (client, server) = two(&TlsSettings::default());
    let name = db().to_string();
    let several = ExpectedPeers::new([&web()], [name.as_str()]);
    handshake(client.client_config(&several), server.server_config()).unwrap();
    let nobody = ExpectedPeers::new([], []);
    let refused = handshake(client.client_config(&nobody), server.server_config())
        .err()
        .unwrap();
    assert!(matches!(
        refused.peer_error(),
        PeerError::WrongIdentity { .. }
    ));
    // A prefix or another spelling is not the name.
    let near = ExpectedPeers::new([], ["spiffe://cluster.local/ns/shop/sa/d", "DB"]);
    assert!(handshake(client.client_config(&near), server.server_config()).is_err());
}

#[test]
fn a_foreign_trust_domain_is_refused_unless_it_is_an_alias() {
    let ca = authority(SystemTime::now());
    let foreign = id("spiffe://other.example/ns/shop/sa/web");
    let own = tls(&ca, &TlsSettings::default());
    let client = certificate(&ca, &foreign, &own);
    let refused = connect(&client, &certificate(&ca, &db(), &own), &db())
        .err()
        .unwrap();
    assert!(matches!(refused, Refused::ByServer(_)));
    assert!(
        matches!(refused.peer_error(), PeerError::ForeignTrustDomain { .. }),
        "{refused:?}"
    );

    let settings = TlsSettings {
        trust_domain_aliases: vec![TrustDomain::from("other.example")],
        ..TlsSettings::default()
    };
    let aliased = tls(&ca, &settings);
    connect(&client, &certificate(&ca, &db(), &aliased), &db()).unwrap();
}

#[test]
fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (authority(SystemTime::now()), authority(SystemTime::now()));
    let settings = TlsSettings::default();
    let good = certificate(&ours, &web(), &tls(&ours, &settings));
    let forged = certificate(&theirs, &db(), &tls(&theirs, &settings));
    let refused = connect(&good, &forged, &db()).err().unwrap();
    assert!(matches!(refused, Refused::ByClient(_)));
    assert!(
        matches!(refused.peer_error(), PeerError::Untrusted(_)),
        "{refused:?}"
    );

    // The forger trusts everybody, so that it is the server that has to refuse.
    let lenient = tls(&theirs, &settings);
    let both = [ours.roots(), theirs.roots()].concat();
    let forger = certificate(&theirs, &web(), &lenient);
    lenient.trust().set_roots(Roots::from_der(both).unwrap());
    let refused = connect(&forger, &good, &web()).err().unwrap();
    assert!(matches!(refused, Refused::ByServer(_)), "{refused:?}");
    assert!(
        matches!(refused.peer_error(), PeerError::Untrusted(_)),
        "{refused:?}"
    );
}

#[test]
fn a_client_without_certificate_is_refused() {
    let ca = authority(SystemTime::now());
    let tls = tls(&ca, &TlsSettings::default());
    let server = certificate(&ca, &db(), &tls);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.roots()[0].clone()).unwrap();
    let mut anonymous = ClientConfig::builder_with_provider(Arc::clone(tls.provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth();
    anonymous.alpn_protocols = vec![b"h2".to_vec()];
    let refused = handshake(Arc::new(anonymous), server.server_config())
        .err()
        .unwrap();
    assert!(matches!(refused, Refused::ByServer(_)));
    assert_eq!(refused.peer_error(), PeerError::NoCertificate);
}

/// A clock that can be set.
#[derive(Debug)]
struct Set(parking_lot::Mutex<SystemTime>);

impl Clock for Set {
    fn now(&self) -> SystemTime {
        *self.0.lock()
    }
}

#[test]
fn expired_and_not_yet_valid_peers_are_told_apart() {
    let now = SystemTime::now();
    let ca = authority(now - 100 * DAY);
    let clock = Arc::new(Set(parking_lot::Mutex::new(now)));
    let settings = TlsSettings::default();
    let (client_tls, server_tls) = (
        tls_at(&ca, &settings, Arc::clone(&clock) as _),
        tls(&ca, &settings),
    );
    let client = certificate(&ca, &web(), &client_tls);
    let server = certificate(&ca, &db(), &server_tls);
    connect(&client, &server, &db()).unwrap();

    *clock.0.lock() = now + 2 * DAY;
    let refused = connect(&client, &server, &db()).err().unwrap();
    assert!(
        matches!(refused.peer_error(), PeerError::Expired { .. }),
        "{refused:?}"
    );
    *clock.0.lock() = now - DAY;
    let refused = connect(&client, &server, &db()).err().unwrap();
    assert!(
        matches!(refused.peer_error(), PeerError::NotYetValid { .. }),
        "{refused:?}"
    );
}

#[test]
fn a_node_whose_clock_is_a_minute_behind_is_served() {
    let now = SystemTime::now();
    let ca = authority(now - DAY);
    let settings = TlsSettings::default();
    let behind = Arc::new(Set(parking_lot::Mutex::new(now - Duration::from_secs(60))));
    let client = certificate(&ca, &web(), &tls_at(&ca, &settings, behind));
    let server = certificate(&ca, &db(), &tls(&ca, &settings));
    connect(&client, &server, &db()).unwrap();
}

#[test]
fn roots_are_replaced_under_certificates_in_use() {
    let (old, new) = (authority(SystemTime::now()), authority(SystemTime::now()));
    let settings = TlsSettings::default();
    let (a, b) = (tls(&old, &settings), tls(&old, &settings));
    let client = certificate(&old, &web(), &a);
    let server = certificate(&old, &db(), &b);
    let open = connect(&client, &server, &db()).unwrap();

    let both = [old.roots(), new.roots()].concat();
    assert!(a.trust().set_roots(Roots::from_der(both.clone()).unwrap()));
    assert!(b.trust().set_roots(Roots::from_der(both.clone()).unwrap()));
    assert!(
        !b.trust().set_roots(Roots::from_der(both).unwrap()),
        "the same again is no change"
    );
    // One side has renewed, the other not yet: both directions work.
    let renewed = certificate(&new, &db(), &tls(&new, &settings));
    connect(&client, &renewed_on(&new, &b), &db()).unwrap();
    connect(&renewed_on(&new, &b), &client, &web()).unwrap();
    drop(renewed);

    // The old root is withdrawn: new connections fail, the open one goes on.
    a.trust()
        .set_roots(Roots::from_der(new.roots().to_vec()).unwrap());
    assert!(connect(&client, &server, &db()).is_err());
    exchange(open);
}

/// A certificate for `db` of a new authority, on a node that trusts both.
fn renewed_on(authority: &Authority, tls: &Arc<Tls>) -> WorkloadCertificate {
    let request = CertificateRequest::new(&db()).unwrap();
    let issued = authority
        .sign(&db(), request.pem(), DAY, SystemTime::now())
        .unwrap();
    let signed = Signed {
        chain: issued.chain,
        roots: authority.roots().to_vec(),
    };
    WorkloadCertificate::accept(&db(), request, signed, tls)
        .unwrap()
        .0
}

fn exchange(pair: Pair) {
    use std::io::{Read, Write};
    let (mut client, mut server) = (pair.client, pair.server);
    client.writer().write_all(b"still here").unwrap();
    let (mut client, mut server_side) = (Connection::Client(client), {
        server.writer().write_all(b"here too").unwrap();
        Connection::Server(server)
    });
    transfer(&mut client, &mut server_side).unwrap();
    let mut got = [0; 10];
    server_side.reader().read_exact(&mut got).unwrap();
    assert_eq!(&got, b"still here");
}

#[test]
fn a_chain_through_an_intermediate_is_verified() {
    let root = authority(SystemTime::now());
    let sub = root
        .intermediate("sub", 30 * DAY, SystemTime::now())
        .unwrap();
    let settings = TlsSettings::default();
    let node = tls(&root, &settings);
    let client = certificate(&sub, &web(), &node);
    assert_eq!(client.chain().len(), 2);
    connect(&client, &certificate(&root, &db(), &node), &db()).unwrap();
}

fn crl(authority_key: &rcgen::Issuer<'_, rcgen::KeyPair>, serials: &[&str]) -> RevocationLists {
    let now = time::OffsetDateTime::now_utc();
    let params = rcgen::CertificateRevocationListParams {
        this_update: now,
        next_update: now + time::Duration::days(1),
        crl_number: rcgen::SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: serials
            .iter()
            .map(|serial| rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from_slice(
                    &serial.parse::<u128>().unwrap().to_be_bytes(),
                ),
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let pem = params.signed_by(authority_key).unwrap().pem().unwrap();
    RevocationLists::from_pem(pem.as_bytes()).unwrap()
}

/// An authority whose key the test also has.
fn open_authority() -> (Authority, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let options = NewRootOptions {
        trust_domain: "cluster.local",
        lifetime: 30 * DAY,
        now: SystemTime::now(),
    };
    let root = ambit_identity::issue::new_root(options).unwrap();
    let pem = ambit_identity::issue::AuthorityPem {
        ca_cert: &root.cert_pem,
        ca_key: &root.key_pem,
        cert_chain: "",
        root_cert: &root.cert_pem,
    };
    let key = rcgen::KeyPair::from_pem(&root.key_pem).unwrap();
    let certificate =
        rustls_pki_types::CertificateDer::from_pem_slice(root.cert_pem.as_bytes()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&certificate, key).unwrap();
    (Authority::from_pem(pem, SystemTime::now()).unwrap(), issuer)
}

#[test]
fn revoked_certificates_are_refused_in_both_directions_and_found_on_open_connections() {
    let (ca, issuer) = open_authority();
    let settings = TlsSettings::default();
    let (a, b) = (tls(&ca, &settings), tls(&ca, &settings));
    let client = certificate(&ca, &web(), &a);
    let server = certificate(&ca, &db(), &b);
    let open = connect(&client, &server, &db()).unwrap();
    let seen = open.server.peer_certificates().unwrap();
    assert!(!b.trust().revoked(seen));

    b.trust().set_revocations(crl(&issuer, &[client.serial()]));
    assert!(b.trust().revoked(seen));
    let refused = connect(&client, &server, &db()).err().unwrap();
    assert!(matches!(refused, Refused::ByServer(_)));
    assert_eq!(refused.peer_error(), PeerError::Revoked);
    // Another certificate of the same identity is not concerned.
    connect(&certificate(&ca, &web(), &a), &server, &db()).unwrap();

    b.trust().set_revocations(crl(&issuer, &["1"]));
    a.trust().set_revocations(crl(&issuer, &[server.serial()]));
    let refused = connect(&client, &server, &db()).err().unwrap();
    assert!(matches!(refused, Refused::ByClient(_)));
    assert_eq!(refused.peer_error(), PeerError::Revoked);
}

#[test]
fn a_list_that_the_issuer_did_not_sign_revokes_nothing() {
    let (ca, _) = open_authority();
    let settings = TlsSettings::default();
    let node = tls(&ca, &settings);
    let client = certificate(&ca, &web(), &node);
    let server = certificate(&ca, &db(), &node);
    // The same name, another key.
    let key = rcgen::KeyPair::generate().unwrap();
    let forger = rcgen::Issuer::from_ca_cert_der(&ca.roots()[0], key).unwrap();
    node.trust()
        .set_revocations(crl(&forger, &[client.serial()]));
    connect(&client, &server, &db()).unwrap();
}

#[test]
fn tls_1_2_is_spoken_only_where_it_is_allowed() {
    let old = |settings: &TlsSettings| {
        let ca = authority(SystemTime::now());
        let node = tls(&ca, settings);
        let server = certificate(&ca, &db(), &node).server_config();
        let client = certificate(&ca, &web(), &node);
        let base = client.client_config(&ExpectedPeers::identity(&db()));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(base.crypto_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible))
            .with_client_cert_resolver(Arc::clone(&base.client_auth_cert_resolver));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let pair = handshake(Arc::new(config), server).map_err(|refused| match refused {
            Refused::ByClient(error) | Refused::ByServer(error) => error,
        })?;
        Ok::<_, rustls::Error>(pair.client.protocol_version())
    };
    let allowed = TlsSettings {
        tls12: true,
        ..TlsSettings::default()
    };
    assert_eq!(old(&allowed).unwrap(), Some(ProtocolVersion::TLSv1_2));
    assert!(old(&TlsSettings::default()).is_err());
    let pqc = TlsSettings {
        compliance: Compliance::Pqc,
        ..allowed
    };
    assert!(old(&pqc).is_err());
}

#[test]
fn the_post_quantum_policy_refuses_classical_peers() {
    let ca = authority(SystemTime::now());
    let pqc = TlsSettings {
        compliance: Compliance::Pqc,
        ..TlsSettings::default()
    };
    let server = certificate(&ca, &db(), &tls(&ca, &pqc));
    let client = certificate(&ca, &web(), &tls(&ca, &TlsSettings::default()));
    let pair = connect(&client, &server, &db()).unwrap();
    let suite = pair.client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384);

    let base = client.client_config(&ExpectedPeers::identity(&db()));
    let mut provider = (**base.crypto_provider()).clone();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut classical = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_client_cert_resolver(Arc::clone(&base.client_auth_cert_resolver));
    classical.alpn_protocols = vec![b"h2".to_vec()];
    let classical = Arc::new(classical);
    assert!(handshake(Arc::clone(&classical), server.server_config()).is_err());
    // Without the policy the same client is served.
    let open = certificate(&ca, &db(), &tls(&ca, &TlsSettings::default()));
    let pair = handshake(classical, open.server_config()).unwrap();
    let group = pair.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519);
}

/// Believes every server.
#[derive(Debug)]
struct Gullible;

impl rustls::client::danger::ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &rustls_pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &rustls_pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &rustls_pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
