//! Header blocks: put together, decoded, and given to their stream.

use super::fields::Malformed;
use super::{NewStream, Phase, RequestFields, ResponseFields, Role, Session};
use crate::Error;
use crate::frame::{Head, Violation, code, flag, strip_headers};
use crate::hpack::{Decoded, Encoder};
use crate::limits::{HEADER_BLOCK_SLACK, MAX_CONTINUATIONS};

/// A header block under way.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    end_stream: bool,
    continuations: u32,
    bytes: Vec<u8>,
}

impl Session {
    pub(super) fn on_headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        if head.stream.is_multiple_of(2) {
            return Err(Violation::protocol(
                "headers on a stream that clients cannot open",
            ));
        }
        let fragment = strip_headers(head, payload)?;
        let end_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.on_block(head.stream, end_stream, fragment);
        }
        let bytes = fragment.to_vec();
        self.block = Some(Block {
            stream: head.stream,
            end_stream,
            continuations: 0,
            bytes,
        });
        self.check_block()
    }

    pub(super) fn on_continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        // Whether it belongs to the block under way was checked for all frames alike.
        let block = self
            .block
            .as_mut()
            .ok_or(Violation::protocol("continuation of no header block"))?;
        block.bytes.extend_from_slice(payload);
        block.continuations += 1;
        self.check_block()?;
        if head.has(flag::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            return self.on_block(block.stream, block.end_stream, &block.bytes);
        }
        Ok(())
    }

    fn check_block(&self) -> Result<(), Violation> {
        let Some(block) = &self.block else {
            return Ok(());
        };
        let limit = self.max_header_list() as usize + HEADER_BLOCK_SLACK;
        if block.bytes.len() > limit || block.continuations > MAX_CONTINUATIONS {
            return Err(Violation::calm("header block is too large"));
        }
        Ok(())
    }

    fn max_header_list(&self) -> u32 {
        match self.role {
            Role::Client => self.settings.client_max_header_list,
            Role::Server => self.settings.server_max_header_list,
        }
    }

    fn on_block(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), Violation> {
        // Decoded whatever becomes of the stream: the compression state is the connection's.
        let decoded = self.hpack.decode(block).map_err(|_| Violation {
            code: code::COMPRESSION_ERROR,
            what: "header block cannot be decoded",
        })?;
        if self.streams.find(id).is_some() {
            self.on_known(id, end, decoded);
            return Ok(());
        }
        match self.role {
            Role::Server if id > self.last_id => {
                self.on_new(id, end, decoded);
                Ok(())
            }
            Role::Client if id >= self.last_id => {
                Err(Violation::protocol("headers on an idle stream"))
            }
            _ if self.role == Role::Client || self.recent_resets.contains(&id) => Ok(()),
            _ => Err(Violation {
                code: code::STREAM_CLOSED,
                what: "headers on a closed stream",
            }),
        }
    }

    /// A response, or trailers, which say nothing in a tunnel but that it ends.
    fn on_known(&mut self, id: u32, end: bool, decoded: Decoded) {
        let expects_response = self.role == Role::Client;
        let Some(state) = self.streams.find(id) else {
            return;
        };
        if state.error.is_some() {
            return;
        }
        if state.receive_ended {
            return self.reject(
                id,
                code::STREAM_CLOSED,
                "headers after the end of the stream",
            );
        }
        if expects_response && !state.answered {
            return self.on_response(id, end, decoded);
        }
        if end {
            self.end_receive(id);
        } else {
            self.reject(
                id,
                code::PROTOCOL_ERROR,
                "trailers that do not end the stream",
            );
        }
    }

    fn on_response(&mut self, id: u32, end: bool, decoded: Decoded) {
        let parsed = match decoded {
            Decoded::Fields(list) => ResponseFields::parse(list),
            Decoded::TooLarge => Err(Malformed),
        };
        let Ok(response) = parsed else {
            return self.reject(id, code::PROTOCOL_ERROR, "malformed response headers");
        };
        if response.status.is_informational() {
            if end {
                self.reject(
                    id,
                    code::PROTOCOL_ERROR,
                    "informational response ends the stream",
                );
            }
            return;
        }
        if let Some(state) = self.streams.find(id) {
            state.answered = true;
            state.response = Some(Box::new(response));
            state.wake_reader();
        }
        if end {
            self.end_receive(id);
        }
    }

    fn on_new(&mut self, id: u32, end: bool, decoded: Decoded) {
        self.last_id = id;
        if id > self.goaway_limit || !matches!(self.phase, Phase::Open | Phase::Draining) {
            return;
        }
        let limit = self.settings.max_concurrent_streams;
        // Handles may outlive their streams for a moment, but not in any number.
        if self.streams.open() >= limit || self.streams.len() >= 4 * limit as usize {
            return self.send_reset(id, code::REFUSED_STREAM);
        }
        let Decoded::Fields(list) = decoded else {
            return self.refuse_oversized(id, end);
        };
        let Ok(fields) = RequestFields::parse(list) else {
            return self.send_reset(id, code::PROTOCOL_ERROR);
        };
        self.insert(id);
        if end {
            self.end_receive(id);
        }
        self.requests.push_back(NewStream { id, fields });
        self.wake_driver();
    }

    /// 431, which the peer can tell from a broken tunnel.
    fn refuse_oversized(&mut self, id: u32, end: bool) {
        self.put_headers(id, true, |out, changed| {
            Encoder::new(out, changed).field(":status", b"431");
        });
        if !end {
            self.send_reset(id, code::NO_ERROR);
        }
    }

    /// Resets a stream because the peer misused it.
    pub(super) fn reject(&mut self, id: u32, code: u32, what: &'static str) {
        self.send_reset(id, code);
        let lost = self.streams.fail(id, Error::PeerProtocol { code, what });
        self.release_connection(lost);
        self.requests.retain(|request| request.id != id);
    }

    pub(super) fn end_receive(&mut self, id: u32) {
        if let Some(state) = self.streams.find(id) {
            state.receive_ended = true;
            state.wake_reader();
        }
        self.streams.settle(id);
    }
}
