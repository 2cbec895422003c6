//! The pool: one connection per key, made once, shared, drained.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ambit_hbone::{Error, OpenError, Pool, Settings};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

use crate::support::{Echo, request, sim};

fn setup() -> (Echo, Pool<u8, Error>) {
    (
        Echo::new(Settings::default()),
        Pool::new(Settings::default()),
    )
}

#[test]
fn concurrent_opens_make_one_connection_per_key() {
    sim(async {
        let (echo, pool) = setup();
        let opened = join_all((0..90).map(|index| echo.open(&pool, index % 3))).await;
        assert!(opened.iter().all(Result::is_ok));
        assert_eq!((echo.connections.get(), pool.connections()), (3, 3));
    });
}

#[test]
fn a_full_connection_gets_a_sibling() {
    sim(async {
        let (echo, pool) = setup();
        let opened = join_all((0..250).map(|_| echo.open(&pool, 0))).await;
        assert!(opened.iter().all(Result::is_ok));
        assert_eq!(echo.connections.get(), 3);
        drop(opened);
        // The places of ended streams are taken again.
        let again = join_all((0..250).map(|_| echo.open(&pool, 0))).await;
        assert!(again.iter().all(Result::is_ok));
        assert_eq!(echo.connections.get(), 3);
    });
}

#[test]
fn everyone_who_waits_shares_the_failure_and_the_next_one_tries_again() {
    sim(async {
        let (echo, pool) = setup();
        let tried = Rc::new(Cell::new(0));
        let failing = || {
            let tried = Rc::clone(&tried);
            async move {
                tried.set(tried.get() + 1);
                tokio::time::sleep(Duration::from_secs(1)).await;
                Err::<ambit_hbone::tls::TlsStream<tokio::io::DuplexStream>, _>(Error::PeerPlaintext)
            }
        };
        let opens = (0..20).map(|_| pool.open(&0, failing, request("10.0.0.1:80")));
        for outcome in join_all(opens).await {
            assert!(matches!(
                outcome,
                Err(OpenError::Connect(Error::PeerPlaintext))
            ));
        }
        assert_eq!(tried.get(), 1);
        assert!(echo.open(&pool, 0).await.is_ok());
    });
}

#[test]
fn when_the_maker_gives_up_another_takes_over() {
    sim(async {
        let (echo, pool) = setup();
        let stuck = {
            let pool = pool.clone();
            spawn_local(async move {
                let never = || {
                    std::future::pending::<
                        Result<ambit_hbone::tls::TlsStream<tokio::io::DuplexStream>, Error>,
                    >()
                };
                drop(pool.open(&0, never, request("10.0.0.1:80")).await);
            })
        };
        tokio::task::yield_now().await;
        let waiting = {
            let (echo, pool) = (echo.clone(), pool.clone());
            spawn_local(async move { echo.open(&pool, 0).await.is_ok() })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        stuck.abort();
        assert!(waiting.await.unwrap());
    });
}

#[test]
fn a_drain_waits_for_streams_and_leaves_nothing() {
    sim(async {
        let (echo, pool) = setup();
        let mut stream = echo.open(&pool, 0).await.unwrap().stream;
        let draining = {
            let pool = pool.clone();
            spawn_local(async move { pool.drain().await })
        };
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!draining.is_finished());
        stream.write_all(b"goes on").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "goes on");
        drop(stream);
        tokio::time::timeout(Duration::from_secs(2), draining)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(pool.connections(), 0);
    });
}

#[test]
fn retired_keys_get_new_connections_while_streams_go_on() {
    sim(async {
        let (echo, pool) = setup();
        let mut old = echo.open(&pool, 0).await.unwrap().stream;
        let _other = echo.open(&pool, 1).await.unwrap();
        pool.retire_where(|key| *key == 0);
        let _new = echo.open(&pool, 0).await.unwrap();
        let _same = echo.open(&pool, 1).await.unwrap();
        assert_eq!(echo.connections.get(), 3);
        old.write_all(b"x").await.unwrap();
        assert_eq!(old.read_u8().await.unwrap(), b'x');
    });
}

/// A dropped stream is reset on the other side, and its place and window are free again.
#[test]
fn dropped_streams_leave_no_trace() {
    sim(async {
        let (echo, pool) = setup();
        for _ in 0..300 {
            let mut stream = echo.open(&pool, 0).await.unwrap().stream;
            stream.write_all(&[1; 200_000]).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 1);
        }
        assert_eq!(echo.connections.get(), 1);
    });
}
