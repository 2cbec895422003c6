//! Any sequence of frames whatever leaves the server either alive or orderly closed, never
//! panicked and never stuck.

use std::time::Duration;

use ambit_hbone::frame::{code, kind};
use ambit_hbone::{Error, Request, Settings};
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;

use crate::support::sim;
use crate::support::wire::{Wire, connect_block, frame};

/// Answers by the stream's turn: some refused, some echoed, some dropped.
fn mixed(request: Request) {
    spawn_local(async move {
        match request.authority().map_or(0, str::len) % 3 {
            0 => drop(request.refuse(StatusCode::FORBIDDEN, HeaderMap::new())),
            1 => drop(request),
            _ => {
                let Ok(stream) = request.accept(HeaderMap::new()) else {
                    return;
                };
                let (mut read, mut write) = tokio::io::split(stream);
                let _end = tokio::io::copy(&mut read, &mut write).await;
                let _end = write.shutdown().await;
            }
        }
    });
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let connect = (0u32..20, "[a-z]{1,4}:1", any::<bool>()).prop_map(|(stream, authority, end)| {
        frame(
            kind::HEADERS,
            4 | u8::from(end),
            2 * stream + 1,
            &connect_block(&authority),
        )
    });
    let data = (0u32..20, 0usize..40_000, any::<bool>()).prop_map(|(stream, size, end)| {
        frame(kind::DATA, u8::from(end), 2 * stream + 1, &vec![1; size])
    });
    let word = (
        prop_oneof![Just(kind::RST_STREAM), Just(kind::WINDOW_UPDATE)],
        0u32..40,
        0u32..1 << 31,
    )
        .prop_map(|(kind, stream, word)| frame(kind, 0, stream, &word.to_be_bytes()));
    let setting = (1u16..7, 0u32..1 << 17).prop_map(|(id, value)| {
        frame(
            kind::SETTINGS,
            0,
            0,
            &crate::support::wire::setting(id, value),
        )
    });
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    let any = (0u8..12, any::<u8>(), 0u32..12, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    prop_oneof![6 => connect, 6 => data, 2 => word, 1 => setting, 1 => any]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_frames_leave_the_server_sound(
        frames in proptest::collection::vec(any_frame(), 1..40),
    ) {
        sim(async move {
            let (wire, server) = Wire::client(Settings::default(), mixed).await;
            let (mut read, mut write) = wire.split();
            let writer = spawn_local(async move {
                for frame in frames {
                    if write.write_all(&frame).await.is_err() {
                        break;
                    }
                }
                let _gone = write.flush().await;
                // What the server has to say, and then the end.
                tokio::time::sleep(Duration::from_secs(5)).await;
                let _gone = write.shutdown().await;
            });
            let mut goaway = None;
            while let Some((head, payload)) = read.next().await {
                if head.kind == kind::GOAWAY {
                    goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
            }
            writer.await.unwrap();
            let outcome = tokio::time::timeout(Duration::from_secs(60), server).await;
            match outcome.expect("not stuck").expect("no panic") {
                Err(Error::PeerProtocol { code, .. }) => assert_eq!(goaway, Some(code)),
                Ok(()) | Err(Error::PeerClosed) => assert!(goaway.is_none_or(|c| c == code::NO_ERROR)),
                Err(other) => panic!("{other}"),
            }
        });
    }
}
