//! The server against a peer that breaks the rules, one rule at a time, and against floods.

use std::time::Duration;

use ambit_hbone::frame::{MAX_WINDOW, PREFACE, code, flag, kind};
use ambit_hbone::hpack::Encoder;
use ambit_hbone::{Error, Request, Settings, limits};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

use crate::support::sim;
use crate::support::wire::{Wire, connect_block, frame, setting};

const PROTOCOL: u32 = code::PROTOCOL_ERROR;
const SIZE: u32 = code::FRAME_SIZE_ERROR;
const FLOW: u32 = code::FLOW_CONTROL_ERROR;

/// Answers 200, swallows all, ends when the peer does.
fn swallow(request: Request) {
    spawn_local(async move {
        let Ok(mut stream) = request.accept(HeaderMap::new()) else {
            return;
        };
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        let _gone = stream.shutdown().await;
    });
}

/// Never answers.
fn hold(request: Request) {
    spawn_local(async move {
        let _request = request;
        std::future::pending::<()>().await;
    });
}

/// Answers 200, reads nothing, sends a megabyte.
fn pour(request: Request) {
    spawn_local(async move {
        let mut stream = request.accept(HeaderMap::new()).unwrap();
        let _gone = stream.write_all(&vec![6; 1 << 20]).await;
        std::future::pending::<()>().await;
    });
}

/// Sends `frames` after the handshake and an open stream 1.
async fn script(frames: &[Vec<u8>]) -> Wire {
    let (mut wire, _server) = Wire::client(Settings::default(), swallow).await;
    wire.connect(1).await;
    wire.raw(&frames.concat()).await;
    wire
}

/// Each case ends the connection, and the peer and the caller learn the code.
fn check_violations(cases: &[(&str, u32, Vec<u8>)]) {
    for (what, expected, frames) in cases {
        sim(async {
            let (mut wire, server) = Wire::client(Settings::default(), swallow).await;
            wire.connect(1).await;
            wire.raw(frames).await;
            let (_, payload) = wire.expect(kind::GOAWAY).await;
            assert_eq!(payload[4..8], expected.to_be_bytes(), "{what}");
            while wire.next().await.is_some() {}
            let outcome = server.await.unwrap();
            assert!(
                matches!(outcome, Err(Error::PeerProtocol { code, .. }) if code == *expected),
                "{what}: {outcome:?}"
            );
        });
    }
}

#[test]
fn frames_where_they_cannot_be_end_the_connection() {
    let f = frame;
    let end = flag::END_HEADERS;
    let (headers, more) = (kind::HEADERS, kind::CONTINUATION);
    let block = connect_block("10.0.0.1:80");
    let begun = f(headers, 0, 3, &block);
    let inside = |next: Vec<u8>| [begun.clone(), next].concat();
    check_violations(&[
        ("data on 0", PROTOCOL, f(kind::DATA, 0, 0, b"x")),
        ("data on idle", PROTOCOL, f(kind::DATA, 0, 9, b"x")),
        ("headers on 0", PROTOCOL, f(headers, end, 0, &block)),
        ("headers on even", PROTOCOL, f(headers, end, 2, &block)),
        ("continuation of nothing", PROTOCOL, f(more, end, 1, &block)),
        (
            "ping in a block",
            PROTOCOL,
            inside(f(kind::PING, 0, 0, &[0; 8])),
        ),
        (
            "data in a block",
            PROTOCOL,
            inside(f(kind::DATA, 0, 1, b"x")),
        ),
        (
            "headers in a block",
            PROTOCOL,
            inside(f(headers, end, 5, &block)),
        ),
        (
            "continuation elsewhere",
            PROTOCOL,
            inside(f(more, 0, 5, &block)),
        ),
        ("priority on 0", PROTOCOL, f(kind::PRIORITY, 0, 0, &[0; 5])),
        ("reset on 0", PROTOCOL, f(kind::RST_STREAM, 0, 0, &[0; 4])),
        (
            "reset of idle",
            PROTOCOL,
            f(kind::RST_STREAM, 0, 9, &[0; 4]),
        ),
        ("settings on 1", PROTOCOL, f(kind::SETTINGS, 0, 1, &[])),
        (
            "push promise",
            PROTOCOL,
            f(kind::PUSH_PROMISE, end, 1, &[0, 0, 0, 2]),
        ),
        ("ping on 1", PROTOCOL, f(kind::PING, 0, 1, &[0; 8])),
        ("goaway on 1", PROTOCOL, f(kind::GOAWAY, 0, 1, &[0; 8])),
        (
            "window update of idle",
            PROTOCOL,
            f(kind::WINDOW_UPDATE, 0, 9, &[0, 0, 0, 1]),
        ),
    ]);
}

