//! The one copy loop of the data plane: bytes from a [`Source`] to a [`Sink`], both ways at once,
//! with half-close kept and every failure attributed. It knows bytes and ends, nothing of what
//! is behind them: a TCP socket ([`TcpEnd`]), a tunnel stream, an in-memory pipe ([`IoEnd`]).
//!
//! An end asks for room *before* it reads, and takes a buffer only when there is something to
//! read, so an idle connection holds no buffer at all.
//!
//! Everything here is driven by one task on one thread; no future spawns anything.

pub mod buffers;
mod ends;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

pub use ends::{IoEnd, TcpEnd};

/// Most slices handed to one vectored write: 64 records of 16 KiB are 1 MiB, more than any
/// socket takes at once.
pub const MAX_SLICES: usize = 64;

/// Bytes moved in one direction before the task yields to its neighbours. Large enough to keep
/// bulk in big batches, small enough that one bulk transfer does not starve a thread.
const BYTES_PER_POLL: usize = 1024 * 1024;

/// Turns of the loop in one direction before the task yields, for floods of tiny chunks.
const TURNS_PER_POLL: usize = 32;

/// Where bytes come from.
pub trait Source {
    /// Waits until bytes can be handed over: `true` with at least one byte, `false` at the end
    /// of the stream (the peer's half-close). New bytes are taken from the peer only up to
    /// `limit`; bytes that an earlier call left unconsumed are handed over first.
    ///
    /// # Errors
    /// The peer failed, or the transport under it.
    fn poll_fill(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<bool>>;

    /// The bytes ready now, as slices in order; returns how many of `into` were set.
    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize;

    /// Releases the first `count` bytes of those handed over.
    fn consume(&mut self, count: usize);
}

/// Where bytes go.
pub trait Sink {
    /// Waits until a write would take bytes, and returns about how many (at least one).
    ///
    /// # Errors
    /// The peer will take no more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;

    /// Writes as much as is taken now; returns how many bytes that was. Bytes taken are sent
    /// without a further call.
    ///
    /// # Errors
    /// The peer failed, or the transport under it.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Sends the half-close after the bytes written so far. With [`Finish::Last`] the other
    /// direction has ended already and the end is dropped next, so that a socket may leave the
    /// rest to its close.
    ///
    /// # Errors
    /// The peer failed, or the transport under it.
    fn poll_finish(&mut self, cx: &mut Context<'_>, finish: Finish) -> Poll<io::Result<()>>;

    /// Makes the coming drop tell the peer that the stream was cut, not ended: a TCP reset or
    /// `RST_STREAM`.
    fn abort(&mut self);
}

/// Which half-close [`Sink::poll_finish`] is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The other direction goes on.
    Half,
    /// Nothing more will happen on this end.
    Last,
}

/// Told of every byte copied, by the copying task alone, as soon as it was written.
pub trait Meter {
    /// Bytes went from the first end to the second.
    fn forward(&self, bytes: usize);
    /// Bytes went from the second end to the first.
    fn backward(&self, bytes: usize);
}

/// Bytes copied so far. Written by the copying task alone, readable from any thread and after
/// the copy was cut.
#[derive(Debug, Default)]
pub struct Counters {
    /// From the first end to the second.
    forward: AtomicU64,
    /// From the second end to the first.
    backward: AtomicU64,
}

impl Counters {
    /// Bytes copied from the first end to the second.
    pub fn forward(&self) -> u64 {
        self.forward.load(Relaxed)
    }

    /// Bytes copied from the second end to the first.
    pub fn backward(&self) -> u64 {
        self.backward.load(Relaxed)
    }
}

impl Meter for Counters {
    fn forward(&self, bytes: usize) {
        add(&self.forward, bytes);
    }

    fn backward(&self, bytes: usize) {
        add(&self.backward, bytes);
    }
}

/// One writer, so a load and a store do; no locked instruction on the byte path.
fn add(counter: &AtomicU64, count: usize) {
    counter.store(counter.load(Relaxed).wrapping_add(count as u64), Relaxed);
}

/// Which end of the copy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first argument of [`copy_bidirectional`].
    First,
    /// The second argument of [`copy_bidirectional`].
    Second,
}

