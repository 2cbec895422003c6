//! What a connection still has to send: frames, and the records made of them.
//!
//! Small frames are collected and sealed together when the connection flushes, so that many small
//! messages share a record and a system call. Bulk payload is sealed at once, straight from the
//! buffer it was read into. Both buffers are borrowed from the thread while there is something in
//! them; an idle connection has neither.

use std::cell::RefCell;

use crate::Error;
use crate::limits::MAX_QUEUED_CONTROL;
use crate::tls::records::{MAX_PLAINTEXT, Records, room_for};

/// Payload that may wait for the socket on one connection: one large write.
pub(crate) const MAX_QUEUED_DATA: usize = 256 * 1024;

/// Kept free for control frames when payload fills the rest.
const RESERVE: usize = 2 * MAX_PLAINTEXT;

const SEALED_SIZE: usize = room_for(MAX_QUEUED_DATA + RESERVE) + 1024;

/// Spare buffers kept per thread.
const MAX_SPARE_SEALED: usize = 4;
const MAX_SPARE_PLAIN: usize = 64;

thread_local! {
    static SEALED: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static PLAIN: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The send queue of one connection.
#[derive(Default)]
pub(super) struct Outbox {
    /// Frames that are not sealed yet, at most one record's worth.
    plain: Vec<u8>,
    /// Records on their way, `start..end` of the buffer.
    sealed: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    /// Control frames that found no room.
    overflow: Vec<u8>,
}

impl Outbox {
    /// Payload bytes that may be put now.
    pub(super) fn data_room(&self) -> usize {
        if !self.overflow.is_empty() {
            return 0;
        }
        (MAX_QUEUED_DATA).saturating_sub(self.end + self.plain.len())
    }

    /// Queues control frames.
    pub(super) fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        if self.overflow.is_empty() && self.plain.len() < MAX_PLAINTEXT / 2 {
            self.borrow_plain();
            write(&mut self.plain);
        } else {
            write(&mut self.overflow);
        }
        if self.overflow.len() > MAX_QUEUED_CONTROL {
            let what = "too many frames while not reading the answers";
            return Err(Error::PeerProtocol {
                code: crate::frame::code::ENHANCE_YOUR_CALM,
                what,
            });
        }
        Ok(())
    }

    /// Queues bytes of a DATA frame, or its head. The caller has asked for room.
    pub(super) fn data(&mut self, records: &mut Records, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.plain.is_empty()
                && let Some((record, rest)) = bytes.split_at_checked(MAX_PLAINTEXT)
            {
                self.seal(records, record)?;
                bytes = rest;
                continue;
            }
            self.borrow_plain();
            let space = MAX_PLAINTEXT.saturating_sub(self.plain.len());
            let (piece, rest) = bytes.split_at(space.min(bytes.len()));
            self.plain.extend_from_slice(piece);
            bytes = rest;
            if self.plain.len() >= MAX_PLAINTEXT {
                self.seal_plain(records)?;
            }
        }
        Ok(())
    }

    /// Seals what can be sealed, and returns the records to send.
    pub(super) fn prepare(&mut self, records: &mut Records) -> Result<&[u8], Error> {
        self.seal_plain(records)?;
        if !self.overflow.is_empty() {
            let fits = self.free().min(self.overflow.len());
            if fits == self.overflow.len() {
                let overflow = std::mem::take(&mut self.overflow);
                self.data(records, &overflow)?;
                self.seal_plain(records)?;
            }
        }
        Ok(self
            .sealed
            .as_ref()
            .map_or(&[], |sealed| &sealed[self.start..self.end]))
    }

    /// Seals the closing alert after everything else.
    pub(super) fn close(&mut self, records: &mut Records) -> Result<(), Error> {
        self.seal_plain(records)?;
        self.borrow_sealed();
        if let Some(sealed) = &mut self.sealed
            && sealed.len() - self.end >= room_for(2)
        {
            self.end += records.seal_close(&mut sealed[self.end..])?;
        }
        Ok(())
    }

    /// Notes that the socket took `count` bytes.
    pub(super) fn sent(&mut self, count: usize) {
        self.start += count;
        if self.start < self.end {
            return;
        }
        (self.start, self.end) = (0, 0);
        if let Some(sealed) = self.sealed.take() {
            give(&SEALED, sealed, MAX_SPARE_SEALED);
        }
    }

    /// Plaintext bytes for which there is certainly room among the sealed, the reserve included.
    fn free(&self) -> usize {
        (MAX_QUEUED_DATA + RESERVE).saturating_sub(self.end + self.plain.len())
    }

    fn seal_plain(&mut self, records: &mut Records) -> Result<(), Error> {
        if self.plain.is_empty() || room_for(self.plain.len()) > SEALED_SIZE - self.end {
            return Ok(());
        }
        let mut plain = std::mem::take(&mut self.plain);
        for record in plain.chunks(MAX_PLAINTEXT) {
            self.seal(records, record)?;
        }
        plain.clear();
        if plain.capacity() <= 2 * MAX_PLAINTEXT {
            give(&PLAIN, plain, MAX_SPARE_PLAIN);
        }
        Ok(())
    }

    fn seal(&mut self, records: &mut Records, plaintext: &[u8]) -> Result<(), Error> {
        self.borrow_sealed();
        if let Some(sealed) = &mut self.sealed {
            self.end += records.seal(plaintext, &mut sealed[self.end..])?;
        }
        Ok(())
    }

    fn borrow_sealed(&mut self) {
        if self.sealed.is_none() {
            let spare = SEALED.with(|spare| spare.borrow_mut().pop());
            self.sealed = Some(spare.unwrap_or_else(|| vec![0; SEALED_SIZE].into_boxed_slice()));
        }
    }

    fn borrow_plain(&mut self) {
        if self.plain.capacity() == 0
            && let Some(spare) = PLAIN.with(|spare| spare.borrow_mut().pop())
        {
            self.plain = spare;
        }
    }
}

fn give<T>(pool: &'static std::thread::LocalKey<RefCell<Vec<T>>>, buffer: T, max: usize) {
    // During the thread's end there is no pool any more, and no need for one.
    let _gone = pool.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < max {
            pool.push(buffer);
        }
    });
}