#[test]
fn frames_of_wrong_size_or_content_end_the_connection() {
    let f = frame;
    let (headers, end) = (kind::HEADERS, flag::END_HEADERS);
    let padded = flag::PADDED;
    let garbled = code::COMPRESSION_ERROR;
    let beyond = [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1].to_vec();
    check_violations(&[
        ("garbled block", garbled, f(headers, end, 3, &[0xff; 9])),
        (
            "padding beyond headers",
            PROTOCOL,
            f(headers, padded | end, 3, &[9, 0x82]),
        ),
        (
            "padding beyond data",
            PROTOCOL,
            f(kind::DATA, padded, 1, &[9, 1]),
        ),
        ("padded and empty", SIZE, f(kind::DATA, padded, 1, &[])),
        (
            "priority fields cut",
            SIZE,
            f(headers, flag::PRIORITY | end, 3, &[0; 4]),
        ),
        ("priority of 4", SIZE, f(kind::PRIORITY, 0, 1, &[0; 4])),
        ("reset of 3", SIZE, f(kind::RST_STREAM, 0, 1, &[0; 3])),
        ("settings of 5", SIZE, f(kind::SETTINGS, 0, 0, &[0; 5])),
        (
            "settings ack of 6",
            SIZE,
            f(kind::SETTINGS, flag::ACK, 0, &[0; 6]),
        ),
        (
            "push of 2",
            PROTOCOL,
            f(kind::SETTINGS, 0, 0, &setting(2, 2)),
        ),
        (
            "window of 2^31",
            FLOW,
            f(kind::SETTINGS, 0, 0, &setting(4, MAX_WINDOW + 1)),
        ),
        (
            "frames of 1",
            PROTOCOL,
            f(kind::SETTINGS, 0, 0, &setting(5, 1)),
        ),
        (
            "frames of 2^24",
            PROTOCOL,
            f(kind::SETTINGS, 0, 0, &setting(5, 1 << 24)),
        ),
        ("ping of 7", SIZE, f(kind::PING, 0, 0, &[0; 7])),
        ("goaway of 7", SIZE, f(kind::GOAWAY, 0, 0, &[0; 7])),
        (
            "window of 0",
            PROTOCOL,
            f(kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
        ),
        (
            "window update of 3",
            SIZE,
            f(kind::WINDOW_UPDATE, 0, 1, &[0; 3]),
        ),
        (
            "window overflow",
            FLOW,
            f(kind::WINDOW_UPDATE, 0, 0, &MAX_WINDOW.to_be_bytes()),
        ),
        ("frame beyond our limit", SIZE, beyond),
    ]);
}

#[test]
fn misuse_of_a_stream_resets_only_that_stream() {
    let zero = [0; 4];
    let headers = |stream, fields: &[(&str, &str)], flags| {
        let mut block = Vec::new();
        let mut encoder = Encoder::new(&mut block, false);
        for (name, value) in fields {
            encoder.field(name, value.as_bytes());
        }
        frame(kind::HEADERS, flag::END_HEADERS | flags, stream, &block)
    };
    let end = flag::END_STREAM;
    let cases: Vec<(&str, u32, u32, Vec<Vec<u8>>)> = vec![
        (
            "window of 0",
            1,
            PROTOCOL,
            vec![frame(kind::WINDOW_UPDATE, 0, 1, &zero)],
        ),
        (
            "window overflow",
            1,
            FLOW,
            vec![frame(kind::WINDOW_UPDATE, 0, 1, &MAX_WINDOW.to_be_bytes())],
        ),
        (
            "trailers that go on",
            1,
            PROTOCOL,
            vec![headers(1, &[("a", "b")], 0)],
        ),
        (
            "no method",
            3,
            PROTOCOL,
            vec![headers(3, &[(":authority", "a:1")], 0)],
        ),
        (
            "upper case",
            3,
            PROTOCOL,
            vec![headers(3, &[(":method", "CONNECT"), ("Bad", "b")], 0)],
        ),
        (
            "path in a connect",
            3,
            PROTOCOL,
            vec![headers(
                3,
                &[
                    (":method", "CONNECT"),
                    (":authority", "a:1"),
                    (":path", "/"),
                ],
                end,
            )],
        ),
        (
            "data after the end",
            1,
            code::STREAM_CLOSED,
            vec![
                frame(kind::DATA, end, 1, b"x"),
                frame(kind::DATA, 0, 1, b"x"),
            ],
        ),
        (
            "headers after the end",
            1,
            code::STREAM_CLOSED,
            vec![
                frame(kind::DATA, end, 1, b"x"),
                headers(1, &[("a", "b")], end),
            ],
        ),
    ];
    for (what, stream, expected, frames) in cases {
        sim(async {
            let mut wire = script(&frames).await;
            let (head, payload) = wire.expect(kind::RST_STREAM).await;
            assert_eq!(
                (head.stream, &payload[..]),
                (stream, &expected.to_be_bytes()[..]),
                "{what}"
            );
            wire.expect_alive().await;
        });
    }
}

#[test]
fn what_need_not_be_understood_is_ignored() {
    sim(async {
        let block = connect_block("10.0.0.1:80");
        let (first, rest) = block.split_at(3);
        let padded = [&[2, 0, 0, 0, 0, 16], &block[..], &[0, 0]].concat();
        let mut wire = script(&[
            frame(0xbe, 0xff, 1, b"unknown frame"),
            frame(kind::PRIORITY, 0, 77, &[0; 5]),
            frame(kind::SETTINGS, 0, 0, &setting(0x4242, 7)),
            frame(kind::WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 1]),
            frame(
                kind::HEADERS,
                flag::PADDED | flag::PRIORITY | flag::END_HEADERS,
                3,
                &padded,
            ),
            frame(kind::HEADERS, 0, 5, first),
            frame(kind::CONTINUATION, 0, 5, &[]),
            frame(kind::CONTINUATION, flag::END_HEADERS, 5, rest),
            frame(kind::DATA, flag::PADDED, 5, &[3, b'x', 0, 0, 0]),
        ])
        .await;
        let mut answered = Vec::new();
        while answered.len() < 3 {
            answered.push(wire.expect(kind::HEADERS).await.0.stream);
        }
        assert_eq!(answered, [1, 3, 5]);
        wire.expect_alive().await;
    });
}

