//! Streams through a whole tunnel, over a pipe.

use ambit_hbone::{Error, Pool, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Echo, sim};

async fn echo_round(echo: &Echo, pool: &Pool<u8, Error>, size: usize) {
    let opened = echo.open(pool, 0).await.unwrap();
    let sent: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(opened.stream);
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, count) = tokio::join!(send, read.read_to_end(&mut received));
    assert_eq!(count.unwrap(), size);
    assert!(received == sent, "bytes differ");
}

#[test]
fn bytes_of_all_sizes_come_back_and_half_close_is_kept() {
    sim(async {
        let echo = Echo::new(Settings::default());
        let pool = Pool::new(Settings::default());
        for size in [
            0, 1, 100, 16_383, 16_384, 16_385, 65_536, 1_000_000, 20_000_000,
        ] {
            echo_round(&echo, &pool, size).await;
        }
        assert_eq!(echo.connections.get(), 1);
    });
}

#[test]
fn small_windows_and_frames_do_not_stall() {
    sim(async {
        let small = Settings {
            stream_window: 1000,
            connection_window: 65_535,
            max_frame_size: 16_384,
            ..Settings::default()
        };
        let mut echo = Echo::new(small.clone());
        echo.pipe = 700;
        let pool = Pool::new(small);
        let rounds = (0..20).map(|_| echo_round(&echo, &pool, 100_000));
        futures_util::future::join_all(rounds).await;
        assert_eq!(echo.connections.get(), 1);
    });
}

#[test]
fn many_streams_share_a_connection() {
    sim(async {
        let echo = Echo::new(Settings::default());
        let pool = Pool::new(Settings::default());
        let rounds = (0..100).map(|index| echo_round(&echo, &pool, index * 7919));
        futures_util::future::join_all(rounds).await;
        assert_eq!(echo.connections.get(), 1);
    });
}
