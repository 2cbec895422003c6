//! The pool against a scripted server.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use ambit_hbone::frame::{code, flag, kind};
use ambit_hbone::tls::TlsStream;
use ambit_hbone::{Error, OpenError, Opened, Pool, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::spawn_local;

use crate::support::wire::{Wire, setting};
use crate::support::{connect_tls, request, sim};

type Script = Box<dyn FnOnce(DuplexStream) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A server that plays one script per connection.
#[derive(Clone)]
struct Scripted {
    scripts: Rc<RefCell<VecDeque<Script>>>,
    dialled: Rc<Cell<usize>>,
}

impl Scripted {
    fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        let scripts = Rc::new(RefCell::new(scripts.into_iter().collect()));
        Self {
            scripts,
            dialled: Rc::default(),
        }
    }

    async fn dial(self) -> Result<TlsStream<DuplexStream>, Error> {
        let (near, far) = duplex(64 * 1024);
        self.dialled.set(self.dialled.get() + 1);
        let script = self
            .scripts
            .borrow_mut()
            .pop_front()
            .expect("a script for the connection");
        spawn_local(script(far));
        connect_tls(near).await
    }

    async fn open(&self, pool: &Pool<u8, Error>) -> Result<Opened, OpenError<Error>> {
        pool.open(&0, || self.clone().dial(), request("10.0.0.1:80"))
            .await
    }
}

fn script<F: Future<Output = ()> + 'static>(
    settings: &[u8],
    body: impl FnOnce(Wire) -> F + 'static,
) -> Script {
    let settings = settings.to_vec();
    Box::new(move |io| Box::pin(async move { body(Wire::server(io, &settings).await).await }))
}

/// Answers every stream with 200 and echoes nothing.
async fn obliging(mut wire: Wire) {
    while let Some((head, _)) = wire.next().await {
        match head.kind {
            kind::HEADERS => wire.answer(head.stream).await,
            kind::PING if !head.has(flag::ACK) => {
                wire.frame(kind::PING, flag::ACK, 0, b"liveness").await;
            }
            _ => {}
        }
    }
}

fn pool() -> Pool<u8, Error> {
    Pool::new(Settings::default())
}

#[test]
fn untouched_streams_are_tried_again() {
    let goaway: fn(Wire) -> _ = |mut wire: Wire| async move {
        wire.expect(kind::HEADERS).await;
        wire.frame(kind::GOAWAY, 0, 0, &[0; 8]).await;
        while wire.next().await.is_some() {}
    };
    sim(async move {
        let server = Scripted::new([script(&[], goaway), script(&[], obliging)]);
        let pool = pool();
        server.open(&pool).await.unwrap();
        assert_eq!(server.dialled.get(), 2);
    });
    sim(async {
        let refuse_once = script(&[], |mut wire: Wire| async move {
            let (head, _) = wire.expect(kind::HEADERS).await;
            let refused = code::REFUSED_STREAM.to_be_bytes();
            wire.frame(kind::RST_STREAM, 0, head.stream, &refused).await;
            while wire.next().await.is_some() {}
        });
        let server = Scripted::new([refuse_once, script(&[], obliging)]);
        let pool = pool();
        server.open(&pool).await.unwrap();
    });
}

#[test]
fn a_server_that_refuses_everything_is_given_up() {
    sim(async {
        let refuse = || {
            script(&[], |mut wire: Wire| async move {
                while let Some((head, _)) = wire.next().await {
                    if head.kind == kind::HEADERS {
                        let refused = code::REFUSED_STREAM.to_be_bytes();
                        wire.frame(kind::RST_STREAM, 0, head.stream, &refused).await;
                    }
                }
            })
        };
        let server = Scripted::new([refuse(), refuse(), refuse(), refuse()]);
        let outcome = server.open(&pool()).await;
        assert!(matches!(
            outcome,
            Err(OpenError::Tunnel(Error::PeerReset(7)))
        ));
    });
}