#[test]
fn trailers_end_a_stream() {
    sim(async {
        let mut wire = script(&[]).await;
        let flags = flag::END_HEADERS | flag::END_STREAM;
        wire.frame(kind::HEADERS, flags, 1, &[0x0f, 0x00, 0x01, b'x'])
            .await;
        let (head, _) = wire.expect(kind::DATA).await;
        assert!(head.has(flag::END_STREAM));
    });
}

#[test]
fn a_wrong_preface_or_first_frame_is_told_so() {
    sim(async {
        let (mut wire, server) = Wire::silent(Settings::default(), swallow).await;
        wire.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        wire.expect_goaway(PROTOCOL).await;
        assert!(matches!(
            server.await.unwrap(),
            Err(Error::PeerProtocol { .. })
        ));
        let (mut wire, _server) = Wire::silent(Settings::default(), swallow).await;
        wire.raw(PREFACE).await;
        wire.frame(kind::PING, 0, 0, &[0; 8]).await;
        wire.expect_goaway(PROTOCOL).await;
    });
}

#[test]
fn silence_is_cut_off() {
    sim(async {
        let (wire, server) = Wire::silent(Settings::default(), swallow).await;
        assert_eq!(server.await.unwrap(), Err(Error::PeerHandshakeTimeout));
        drop(wire);
        let start = tokio::time::Instant::now();
        let (mut wire, server) = Wire::client(Settings::default(), hold).await;
        wire.connect(1).await;
        wire.expect(kind::PING).await;
        assert_eq!(server.await.unwrap(), Err(Error::PeerUnresponsive));
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_secs(30) && waited < Duration::from_secs(45),
            "{waited:?}"
        );
        drop(wire);
    });
}

#[test]
fn an_answered_ping_keeps_a_quiet_connection() {
    sim(async {
        let (mut wire, server) = Wire::client(Settings::default(), hold).await;
        for _ in 0..20 {
            let (_, token) = wire.expect(kind::PING).await;
            wire.frame(kind::PING, flag::ACK, 0, &token).await;
        }
        assert!(!server.is_finished());
    });
}

