//! The record layer against rustls' own: key updates from either side, the closing alert, broken
//! records, and who is let in at all.

use std::io::ErrorKind;
use std::sync::Arc;

use ambit_hbone::frame::kind;
use ambit_hbone::tls::{accept, connect};
use ambit_hbone::{Error, Settings};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::spawn_local;

use crate::support::wire::Wire;
use crate::support::{TIMEOUT, accept_tls, connect_tls, name, pki, sim};

#[test]
fn key_updates_of_the_peer_are_followed() {
    sim(async {
        let (mut wire, server) = Wire::client(Settings::default(), drop).await;
        for _ in 0..50 {
            wire.refresh_keys();
            wire.expect_alive().await;
        }
        assert!(!server.is_finished());
        wire.connect(1).await;
        wire.expect(kind::RST_STREAM).await;
    });
}

#[test]
fn endless_key_updates_are_cut_off() {
    sim(async {
        let (mut wire, server) = Wire::client(Settings::default(), drop).await;
        for _ in 0..2000 {
            wire.refresh_keys();
            wire.frame(kind::PING, 0, 0, &[0; 8]).await;
        }
        let outcome = server.await.unwrap();
        assert!(matches!(outcome, Err(Error::PeerTls(_))), "{outcome:?}");
    });
}

#[test]
fn a_closing_alert_is_an_orderly_end() {
    sim(async {
        let (mut wire, server) = Wire::client(Settings::default(), drop).await;
        wire.close().await;
        assert_eq!(server.await.unwrap(), Ok(()));
    });
}

#[test]
fn a_tampered_record_ends_the_connection() {
    sim(async {
        let (near, far) = duplex(64 * 1024);
        let (near_out, mut tampered) = duplex(64 * 1024);
        let (mut read, mut write) = tokio::io::split(near_out);
        // A wire that flips a bit in whatever comes after the handshake.
        spawn_local(async move {
            let (mut server_read, mut server_write) = tokio::io::split(far);
            let up = async {
                let (mut buffer, mut total) = (vec![0; 4096], 0);
                loop {
                    let count = read.read(&mut buffer).await.unwrap_or(0);
                    if count == 0 {
                        break;
                    }
                    total += count;
                    if total > 6000 {
                        buffer[count - 1] ^= 1;
                    }
                    if server_write.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            };
            let down = async {
                let _end = tokio::io::copy(&mut server_read, &mut write).await;
            };
            tokio::join!(up, down);
        });
        let server = spawn_local(async move {
            let settings = Settings::default();
            let tls = accept_tls(near).await?;
            let mut connection = ambit_hbone::Connection::accept(tls, &settings).await?;
            connection.next().await.map(|_| ())
        });
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&pki().client));
        let mut tls = connector.connect(name(), &mut tampered).await.unwrap();
        tls.write_all(ambit_hbone::frame::PREFACE).await.unwrap();
        tls.write_all(&[0; 9 * 700]).await.unwrap();
        tls.flush().await.unwrap();
        let outcome = server.await.unwrap();
        assert!(
            matches!(outcome, Err(Error::PeerTls(_) | Error::PeerProtocol { .. })),
            "{outcome:?}"
        );
    });
}

#[test]
fn plaintext_and_garbage_are_named_so() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 64],
    ] {
        sim(async {
            let (mut near, far) = duplex(4096);
            near.write_all(bytes).await.unwrap();
            assert_eq!(accept_tls(far).await.err(), Some(Error::PeerPlaintext));
        });
    }
    // A message that is none; a record longer than records may be, with more behind it.
    for bytes in [
        &[22, 3, 1, 0, 8, 1, 0, 0, 4, 1, 2, 3, 4][..],
        &[22, 3, 1, 255, 255, 7, 7, 7, 7],
    ] {
        sim(async {
            let (mut near, far) = duplex(4096);
            near.write_all(bytes).await.unwrap();
            assert!(matches!(
                accept_tls(far).await.err(),
                Some(Error::PeerTls(_))
            ));
            // The peer is told why by an alert.
            let mut alert = [0; 7];
            near.read_exact(&mut alert).await.unwrap();
            assert_eq!(alert[0], 21);
        });
    }
    sim(async {
        let (near, far) = duplex(4096);
        drop(near);
        assert!(accept_tls(far).await.is_err());
    });
}

async fn handshake(server: ServerConfig, client: ClientConfig) -> (Option<Error>, Option<Error>) {
    let (near, far) = duplex(64 * 1024);
    let accepting = spawn_local(async move {
        let accepted = accept::<DuplexStream>(far, Arc::new(server), TIMEOUT).await;
        accepted.err()
    });
    let connected = connect(near, Arc::new(client), name(), TIMEOUT).await;
    // A client learns of a refused certificate only with its first read (RFC 8446 §4.4.4).
    (accepting.await.unwrap(), connected.err())
}

#[test]
fn both_sides_insist_on_h2() {
    sim(async {
        let (mut server, mut client) = ((*pki().server).clone(), (*pki().client).clone());
        client.alpn_protocols.clear();
        // The client is done first; it may be gone while the server still sends tickets.
        let gone = [
            Some(Error::PeerAlpn),
            Some(Error::Transport(ErrorKind::BrokenPipe)),
        ];
        let (accepted, connected) = handshake(server.clone(), client.clone()).await;
        assert_eq!(connected, Some(Error::PeerAlpn));
        assert!(gone.contains(&accepted), "{accepted:?}");
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (accepted, connected) = handshake(server.clone(), client).await;
        assert!(matches!(accepted, Some(Error::PeerTls(_))));
        assert!(matches!(connected, Some(Error::PeerTls(_))));
        server.alpn_protocols.clear();
        let (accepted, connected) = handshake(server, (*pki().client).clone()).await;
        assert_eq!(connected, Some(Error::PeerAlpn));
        assert!(gone.contains(&accepted), "{accepted:?}");
    });
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    sim(async {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(pki().root.clone()).unwrap();
        let mut client = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let (accepted, _) = handshake((*pki().server).clone(), client).await;
        assert!(matches!(accepted, Some(Error::PeerTls(_))), "{accepted:?}");
    });
}

#[test]
fn certificates_are_exposed_on_both_sides() {
    sim(async {
        let (near, far) = duplex(64 * 1024);
        let (accepted, connected) = tokio::join!(accept_tls(far), connect_tls(near));
        let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
        assert_eq!(accepted.peer_certificates(), [pki().leaf.clone()]);
        assert_eq!(connected.peer_certificates(), [pki().leaf.clone()]);
    });
}
