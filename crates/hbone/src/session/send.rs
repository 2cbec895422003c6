//! What stream handles do: open, answer, write, read, end, drop.

use std::io::IoSlice;
use std::mem;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use std::collections::VecDeque;
use tokio::time::Instant;

use super::{Phase, ResponseFields, Role, Session, StreamState, is_grant_due};
use crate::Error;
use crate::frame::{Head, Small, code, flag, kind, write_headers};
use crate::tls::records::MAX_PLAINTEXT;

use super::outbox::MAX_QUEUED_DATA;

/// Payload of our DATA frames where the peer allows it: the knee of the measurements. Larger
/// frames gain nothing and make other streams wait.
const DATA_FRAME: u32 = 64 * 1024;

impl Session {
    /// Client: opens a stream with an encoded header block made by `encode`, which is told
    /// whether the peer changed its table size.
    pub(crate) fn open(&mut self, encode: impl FnOnce(&mut Vec<u8>, bool)) -> Result<u32, Error> {
        if let Some(error) = self.closed() {
            return Err(error);
        }
        if self.is_going() {
            return Err(Error::LocalClosed);
        }
        let id = self.last_id;
        self.last_id += 2;
        self.insert(id);
        self.put_headers(id, false, encode);
        Ok(id)
    }

    /// Server: answers a stream; with `end` that is all.
    pub(crate) fn answer(
        &mut self,
        id: u32,
        end: bool,
        encode: impl FnOnce(&mut Vec<u8>, bool),
    ) -> Result<(), Error> {
        self.check(id)?.answered = true;
        self.put_headers(id, end, encode);
        if end {
            self.end_send(id);
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, id: u32) {
        let state = StreamState::new(self.peer.initial_window, self.settings.stream_window);
        self.streams.insert(id, state);
        self.idle_since = None;
    }

    pub(super) fn put_headers(
        &mut self,
        id: u32,
        end: bool,
        encode: impl FnOnce(&mut Vec<u8>, bool),
    ) {
        let changed = mem::take(&mut self.peer.table_size_changed);
        let max_frame = self.peer.max_frame;
        self.control(|out| {
            let mut block = Vec::with_capacity(512);
            encode(&mut block, changed);
            write_headers(out, id, &block, end, max_frame);
        });
    }

    /// The stream, unless it or the connection has failed.
    fn check(&mut self, id: u32) -> Result<&mut StreamState, Error> {
        let closed = self.closed();
        match self.streams.find(id) {
            Some(state) => match &state.error {
                Some(error) => Err(error.clone()),
                None => Ok(state),
            },
            None => Err(closed.unwrap_or(Error::LocalClosed)),
        }
    }

    /// Waits for room to write on a stream: its window, the connection's, and the outbox.
    pub(crate) fn poll_room(&mut self, id: u32, cx: &Context<'_>) -> Poll<Result<usize, Error>> {
        let (queue, window) = (self.outbox.data_room(), self.send_window.max(0));
        let (share, waiting) = (self.share, self.reserved > 0 || !self.blocked.is_empty());
        let state = match self.check(id) {
            Ok(state) if state.send_ended => return Poll::Ready(Err(Error::LocalClosed)),
            Ok(state) => state,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if state.send_window <= 0 {
            park(&mut state.writer, cx);
            return Poll::Pending;
        }
        let stream = usize::try_from(state.send_window).unwrap_or(usize::MAX);
        let connection = queue.min(usize::try_from(window).unwrap_or(usize::MAX));
        if connection > 0 && state.granted {
            return Poll::Ready(Ok(stream.min(connection).min(share)));
        }
        if connection > 0 && !waiting {
            return Poll::Ready(Ok(stream.min(connection)));
        }
        park(&mut state.writer, cx);
        if !mem::replace(&mut state.queued, true) {
            state.granted = false;
            self.blocked.push_back(id);
        }
        if connection > 0 {
            // Only a turn is missing, and those are given out by the driver.
            self.wake_driver();
        }
        Poll::Pending
    }

    /// Gives every blocked stream a turn of equal size, if there is room at all. A turn that is not
    /// used by the time the driver comes round again is lost.
    pub(super) fn unblock(&mut self) {
        if self.blocked.is_empty() || self.send_window <= 0 || self.outbox.data_room() == 0 {
            return;
        }
        self.share = (MAX_QUEUED_DATA / self.blocked.len()).max(MAX_PLAINTEXT);
        while let Some(id) = self.blocked.pop_front() {
            if let Some(state) = self.streams.find(id) {
                (state.queued, state.granted) = (false, true);
                state.wake_writer();
                self.reserved += 1;
            }
        }
    }

    /// Writes up to `room` bytes, which [`poll_room`](Self::poll_room) has just allowed; returns
    /// how many.
    pub(crate) fn write(
        &mut self,
        id: u32,
        slices: &[IoSlice<'_>],
        room: usize,
    ) -> Result<usize, Error> {
        let total = slices
            .iter()
            .map(|slice| slice.len())
            .sum::<usize>()
            .min(room);
        let max_frame = self.peer.max_frame.min(DATA_FRAME) as usize;
        let mut rest = slices
            .iter()
            .map(|slice| &**slice)
            .filter(|slice| !slice.is_empty());
        let mut current: &[u8] = &[];
        let mut left = total;
        while left > 0 {
            let length = left.min(max_frame);
            left -= length;
            let head = Head {
                length: length as u32,
                kind: kind::DATA,
                flags: 0,
                stream: id,
            };
            self.outbox.data(&mut self.records, &head.bytes())?;
            let mut missing = length;
            while missing > 0 {
                if current.is_empty() {
                    current = rest.next().unwrap_or_default();
                }
                let (piece, more) = current.split_at(missing.min(current.len()));
                self.outbox.data(&mut self.records, piece)?;
                missing -= piece.len();
                current = more;
            }
        }
        self.send_window -= total as i64;
        if let Some(state) = self.streams.find(id) {
            state.send_window -= total as i64;
            if mem::take(&mut state.granted) {
                self.reserved = self.reserved.saturating_sub(1);
            }
        }
        self.wake_driver();
        Ok(total)
    }

    /// Sends END_STREAM.
    pub(crate) fn finish(&mut self, id: u32) -> Result<(), Error> {
        if !self.check(id)?.send_ended {
            let head = Head {
                length: 0,
                kind: kind::DATA,
                flags: flag::END_STREAM,
                stream: id,
            };
            self.control(|out| out.extend_from_slice(&head.bytes()));
            self.end_send(id);
        }
        Ok(())
    }

    fn end_send(&mut self, id: u32) {
        if let Some(state) = self.streams.find(id) {
            state.send_ended = true;
        }
        self.streams.settle(id);
    }

    /// Waits for received bytes and moves them to `into`; `false` at the peer's half-close.
    pub(crate) fn poll_read(
        &mut self,
        id: u32,
        cx: &Context<'_>,
        into: &mut VecDeque<Bytes>,
    ) -> Poll<Result<bool, Error>> {
        let Some(state) = self.streams.find(id) else {
            return Poll::Ready(Err(Error::LocalClosed));
        };
        if !state.chunks.is_empty() {
            mem::swap(&mut state.chunks, into);
            state.held = 0;
            return Poll::Ready(Ok(true));
        }
        if state.receive_ended {
            return Poll::Ready(Ok(false));
        }
        if let Some(error) = &state.error {
            return Poll::Ready(Err(error.clone()));
        }
        park(&mut state.reader, cx);
        Poll::Pending
    }

    /// Gives bytes that the handle has consumed back to both windows.
    pub(crate) fn release(&mut self, id: u32, count: usize) {
        let window = self.settings.stream_window;
        if let Some(state) = self.streams.find(id)
            && !state.receive_ended
        {
            state.unreleased += count as u32;
            if is_grant_due(state.unreleased, state.receive_window, window) {
                let grant = mem::take(&mut state.unreleased);
                state.receive_window += i64::from(grant);
                self.control(|out| Small::WindowUpdate(id, grant).write(out));
            }
        }
        self.release_connection(count);
    }

    /// Client: waits for the response.
    pub(crate) fn poll_response(
        &mut self,
        id: u32,
        cx: &Context<'_>,
    ) -> Poll<Result<ResponseFields, Error>> {
        // The response comes first: a refusal may be followed by a reset.
        if let Some(response) = self
            .streams
            .find(id)
            .and_then(|state| state.response.take())
        {
            return Poll::Ready(Ok(*response));
        }
        let state = match self.check(id) {
            Ok(state) => state,
            Err(error) => return Poll::Ready(Err(error)),
        };
        park(&mut state.reader, cx);
        Poll::Pending
    }

    /// Resets a stream for a reason of ours; its handle gets an error from now on.
    pub(crate) fn reset(&mut self, id: u32, code: u32) {
        let live = self.check(id).is_ok_and(|state| !state.is_complete());
        if live {
            self.send_reset(id, code);
            let lost = self.streams.fail(id, Error::LocalClosed);
            self.release_connection(lost);
        }
    }

    /// The handle is gone, and with it the stream.
    pub(crate) fn forget(&mut self, id: u32) {
        self.reset(id, code::CANCEL);
        if let Some(state) = self.streams.remove(id) {
            self.release_connection(state.held as usize);
        }
        if self.streams.is_empty() {
            self.idle_since = Some(Instant::now());
            if self.phase != Phase::Open || self.role == Role::Client {
                self.wake_driver();
            }
        }
    }
}

/// Remembers who waits; a waker is cloned only when the task has changed.
fn park(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}