#[test]
fn floods_end_in_enhance_your_calm() {
    let pair = |index: u32| {
        let stream = 2 * index + 1;
        let open = frame(
            kind::HEADERS,
            flag::END_HEADERS,
            stream,
            &connect_block("a:1"),
        );
        [open, frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let many = limits::MAX_IDLE_FRAMES as usize + 1;
    let opened = frame(kind::HEADERS, flag::END_HEADERS, 1, &connect_block("a:1"));
    let continued: Vec<u8> = (0..40)
        .flat_map(|_| frame(kind::CONTINUATION, 0, 3, &[]))
        .collect();
    let started = frame(kind::HEADERS, 0, 3, &connect_block("a:1"));
    let huge = vec![0; 90_000];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("pings", frame(kind::PING, 0, 0, &[0; 8]).repeat(many)),
        ("settings", frame(kind::SETTINGS, 0, 0, &[]).repeat(many)),
        (
            "empty data",
            [opened, frame(kind::DATA, 0, 1, &[]).repeat(many)].concat(),
        ),
        (
            "priority",
            frame(kind::PRIORITY, 0, 1, &[0; 5]).repeat(many),
        ),
        ("unknown", frame(0x70, 0, 1, &[]).repeat(many)),
        ("resets", (0..600).flat_map(pair).collect()),
        ("continuations", [started, continued].concat()),
        ("block without end", frame(kind::HEADERS, 0, 1, &huge)),
        ("huge settings", frame(kind::SETTINGS, 0, 0, &[0; 120_000])),
    ];
    for (what, bytes) in cases {
        sim(async {
            let (wire, server) = Wire::client(Settings::default(), hold).await;
            // Reading and writing at once, as a flooding peer can.
            let (mut read, mut write) = wire.split();
            let writer = spawn_local(async move {
                let _gone = write.write_all(&bytes).await;
                let _gone = write.flush().await;
                write
            });
            read.expect_goaway(code::ENHANCE_YOUR_CALM).await;
            drop(writer.await);
            let outcome = server.await.unwrap();
            assert!(
                matches!(outcome, Err(Error::PeerProtocol { code: 11, .. })),
                "{what}: {outcome:?}"
            );
        });
    }
}

/// Answers that the peer does not read pile up only to a limit.
#[test]
fn a_peer_that_never_reads_is_cut_off() {
    sim(async {
        let (wire, server) = Wire::client(Settings::default(), hold).await;
        let (read, mut write) = wire.split();
        let mut sent = 0usize;
        let ping = frame(kind::PING, 0, 0, &[0; 8]).repeat(64);
        while sent < limits::MAX_IDLE_FRAMES as usize - 64 {
            if write.write_all(&ping).await.is_err() {
                break;
            }
            sent += 64;
        }
        let outcome = tokio::time::timeout(Duration::from_secs(60), server)
            .await
            .unwrap()
            .unwrap();
        assert!(outcome.is_err());
        drop(read);
    });
}

#[test]
fn oversized_header_lists_get_431() {
    sim(async {
        let settings = Settings {
            server_max_header_list: 2000,
            ..Settings::default()
        };
        let (mut wire, _server) = Wire::client(settings, swallow).await;
        let mut block = connect_block("10.0.0.1:80");
        Encoder::new(&mut block, false).field("baggage", &[b'a'; 2100]);
        wire.frame(kind::HEADERS, flag::END_HEADERS, 1, &block)
            .await;
        let (head, payload) = wire.expect(kind::HEADERS).await;
        assert!(head.has(flag::END_STREAM));
        assert!(payload.ends_with(b"431"));
        wire.connect(3).await;
        assert_eq!(wire.expect(kind::HEADERS).await.0.stream, 3);
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_and_may_come_later() {
    sim(async {
        let settings = Settings {
            max_concurrent_streams: 2,
            ..Settings::default()
        };
        let (mut wire, _server) = Wire::client(settings, swallow).await;
        for stream in [1, 3, 5] {
            wire.connect(stream).await;
        }
        wire.expect_reset(5, code::REFUSED_STREAM).await;
        wire.frame(kind::DATA, flag::END_STREAM, 1, &[]).await;
        let (head, _) = wire.expect(kind::DATA).await;
        assert!(head.stream == 1 && head.has(flag::END_STREAM));
        wire.connect(7).await;
        assert_eq!(wire.expect(kind::HEADERS).await.0.stream, 7);
    });
}

#[test]
fn data_beyond_the_windows_is_refused() {
    sim(async {
        let settings = Settings {
            stream_window: 1000,
            ..Settings::default()
        };
        let (mut wire, _server) = Wire::client(settings.clone(), hold).await;
        wire.connect(1).await;
        wire.frame(kind::DATA, 0, 1, &[0; 1001]).await;
        wire.expect_reset(1, FLOW).await;
        wire.expect_alive().await;
        let settings = Settings {
            connection_window: 65_535,
            stream_window: 1 << 20,
            ..settings
        };
        let (mut wire, _server) = Wire::client(settings, hold).await;
        wire.connect(1).await;
        for _ in 0..5 {
            wire.frame(kind::DATA, 0, 1, &[0; 16_000]).await;
        }
        wire.expect_goaway(FLOW).await;
    });
}

/// Sent bytes stop at the windows, a smaller initial window drives one below zero, and credit
/// brings the rest.
#[test]
fn sending_respects_windows_and_their_changes() {
    sim(async {
        let (mut wire, _server) = Wire::client(Settings::default(), pour).await;
        wire.frame(kind::SETTINGS, 0, 0, &setting(4, 10_000)).await;
        wire.connect(1).await;
        assert_eq!(read_data(&mut wire, 10_000).await, 10_000);
        wire.expect_alive().await;
        // Now 4000 below zero: 4000 of credit give nothing, one more byte gives one.
        wire.frame(kind::SETTINGS, 0, 0, &setting(4, 6000)).await;
        wire.frame(kind::WINDOW_UPDATE, 0, 1, &4000u32.to_be_bytes())
            .await;
        wire.expect_alive().await;
        wire.frame(kind::WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())
            .await;
        assert_eq!(read_data(&mut wire, 1).await, 1);
        // Then the connection's own window is the limit.
        wire.frame(kind::WINDOW_UPDATE, 0, 1, &(1u32 << 30).to_be_bytes())
            .await;
        let left = 65_535 - 10_001;
        assert_eq!(read_data(&mut wire, left).await, left);
        wire.expect_alive().await;
        wire.frame(kind::WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes())
            .await;
        let rest = (1 << 20) - 65_535;
        assert_eq!(read_data(&mut wire, rest).await, rest);
    });
}

async fn read_data(wire: &mut Wire, count: usize) -> usize {
    let mut total = 0;
    while total < count {
        let (head, payload) = wire.expect(kind::DATA).await;
        assert!(head.length <= 16_384, "frame larger than the default limit");
        total += payload.len();
    }
    total
}

#[test]
fn a_drain_announces_serves_what_was_under_way_and_refuses_the_rest() {
    sim(async {
        let (mut wire, server) = Wire::client(Settings::default(), swallow).await;
        wire.connect(1).await;
        let block = connect_block("drain:1");
        wire.frame(kind::HEADERS, flag::END_HEADERS, 3, &block)
            .await;
        let (_, announced) = wire.expect(kind::GOAWAY).await;
        assert_eq!(announced[..4], MAX_WINDOW.to_be_bytes());
        let (_, token) = wire.expect(kind::PING).await;
        wire.connect(5).await;
        wire.frame(kind::PING, flag::ACK, 0, &token).await;
        let (_, fixed) = wire.expect(kind::GOAWAY).await;
        assert_eq!(fixed[..4], 5u32.to_be_bytes());
        wire.connect(7).await;
        for stream in [1, 3, 5] {
            wire.frame(kind::DATA, flag::END_STREAM, stream, b"bye")
                .await;
        }
        let mut ended = Vec::new();
        while let Some((head, _)) = wire.next().await {
            if head.kind == kind::DATA && head.has(flag::END_STREAM) {
                ended.push(head.stream);
            }
        }
        ended.sort_unstable();
        assert_eq!(ended, [1, 3, 5]);
        drop(wire);
        assert_eq!(server.await.unwrap(), Ok(()));
    });
}

#[test]
fn a_lost_peer_fails_its_streams() {
    sim(async {
        let (mut wire, server) = Wire::client(Settings::default(), swallow).await;
        wire.connect(1).await;
        wire.expect(kind::HEADERS).await;
        drop(wire);
        assert_eq!(server.await.unwrap(), Err(Error::PeerClosed));
    });
}
