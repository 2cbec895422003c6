//! Streams through a whole tunnel, over a pipe.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ambit_hbone::{Error, Pool, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

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

/// Bulk in both directions on one connection, of which `count` streams are never finished.
async fn start_bulk(echo: &Echo, pool: &Pool<u8, Error>, count: usize) -> Rc<Cell<usize>> {
    let moved = Rc::new(Cell::new(0));
    for _ in 0..count {
        let stream = echo.open(pool, 0).await.unwrap().stream;
        let (mut read, mut write) = tokio::io::split(stream);
        spawn_local(async move { while write.write_all(&[1; 100_000]).await.is_ok() {} });
        let moved = Rc::clone(&moved);
        spawn_local(async move {
            let mut buffer = vec![0; 100_000];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                moved.set(moved.get() + count);
            }
        });
    }
    moved
}

#[test]
fn bulk_does_not_starve_a_small_exchange() {
    sim(async {
        let echo = Echo::new(Settings::default());
        let pool = Pool::new(Settings::default());
        let moved = start_bulk(&echo, &pool, 4).await;
        let mut small = echo.open(&pool, 0).await.unwrap().stream;
        assert_eq!(echo.connections.get(), 1);
        // A task like the others: the runtime polls its root future less often.
        let exchanging = spawn_local(async move {
            for _ in 0..20 {
                let before = moved.get();
                small.write_all(&[7; 100]).await.unwrap();
                small.read_exact(&mut [0; 100]).await.unwrap();
                let meanwhile = moved.get() - before;
                assert!(meanwhile < 1 << 20, "{meanwhile} bytes went before 100");
            }
            assert!(moved.get() > 0);
        });
        exchanging.await.unwrap();
    });
}

/// Streams that nobody reads hold their own windows and no more; the others go on.
#[test]
fn stalled_streams_do_not_stop_the_others() {
    sim(async {
        let echo = Echo::new(Settings::default());
        let pool = Pool::new(Settings::default());
        let mut stalled = Vec::new();
        for _ in 0..3 {
            let mut stream = echo.open(&pool, 0).await.unwrap().stream;
            // Never reads, so that its echo piles up in our window.
            stalled.push(spawn_local(async move {
                while stream.write_all(&[1; 100_000]).await.is_ok() {}
            }));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(stalled.iter().all(|task| !task.is_finished()));
        echo_round(&echo, &pool, 3_000_000).await;
        assert_eq!(echo.connections.get(), 1);
    });
}

#[test]
fn a_stream_cut_in_the_middle_is_an_error_on_the_other_side() {
    sim(async {
        let echo = Echo::new(Settings::default());
        let pool = Pool::new(Settings::default());
        let mut cut = echo.open(&pool, 0).await.unwrap().stream;
        cut.write_all(b"first").await.unwrap();
        cut.read_exact(&mut [0; 5]).await.unwrap();
        ambit_net::copy::Sink::abort(&mut cut);
        let error = cut.write(b"second").await.unwrap_err();
        assert_eq!(Error::from_io(&error), Some(&Error::LocalClosed));
        drop(cut);
        echo_round(&echo, &pool, 1000).await;
        assert_eq!(echo.connections.get(), 1);
    });
}
