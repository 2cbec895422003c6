//! The ends that this crate knows: TCP sockets, and any `AsyncRead + AsyncWrite`.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Finish, Sink, Source, buffers};

/// Read sizes of an end: small at first, larger only while reads fill them, and small again as
/// soon as the other side does not keep up. Bounds what a stalled connection can hold.
const READ_STEPS: [usize; 4] = [4 * 1024, 16 * 1024, 64 * 1024, buffers::BUFFER_SIZE];

/// Bytes read and not yet written.
#[derive(Debug)]
struct Held {
    buffer: Box<[u8]>,
    range: Range<usize>,
}

/// The reading half's memory: nothing while idle.
#[derive(Debug, Default)]
struct Intake {
    held: Option<Held>,
    step: u8,
}

impl Intake {
    fn poll_fill<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<bool>> {
        if self.held.is_some() {
            return Poll::Ready(Ok(true));
        }
        let step = READ_STEPS[usize::from(self.step)];
        let mut buffer = buffers::take();
        let mut read = ReadBuf::new(&mut buffer[..step.min(limit)]);
        let outcome = Pin::new(io).poll_read(cx, &mut read);
        let filled = read.filled().len();
        if !matches!(outcome, Poll::Ready(Ok(()))) || filled == 0 {
            buffers::give(buffer);
            return outcome.map_ok(|()| false);
        }
        if filled == step && usize::from(self.step) + 1 < READ_STEPS.len() {
            self.step += 1;
        }
        self.held = Some(Held {
            buffer,
            range: 0..filled,
        });
        Poll::Ready(Ok(true))
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        match (&self.held, into.first_mut()) {
            (Some(held), Some(slot)) => {
                *slot = IoSlice::new(&held.buffer[held.range.clone()]);
                1
            }
            _ => 0,
        }
    }

    fn consume(&mut self, count: usize) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        held.range.start += count;
        if held.range.is_empty() {
            buffers::give(held.buffer);
            return;
        }
        self.step = self.step.saturating_sub(1);
        self.held = Some(held.shrunk());
    }
}

impl Held {
    /// What stays over a poll keeps only about its own size: the shared buffer goes back unless
    /// most of it is still in use.
    fn shrunk(self) -> Self {
        if self.range.len() > self.buffer.len() / 2 {
            return self;
        }
        let rest: Box<[u8]> = self.buffer[self.range.clone()].into();
        buffers::give(self.buffer);
        Self {
            range: 0..rest.len(),
            buffer: rest,
        }
    }
}

/// A TCP connection as an end of a copy.
#[derive(Debug)]
pub struct TcpEnd {
    stream: TcpStream,
    intake: Intake,
}

impl TcpEnd {
    /// Wraps a connection; its options are the caller's.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            intake: Intake::default(),
        }
    }

    /// The connection, for its options and addresses.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Source for TcpEnd {
    fn poll_fill(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<bool>> {
        self.intake.poll_fill(&mut self.stream, cx, limit)
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.intake.slices(into)
    }

    fn consume(&mut self, count: usize) {
        self.intake.consume(count);
    }
}

impl Sink for TcpEnd {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_write_ready(cx))?;
        Poll::Ready(Ok(buffers::BUFFER_SIZE))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            [one] => Pin::new(&mut self.stream).poll_write(cx, one),
            many => Pin::new(&mut self.stream).poll_write_vectored(cx, many),
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>, finish: Finish) -> Poll<io::Result<()>> {
        match finish {
            Finish::Half => match ready!(Pin::new(&mut self.stream).poll_shutdown(cx)) {
                // The peer has closed both directions already: nobody is left to be told.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
                outcome => Poll::Ready(outcome),
            },
            // The close that follows sends the same FIN and saves a system call per connection.
            Finish::Last => Poll::Ready(Ok(())),
        }
    }

    fn abort(&mut self) {
        // A reset is a courtesy: when the option cannot be set the peer sees a plain close.
        let socket = socket2::SockRef::from(&self.stream);
        drop(socket.set_linger(Some(std::time::Duration::ZERO)));
    }
}

/// Any byte stream as an end of a copy: pipes in tests, streams of other libraries.
#[derive(Debug)]
pub struct IoEnd<T> {
    io: T,
    intake: Intake,
}

impl<T> IoEnd<T> {
    /// Wraps a byte stream.
    pub fn new(io: T) -> Self {
        Self {
            io,
            intake: Intake::default(),
        }
    }

    /// The stream inside.
    pub fn io(&self) -> &T {
        &self.io
    }

    /// Bytes of memory held for what was read and not yet written.
    #[cfg(test)]
    pub(super) fn held_capacity(&self) -> usize {
        self.intake
            .held
            .as_ref()
            .map_or(0, |held| held.buffer.len())
    }
}

impl<T: AsyncRead + Unpin> Source for IoEnd<T> {
    fn poll_fill(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<bool>> {
        self.intake.poll_fill(&mut self.io, cx, limit)
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.intake.slices(into)
    }

    fn consume(&mut self, count: usize) {
        self.intake.consume(count);
    }
}

impl<T: AsyncWrite + Unpin> Sink for IoEnd<T> {
    fn poll_room(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(READ_STEPS[1]))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        // Streams that buffer send on their own once poked; a full transport is no reason to wait.
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>, _finish: Finish) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn abort(&mut self) {}
}