/// What the copy was doing with the end that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Receiving from it.
    Read,
    /// Sending to it.
    Write,
    /// Sending it the half-close.
    Finish,
}

/// A copy that did not end by both half-closes.
#[derive(Debug, thiserror::Error)]
#[error("{operation:?} on the {end:?} end failed")]
pub struct CopyError {
    /// The end that failed.
    pub end: End,
    /// What was being done with it.
    pub operation: Operation,
    /// Its error. Tunnel streams put their own error inside.
    #[source]
    pub source: io::Error,
}

/// Copies in both directions until both have ended, and returns when the last half-close was
/// sent. After an error the *other* end has been told to abort; the caller drops both.
///
/// Dropping the future cuts the copy at a byte boundary; `meter` was told of all that was copied.
///
/// # Errors
/// The first failure of either end.
pub async fn copy_bidirectional<A, B, M>(
    first: &mut A,
    second: &mut B,
    meter: &M,
) -> Result<(), CopyError>
where
    A: Source + Sink,
    B: Source + Sink,
    M: Meter,
{
    let mut forward = Direction::Open;
    let mut backward = Direction::Open;
    let outcome = poll_fn(|cx| {
        let there = forward.poll(
            cx,
            first,
            second,
            |bytes| meter.forward(bytes),
            backward.finish(),
        );
        if let Poll::Ready(Err(failure)) = there {
            return Poll::Ready(Err(failure.on(End::First, End::Second)));
        }
        let back = backward.poll(
            cx,
            second,
            first,
            |bytes| meter.backward(bytes),
            forward.finish(),
        );
        if let Poll::Ready(Err(failure)) = back {
            return Poll::Ready(Err(failure.on(End::Second, End::First)));
        }
        if there.is_ready() && back.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await;
    match &outcome {
        Err(CopyError {
            end: End::First, ..
        }) => second.abort(),
        Err(CopyError {
            end: End::Second, ..
        }) => first.abort(),
        Ok(()) => {}
    }
    outcome
}

/// One direction of a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Bytes flow.
    Open,
    /// The source has ended; the half-close is on its way.
    Finishing,
    /// The half-close was sent.
    Done,
}

/// What a direction failed at, not yet attributed to an end.
enum Failure {
    Read(io::Error),
    Write(io::Error),
    Finish(io::Error),
}

impl Failure {
    fn on(self, source_end: End, sink_end: End) -> CopyError {
        let (end, operation, source) = match self {
            Self::Read(error) => (source_end, Operation::Read, error),
            Self::Write(error) => (sink_end, Operation::Write, error),
            Self::Finish(error) => (sink_end, Operation::Finish, error),
        };
        CopyError {
            end,
            operation,
            source,
        }
    }
}

impl Direction {
    /// How the *other* direction has to end, given where this one is.
    fn finish(self) -> Finish {
        if self == Self::Done {
            Finish::Last
        } else {
            Finish::Half
        }
    }

    fn poll<S: Source, D: Sink>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
        count: impl Fn(usize),
        finish: Finish,
    ) -> Poll<Result<(), Failure>> {
        if *self == Self::Open {
            ready!(Self::poll_bytes(cx, source, sink, count))?;
            *self = Self::Finishing;
        }
        if *self == Self::Finishing {
            ready!(sink.poll_finish(cx, finish)).map_err(Failure::Finish)?;
            *self = Self::Done;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_bytes<S: Source, D: Sink>(
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
        copied: impl Fn(usize),
    ) -> Poll<Result<(), Failure>> {
        let mut moved = 0;
        for _ in 0..TURNS_PER_POLL {
            let room = ready!(sink.poll_room(cx)).map_err(Failure::Write)?;
            if !ready!(source.poll_fill(cx, room)).map_err(Failure::Read)? {
                return Poll::Ready(Ok(()));
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = source.slices(&mut slices);
            let written = ready!(sink.poll_write(cx, &slices[..count])).map_err(Failure::Write)?;
            source.consume(written);
            copied(written);
            moved += written;
            if moved >= BYTES_PER_POLL {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
