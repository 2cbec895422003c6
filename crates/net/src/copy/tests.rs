//! Tests of the copy loop, over pipes and over real sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (near.unwrap(), far.unwrap().0)
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 253) as u8).collect()
}

/// Runs a copy between the far ends of two pipes; the near ends are the test's.
fn piped(
    pipe: usize,
) -> (
    DuplexStream,
    DuplexStream,
    Arc<Counters>,
    impl Future<Output = Result<(), CopyError>>,
) {
    let (app, first) = duplex(pipe);
    let (second, server) = duplex(pipe);
    let counters = Arc::new(Counters::default());
    let shared = Arc::clone(&counters);
    let copy = async move {
        copy_bidirectional(&mut IoEnd::new(first), &mut IoEnd::new(second), &*shared).await
    };
    (app, server, counters, copy)
}

#[tokio::test]
async fn bytes_flow_both_ways_and_each_half_ends_alone() {
    let (mut app, mut server, counters, copy) = piped(1000);
    let up = pattern(100_000);
    let down = pattern(70_000);
    let script = async {
        // The whole upward half ends before anything comes down.
        let (_, received) = tokio::join!(
            async {
                app.write_all(&up).await.unwrap();
                app.shutdown().await.unwrap();
            },
            async {
                let mut received = Vec::new();
                server.read_to_end(&mut received).await.unwrap();
                received
            }
        );
        assert!(received == up);
        let mut received = Vec::new();
        let (_, read) = tokio::join!(
            async {
                server.write_all(&down).await.unwrap();
                server.shutdown().await.unwrap();
            },
            app.read_to_end(&mut received)
        );
        assert_eq!(read.unwrap(), down.len());
        assert!(received == down);
    };
    let (outcome, ()) = tokio::join!(copy, script);
    outcome.unwrap();
    assert_eq!((counters.forward(), counters.backward()), (100_000, 70_000));
}

#[tokio::test]
async fn failures_name_the_end_and_what_was_done() {
    // A pipe whose other end is gone: reading ends, writing fails.
    let (mut app, server, _, copy) = piped(1000);
    drop(server);
    app.write_all(b"x").await.unwrap();
    let error = copy.await.unwrap_err();
    assert_eq!(
        (error.end, error.operation),
        (End::Second, Operation::Write)
    );
    let (app, mut server, _, copy) = piped(1000);
    drop(app);
    server.write_all(b"x").await.unwrap();
    let error = copy.await.unwrap_err();
    assert_eq!((error.end, error.operation), (End::First, Operation::Write));
}

