//! One tunnelled byte stream, as either side sees it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ambit_net::copy::{Finish, Sink, Source};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Error;

/// A byte stream inside a tunnel. An end for [`ambit_net::copy`], and an
/// `AsyncRead + AsyncWrite` for everything else (a TLS session inside a tunnel, an HTTP library).
/// Dropped before both directions have ended, it resets the stream.
pub struct Stream {
    send: h2::SendStream<Bytes>,
    receive: h2::RecvStream,
    held: Bytes,
}

impl Stream {
    pub(crate) fn new(send: h2::SendStream<Bytes>, receive: h2::RecvStream) -> Self {
        Self {
            send,
            receive,
            held: Bytes::new(),
        }
    }
}

pub(crate) fn convert(error: &h2::Error) -> Error {
    if let Some(io) = error.get_io() {
        return Error::Transport(io.kind());
    }
    let code = error.reason().map_or(2, u32::from);
    if error.is_go_away() {
        Error::PeerGoAway(code)
    } else {
        Error::PeerReset(code)
    }
}

impl Source for Stream {
    fn poll_fill(&mut self, cx: &mut Context<'_>, _limit: usize) -> Poll<io::Result<bool>> {
        while self.held.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(chunk)) => self.held = chunk,
                Some(Err(error)) => return Poll::Ready(Err(convert(&error).into())),
                None => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        match into.first_mut() {
            Some(slot) if !self.held.is_empty() => {
                *slot = IoSlice::new(&self.held);
                1
            }
            _ => 0,
        }
    }

    fn consume(&mut self, count: usize) {
        drop(self.held.split_to(count));
        // Only fails when the connection is gone, which the next read reports.
        drop(self.receive.flow_control().release_capacity(count));
    }
}

impl Sink for Stream {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.send
            .reserve_capacity(ambit_net::copy::buffers::BUFFER_SIZE);
        loop {
            if self.send.capacity() > 0 {
                return Poll::Ready(Ok(self.send.capacity()));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(convert(&error).into())),
                None => return Poll::Ready(Err(Error::LocalClosed.into())),
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx))?;
        let mut data = BytesMut::new();
        for slice in slices {
            let take = slice.len().min(room - data.len());
            data.extend_from_slice(&slice[..take]);
        }
        let count = data.len();
        match self.send.send_data(data.freeze(), false) {
            Ok(()) => Poll::Ready(Ok(count)),
            Err(error) => Poll::Ready(Err(convert(&error).into())),
        }
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>, _finish: Finish) -> Poll<io::Result<()>> {
        let sent = self.send.send_data(Bytes::new(), true);
        Poll::Ready(sent.map_err(|error| convert(&error).into()))
    }

    fn abort(&mut self) {
        self.send.send_reset(h2::Reason::CONNECT_ERROR);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if ready!(self.poll_fill(cx, buf.remaining()))? {
            let mut slices = [IoSlice::new(&[])];
            let count = self.slices(&mut slices);
            let mut taken = 0;
            for slice in &slices[..count] {
                let take = slice.len().min(buf.remaining());
                buf.put_slice(&slice[..take]);
                taken += take;
            }
            self.consume(taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Sink::poll_write(&mut *self, cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx, Finish::Half)
    }
}