#[test]
fn a_goaway_spares_the_streams_below_it() {
    sim(async {
        let first = script(&[], |mut wire: Wire| async move {
            let (head, _) = wire.expect(kind::HEADERS).await;
            wire.answer(head.stream).await;
            let mut payload = head.stream.to_be_bytes().to_vec();
            payload.extend_from_slice(&[0; 4]);
            wire.frame(kind::GOAWAY, 0, 0, &payload).await;
            wire.expect(kind::DATA).await;
            wire.frame(kind::DATA, flag::END_STREAM, head.stream, b"still here")
                .await;
            while wire.next().await.is_some() {}
        });
        let server = Scripted::new([first, script(&[], obliging)]);
        let pool = pool();
        let mut old = server.open(&pool).await.unwrap().stream;
        // Whatever the first connection still does, the next stream is not on it.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let _new = server.open(&pool).await.unwrap();
        assert_eq!(server.dialled.get(), 2);
        old.write_all(b"x").await.unwrap();
        let mut received = String::new();
        old.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "still here");
    });
}

#[test]
fn a_pooled_connection_found_dead_is_replaced() {
    sim(async {
        let dying = script(&[], |mut wire: Wire| async move {
            let (head, _) = wire.expect(kind::HEADERS).await;
            wire.answer(head.stream).await;
            // Dies without a word upon the next.
            wire.expect(kind::HEADERS).await;
        });
        let server = Scripted::new([dying, script(&[], obliging)]);
        let pool = pool();
        let _first = server.open(&pool).await.unwrap();
        let _second = server.open(&pool).await.unwrap();
        assert_eq!(server.dialled.get(), 2);
    });
}

#[test]
fn a_fresh_connection_that_dies_is_an_error() {
    sim(async {
        let dying = script(&[], |mut wire: Wire| async move {
            wire.expect(kind::HEADERS).await;
        });
        let server = Scripted::new([dying]);
        let outcome = server.open(&pool()).await;
        assert!(matches!(outcome, Err(OpenError::Tunnel(Error::PeerClosed))));
    });
}

#[test]
fn resets_name_their_code_and_end_both_halves() {
    sim(async {
        let reset = script(&[], |mut wire: Wire| async move {
            let (head, _) = wire.expect(kind::HEADERS).await;
            wire.answer(head.stream).await;
            wire.frame(kind::DATA, 0, head.stream, b"lost").await;
            wire.frame(kind::RST_STREAM, 0, head.stream, &10u32.to_be_bytes())
                .await;
            while wire.next().await.is_some() {}
        });
        let server = Scripted::new([reset]);
        let pool = pool();
        let mut stream = server.open(&pool).await.unwrap().stream;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let read = stream.read(&mut [0; 9]).await.unwrap_err();
        assert_eq!(Error::from_io(&read), Some(&Error::PeerReset(10)));
        let write = stream.write(b"x").await.unwrap_err();
        assert_eq!(Error::from_io(&write), Some(&Error::PeerReset(10)));
    });
}

#[test]
fn bytes_received_in_full_survive_a_later_reset() {
    sim(async {
        let reset = script(&[], |mut wire: Wire| async move {
            let (head, _) = wire.expect(kind::HEADERS).await;
            wire.answer(head.stream).await;
            wire.frame(kind::DATA, flag::END_STREAM, head.stream, b"whole")
                .await;
            wire.frame(kind::RST_STREAM, 0, head.stream, &[0; 4]).await;
            while wire.next().await.is_some() {}
        });
        let server = Scripted::new([reset]);
        let pool = pool();
        let mut stream = server.open(&pool).await.unwrap().stream;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "whole");
    });
}

#[test]
fn servers_that_break_the_rules_are_told_and_left() {
    type Break = fn(&mut Wire) -> Pin<Box<dyn Future<Output = ()> + '_>>;
    let cases: Vec<(&str, u32, Break)> = vec![
        ("push", code::PROTOCOL_ERROR, |wire| {
            Box::pin(wire.frame(
                kind::PUSH_PROMISE,
                flag::END_HEADERS,
                1,
                &[0, 0, 0, 2, 0x82],
            ))
        }),
        ("push allowed", code::PROTOCOL_ERROR, |wire| {
            Box::pin(wire.frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1]))
        }),
        ("headers on idle", code::PROTOCOL_ERROR, |wire| {
            Box::pin(wire.frame(kind::HEADERS, flag::END_HEADERS, 9, &[0x88]))
        }),
        ("data on idle", code::PROTOCOL_ERROR, |wire| {
            Box::pin(wire.frame(kind::DATA, 0, 9, b"x"))
        }),
        ("garbled block", code::COMPRESSION_ERROR, |wire| {
            Box::pin(wire.frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff; 9]))
        }),
    ];
    for (what, expected, breaks) in cases {
        sim(async move {
            let broken = script(&[], move |mut wire: Wire| async move {
                wire.expect(kind::HEADERS).await;
                breaks(&mut wire).await;
                wire.expect_goaway(expected).await;
            });
            let server = Scripted::new([broken]);
            let outcome = server.open(&pool()).await;
            let told = matches!(
                outcome,
                Err(OpenError::Tunnel(Error::PeerProtocol { code, .. })) if code == expected
            );
            assert!(told, "{what}");
        });
    }
}

