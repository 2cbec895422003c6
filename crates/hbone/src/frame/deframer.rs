//! Cuts a byte stream into frames, whatever pieces it arrives in. DATA is passed through piece by
//! piece as it comes; small frames are collected; what is ignored is not even collected.

use super::{HEAD_LEN, Head, Violation, flag, kind};
use crate::limits::MAX_CONTROL_PAYLOAD;

/// What the deframer found.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A DATA frame begins. Its whole length, padding included, counts against the windows.
    DataStart(Head),
    /// Padding or pad length of the current DATA frame: this many bytes were used up unseen.
    Padding(Head, u32),
    /// Payload of the current DATA frame. Never empty.
    Data(Head, &'a [u8]),
    /// The current DATA frame is complete.
    DataEnd(Head),
    /// A complete frame of another type.
    Frame(Head, &'a [u8]),
}

#[derive(Debug, Default)]
enum State {
    /// Collecting a head.
    #[default]
    Head,
    /// In a DATA frame: the pad length is still to come.
    PadLength(Head),
    /// In a DATA frame: payload and padding still to come.
    Data {
        head: Head,
        payload: u32,
        padding: u32,
    },
    /// Collecting a frame of another type.
    Collect(Head),
    /// Passing over a frame whose content is ignored.
    Skip { head: Head, left: u32 },
}

/// Incremental frame parser.
#[derive(Debug)]
pub struct Deframer {
    max_frame: u32,
    state: State,
    /// A head cut by the end of the input, and how much of it is there.
    head: ([u8; HEAD_LEN], usize),
    /// A frame cut by the end of the input. Kept until the call after it was handed out.
    partial: Vec<u8>,
}

impl Deframer {
    /// A parser that takes frames of up to `max_frame` bytes.
    pub fn new(max_frame: u32) -> Self {
        Self {
            max_frame,
            state: State::Head,
            head: ([0; HEAD_LEN], 0),
            partial: Vec::new(),
        }
    }

    /// Whether the input so far ends at a frame boundary.
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Head) && self.head.1 == 0
    }

    /// Takes the next item off the front of `input`; `None` when more input is needed.
    ///
    /// # Errors
    /// A frame that is too large or whose padding is longer than itself. The connection is over:
    /// the parser must not be used again.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'s>>, Violation> {
        loop {
            match self.state {
                State::Head => {
                    let Some(head) = self.take_head(input) else {
                        return Ok(None);
                    };
                    self.begin(head)?;
                    if head.kind == kind::DATA {
                        return Ok(Some(Item::DataStart(head)));
                    }
                }
                State::PadLength(head) => {
                    let Some((&padding, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    let payload = (head.length - 1).checked_sub(u32::from(padding));
                    let payload =
                        payload.ok_or(Violation::protocol("padding exceeds the frame"))?;
                    self.state = State::Data {
                        head,
                        payload,
                        padding: u32::from(padding),
                    };
                    return Ok(Some(Item::Padding(head, 1)));
                }
                State::Data {
                    head,
                    payload: 0,
                    padding: 0,
                } => {
                    self.state = State::Head;
                    return Ok(Some(Item::DataEnd(head)));
                }
                State::Data {
                    head,
                    payload,
                    padding,
                } => {
                    return Ok(self.take_data(head, payload, padding, input));
                }
                State::Collect(head) => return Ok(self.collect(head, input)),
                State::Skip { head, left } => {
                    let take = (left as usize).min(input.len());
                    *input = &input[take..];
                    let left = left - take as u32;
                    if left > 0 {
                        self.state = State::Skip { head, left };
                        return Ok(None);
                    }
                    self.state = State::Head;
                    return Ok(Some(Item::Frame(head, &[])));
                }
            }
        }
    }

    fn take_head(&mut self, input: &mut &[u8]) -> Option<Head> {
        self.partial = Vec::new();
        let (bytes, have) = &mut self.head;
        if *have == 0
            && let Some((head, rest)) = input.split_first_chunk()
        {
            *input = rest;
            return Some(Head::parse(head));
        }
        let (piece, rest) = input.split_at((HEAD_LEN - *have).min(input.len()));
        *input = rest;
        bytes[*have..*have + piece.len()].copy_from_slice(piece);
        *have += piece.len();
        if *have < HEAD_LEN {
            return None;
        }
        *have = 0;
        Some(Head::parse(bytes))
    }

    /// Decides by its head alone what becomes of a frame, so that nothing is collected that
    /// would be refused or ignored when complete.
    fn begin(&mut self, head: Head) -> Result<(), Violation> {
        if head.length > self.max_frame {
            return Err(Violation::size("frame exceeds the size we allow"));
        }
        self.state = match head.kind {
            kind::DATA if head.has(flag::PADDED) => {
                if head.length == 0 {
                    return Err(Violation::size("padded frame is empty"));
                }
                State::PadLength(head)
            }
            kind::DATA => State::Data {
                head,
                payload: head.length,
                padding: 0,
            },
            kind::PRIORITY | 10.. => State::Skip {
                head,
                left: head.length,
            },
            _ if head.length > MAX_CONTROL_PAYLOAD => {
                return Err(Violation::calm("frame without payload is too large"));
            }
            _ => State::Collect(head),
        };
        Ok(())
    }

    fn take_data<'a>(
        &mut self,
        head: Head,
        payload: u32,
        padding: u32,
        input: &mut &'a [u8],
    ) -> Option<Item<'a>> {
        if input.is_empty() {
            return None;
        }
        let wanted = if payload > 0 { payload } else { padding };
        let (piece, rest) = input.split_at((wanted as usize).min(input.len()));
        *input = rest;
        let taken = piece.len() as u32;
        if payload > 0 {
            self.state = State::Data {
                head,
                payload: payload - taken,
                padding,
            };
            return Some(Item::Data(head, piece));
        }
        self.state = State::Data {
            head,
            payload,
            padding: padding - taken,
        };
        Some(Item::Padding(head, taken))
    }

    /// A complete frame is handed out of the input where it lies; only one that is cut by the
    /// end of the input is put together in `partial`.
    fn collect<'s, 'i: 's>(&'s mut self, head: Head, input: &mut &'i [u8]) -> Option<Item<'s>> {
        let length = head.length as usize;
        let (piece, rest) = input.split_at((length - self.partial.len()).min(input.len()));
        *input = rest;
        if piece.len() == length {
            self.state = State::Head;
            return Some(Item::Frame(head, piece));
        }
        self.partial.extend_from_slice(piece);
        if self.partial.len() < length {
            return None;
        }
        self.state = State::Head;
        Some(Item::Frame(head, &self.partial))
    }
}