#[tokio::test]
async fn counters_survive_a_cut() {
    let (mut app, mut server, counters, copy) = piped(1000);
    let mut copy = Box::pin(copy);
    app.write_all(b"hello").await.unwrap();
    let mut received = [0; 5];
    tokio::select! {
        biased;
        _ = &mut copy => panic!("ended by itself"),
        read = server.read_exact(&mut received) => { read.unwrap(); }
    }
    drop(copy);
    assert_eq!((counters.forward(), counters.backward()), (5, 0));
    assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn sockets_carry_bulk_both_ways_at_once() {
    let ((app, first), (second, server)) = tokio::join!(tcp_pair(), tcp_pair());
    let counters = Counters::default();
    let (mut first, mut second) = (TcpEnd::new(first), TcpEnd::new(second));
    let copy = async {
        let outcome = copy_bidirectional(&mut first, &mut second, &counters).await;
        drop((first, second));
        outcome
    };
    let bytes = pattern(8_000_000);
    let send_and_check = |stream: TcpStream| {
        let bytes = bytes.clone();
        async move {
            let (mut read, mut write) = stream.into_split();
            let sending = async {
                write.write_all(&bytes).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let (_, read) = tokio::join!(sending, read.read_to_end(&mut received));
            read.unwrap();
            assert!(received == bytes);
        }
    };
    let (outcome, (), ()) = tokio::join!(copy, send_and_check(app), send_and_check(server));
    outcome.unwrap();
    assert_eq!(
        (counters.forward(), counters.backward()),
        (8_000_000, 8_000_000)
    );
}

/// A reset on one socket comes out of the other as a reset, not as an orderly end.
#[tokio::test]
async fn a_reset_is_passed_on() {
    let ((app, first), (second, mut server)) = tokio::join!(tcp_pair(), tcp_pair());
    let copy = async {
        let (mut first, mut second) = (TcpEnd::new(first), TcpEnd::new(second));
        copy_bidirectional(&mut first, &mut second, &Counters::default()).await
    };
    socket2::SockRef::from(&app)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(app);
    let (outcome, read) = tokio::join!(copy, server.read_u8());
    let error = outcome.unwrap_err();
    assert_eq!((error.end, error.operation), (End::First, Operation::Read));
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// What a stalled reader leaves behind is about its size, and nothing is held once it is written.
#[test]
fn what_waits_keeps_little_and_idle_ends_keep_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut far, near) = duplex(1 << 20);
        let mut end = IoEnd::new(near);
        far.write_all(&pattern(300_000)).await.unwrap();
        let mut total = 0;
        while total < 300_000 {
            assert!(poll_fn(|cx| end.poll_fill(cx, usize::MAX)).await.unwrap());
            let mut slices = [IoSlice::new(&[])];
            let count = end.slices(&mut slices);
            assert_eq!(count, 1);
            let length = slices[0].len();
            // A third is taken; the rest waits.
            end.consume(length / 3);
            let waiting = length - length / 3;
            assert!(
                end.held_capacity() <= 2 * waiting,
                "{} for {waiting}",
                end.held_capacity()
            );
            end.consume(waiting);
            assert_eq!(end.held_capacity(), 0);
            total += length;
        }
    });
}

/// One read never takes more than there is room for.
#[tokio::test]
async fn reads_respect_the_room() {
    let (mut far, near) = duplex(10_000);
    let mut end = IoEnd::new(near);
    far.write_all(&pattern(5000)).await.unwrap();
    for limit in [1, 10, 1000] {
        assert!(poll_fn(|cx| end.poll_fill(cx, limit)).await.unwrap());
        let mut slices = [IoSlice::new(&[])];
        end.slices(&mut slices);
        let length = slices[0].len();
        assert_eq!(length, limit);
        end.consume(length);
    }
}

/// One busy direction does not keep the other, or other tasks, from running.
#[tokio::test(start_paused = true)]
async fn an_endless_source_yields() {
    struct Endless;
    impl Source for Endless {
        fn poll_fill(&mut self, _: &mut Context<'_>, _: usize) -> Poll<io::Result<bool>> {
            Poll::Ready(Ok(true))
        }
        fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
            into[0] = IoSlice::new(b"endless");
            1
        }
        fn consume(&mut self, _: usize) {}
    }
    impl Sink for Endless {
        fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(usize::MAX))
        }
        fn poll_write(
            &mut self,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }
        fn poll_finish(&mut self, _: &mut Context<'_>, _: Finish) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn abort(&mut self) {}
    }
    let counters = Counters::default();
    let (mut first, mut second) = (Endless, Endless);
    let copy = copy_bidirectional(&mut first, &mut second, &counters);
    tokio::select! {
        biased;
        _ = copy => panic!("endless"),
        () = tokio::task::yield_now() => {}
    }
    assert!(counters.forward() > 0 && counters.backward() > 0);
}

/// The copy is part of every connection's future.
#[test]
fn the_future_is_small() {
    fn size<F: Future>(_: &F) -> usize {
        size_of::<F>()
    }
    let counters = Counters::default();
    let (first, second) = duplex(1);
    let (mut first, mut second) = (IoEnd::new(first), IoEnd::new(second));
    let copy = copy_bidirectional(&mut first, &mut second, &counters);
    assert!(size(&copy) <= 128, "{}", size(&copy));
    assert!(size_of::<TcpEnd>() <= 96, "{}", size_of::<TcpEnd>());
}