#[test]
fn a_malformed_answer_resets_its_stream() {
    for block in [&[0x82][..], &[0x0f, 0x00, 0x01, b'x'], &[]] {
        sim(async move {
            let malformed = script(&[], move |mut wire: Wire| async move {
                let (head, _) = wire.expect(kind::HEADERS).await;
                wire.frame(kind::HEADERS, flag::END_HEADERS, head.stream, block)
                    .await;
                wire.expect_reset(head.stream, code::PROTOCOL_ERROR).await;
                while wire.next().await.is_some() {}
            });
            let server = Scripted::new([malformed]);
            let outcome = server.open(&pool()).await;
            assert!(matches!(
                outcome,
                Err(OpenError::Tunnel(Error::PeerProtocol { .. }))
            ));
        });
    }
}

#[test]
fn informational_answers_are_passed_over() {
    sim(async {
        let patient = script(&[], |mut wire: Wire| async move {
            let (head, _) = wire.expect(kind::HEADERS).await;
            let early_hints = [0x08, 3, b'1', b'0', b'3'];
            wire.frame(kind::HEADERS, flag::END_HEADERS, head.stream, &early_hints)
                .await;
            wire.answer(head.stream).await;
            while wire.next().await.is_some() {}
        });
        assert!(Scripted::new([patient]).open(&pool()).await.is_ok());
    });
}

#[test]
fn the_peers_stream_limit_is_kept() {
    sim(async {
        let one = setting(3, 1);
        let server = Scripted::new([script(&one, obliging), script(&one, obliging)]);
        let pool = pool();
        let first = server.open(&pool).await.unwrap();
        let second = server.open(&pool).await.unwrap();
        assert_eq!((server.dialled.get(), pool.connections()), (2, 2));
        drop((first, second));
    });
}

#[test]
fn a_silent_server_is_given_up() {
    sim(async {
        let silent = script(&[], |mut wire: Wire| async move {
            let (head, _) = wire.expect(kind::HEADERS).await;
            wire.answer(head.stream).await;
            while wire.next().await.is_some() {}
        });
        let pool = pool();
        let mut stream = Scripted::new([silent]).open(&pool).await.unwrap().stream;
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(Error::from_io(&error), Some(&Error::PeerUnresponsive));
        assert_eq!(pool.connections(), 0);
    });
}

#[test]
fn idle_connections_are_released_with_a_goaway() {
    sim(async {
        let (tell, told) = tokio::sync::oneshot::channel();
        let watching = script(&[], |mut wire: Wire| async move {
            let start = tokio::time::Instant::now();
            let mut said_goodbye = false;
            while let Some((head, _)) = wire.next().await {
                match head.kind {
                    kind::HEADERS => wire.answer(head.stream).await,
                    kind::PING => wire.frame(kind::PING, flag::ACK, 0, b"liveness").await,
                    kind::GOAWAY => said_goodbye = true,
                    _ => {}
                }
            }
            tell.send((start.elapsed(), said_goodbye)).unwrap();
        });
        let pool = pool();
        drop(Scripted::new([watching]).open(&pool).await.unwrap());
        let (lived, said_goodbye) = told.await.unwrap();
        assert!(said_goodbye);
        let idle = Settings::default().pool_idle;
        assert!(
            lived >= idle && lived < idle + Duration::from_secs(5),
            "{lived:?}"
        );
        assert_eq!(pool.connections(), 0);
    });
}

#[test]
fn servers_that_do_not_speak_tls_or_h2_are_named_so() {
    sim(async {
        let (near, mut far) = duplex(4096);
        spawn_local(async move {
            far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
            let _gone = far.read_to_end(&mut Vec::new()).await;
        });
        assert_eq!(connect_tls(near).await.err(), Some(Error::PeerPlaintext));
        let (near, far) = duplex(4096);
        assert_eq!(
            connect_tls(near).await.err(),
            Some(Error::PeerHandshakeTimeout)
        );
        drop(far);
    });
}
