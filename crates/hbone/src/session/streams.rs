//! The streams of a connection.
//!
//! ```text
//!            send                          receive
//!   Open ──finish──▶ Ended       Open ──END_STREAM──▶ Ended
//!     └───── reset by either side, connection lost ─────▶ error (both halves)
//! ```
//! A stream leaves the table when its handle is dropped, so that a handle always finds its state.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::task::Waker;

use bytes::Bytes;

use super::ResponseFields;
use crate::Error;

/// One stream.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) send_window: i64,
    pub(super) receive_window: i64,
    /// Bytes consumed and not granted again yet.
    pub(super) unreleased: u32,
    /// Bytes in `chunks`.
    pub(super) held: u32,
    pub(super) chunks: VecDeque<Bytes>,
    /// The read in which the oldest of `chunks` came.
    pub(super) batch: u32,
    /// Why neither half works any more.
    pub(super) error: Option<Error>,
    pub(super) send_ended: bool,
    pub(super) receive_ended: bool,
    /// Server: the response was sent. Client: the response has come.
    pub(super) answered: bool,
    /// Whether it counts against the concurrency limit.
    open: bool,
    /// Waits in the connection's row of blocked streams.
    pub(super) queued: bool,
    /// Its turn in that row has come.
    pub(super) granted: bool,
    pub(super) response: Option<Box<ResponseFields>>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl StreamState {
    pub(super) fn new(send_window: u32, receive_window: u32) -> Self {
        Self {
            send_window: i64::from(send_window),
            receive_window: i64::from(receive_window),
            unreleased: 0,
            held: 0,
            chunks: VecDeque::new(),
            batch: 0,
            error: None,
            send_ended: false,
            receive_ended: false,
            answered: false,
            open: true,
            queued: false,
            granted: false,
            response: None,
            reader: None,
            writer: None,
        }
    }

    /// Whether both halves ended as they should.
    pub(super) fn is_complete(&self) -> bool {
        self.send_ended && self.receive_ended
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Fails both halves, unless the receiving one has ended already: what was received in full
    /// stays readable. Returns how many received bytes were thrown away.
    fn fail(&mut self, error: Error) -> usize {
        self.error.get_or_insert(error);
        let lost = if self.receive_ended {
            0
        } else {
            self.chunks = VecDeque::new();
            std::mem::take(&mut self.held)
        };
        self.wake_reader();
        self.wake_writer();
        lost as usize
    }
}

/// Stream numbers are consecutive odd numbers; one multiplication spreads them well enough, and a
/// peer cannot choose them freely.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// All streams whose handle is alive.
#[derive(Default)]
pub(super) struct Streams {
    states: HashMap<u32, StreamState, BuildHasherDefault<IdHasher>>,
    open: u32,
}

impl Streams {
    /// Streams that count against the concurrency limit.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    pub(super) fn find(&mut self, id: u32) -> Option<&mut StreamState> {
        self.states.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: u32, state: StreamState) {
        self.open += u32::from(state.open);
        self.states.insert(id, state);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<StreamState> {
        let state = self.states.remove(&id)?;
        self.open -= u32::from(state.open);
        Some(state)
    }

    /// Takes the stream out of the concurrency count if it has ended for the protocol.
    pub(super) fn settle(&mut self, id: u32) {
        if let Some(state) = self.states.get_mut(&id)
            && state.open
            && (state.is_complete() || state.error.is_some())
        {
            state.open = false;
            self.open -= 1;
        }
    }

    /// Fails one stream; returns how many received bytes were thrown away.
    pub(super) fn fail(&mut self, id: u32, error: Error) -> usize {
        let lost = self
            .states
            .get_mut(&id)
            .map_or(0, |state| state.fail(error));
        self.settle(id);
        lost
    }

    pub(super) fn fail_all(&mut self, error: &Error) {
        for state in self.states.values_mut() {
            state.fail(error.clone());
            state.open = false;
        }
        self.open = 0;
    }

    /// The streams above `last`.
    pub(super) fn above(&self, last: u32) -> Vec<u32> {
        self.states
            .keys()
            .copied()
            .filter(|id| *id > last)
            .collect()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut StreamState> {
        self.states.values_mut()
    }
}
