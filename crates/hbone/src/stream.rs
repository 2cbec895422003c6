//! One tunnelled byte stream, as either side sees it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ambit_net::copy::{Finish, Sink, Source};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Error;
use crate::frame::code;
use crate::session::Handle;

/// A byte stream inside a tunnel. An end for [`ambit_net::copy`], and an
/// `AsyncRead + AsyncWrite` for everything else (a TLS session inside a tunnel, an HTTP library).
/// Dropped before both directions have ended, it resets the stream.
///
/// Its errors are `io::Error`s with a [`crate::Error`] inside: see [`Error::from_io`].
pub struct Stream {
    handle: Handle,
    /// Taken from the session and not consumed yet. The windows count it as not taken.
    held: VecDeque<Bytes>,
}

impl Stream {
    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            handle,
            held: VecDeque::new(),
        }
    }

    /// The HTTP/2 stream number, for logs.
    pub fn id(&self) -> u32 {
        self.handle.id
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let held = self.held.iter().map(Bytes::len).sum();
        self.handle.session().release_connection(held);
    }
}

impl Source for Stream {
    fn poll_fill(&mut self, cx: &mut Context<'_>, _limit: usize) -> Poll<io::Result<bool>> {
        if !self.held.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let read = self
            .handle
            .session()
            .poll_read(self.handle.id, cx, &mut self.held);
        read.map_err(Error::into)
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, chunk) in into.iter_mut().zip(&self.held) {
            *slot = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    fn consume(&mut self, count: usize) {
        let mut left = count;
        while let Some(chunk) = self.held.front_mut() {
            if chunk.len() > left {
                drop(chunk.split_to(left));
                break;
            }
            left -= chunk.len();
            self.held.pop_front();
        }
        if self.held.is_empty() && self.held.capacity() > IDLE_CHUNKS {
            self.held = VecDeque::new();
        }
        self.handle.session().release(self.handle.id, count);
    }
}

/// Slots for chunks that an idle stream may keep.
const IDLE_CHUNKS: usize = 4;

impl Sink for Stream {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.handle
            .session()
            .poll_room(self.handle.id, cx)
            .map_err(Error::into)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut session = self.handle.session();
        let room = ready!(session.poll_room(self.handle.id, cx)).map_err(io::Error::from)?;
        Poll::Ready(
            session
                .write(self.handle.id, slices, room)
                .map_err(Error::into),
        )
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>, _finish: Finish) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.handle
                .session()
                .finish(self.handle.id)
                .map_err(Error::into),
        )
    }

    fn abort(&mut self) {
        self.handle
            .session()
            .reset(self.handle.id, code::CONNECT_ERROR);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !ready!(self.poll_fill(cx, buf.remaining()))? {
            return Poll::Ready(Ok(()));
        }
        let mut taken = 0;
        for chunk in &self.held {
            let piece = &chunk[..chunk.len().min(buf.remaining())];
            buf.put_slice(piece);
            taken += piece.len();
        }
        self.consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Sink::poll_write(&mut *self, cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends what is queued without being asked.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx, Finish::Half)
    }
}
