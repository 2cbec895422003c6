//! What the peer's frames do to the connection. Anything it may not send ends in a
//! [`Violation`], which ends the connection, or in the reset of one stream.

use bytes::Bytes;

use super::{DRAIN_PING, Phase, Role, Session};
use crate::Error;
use crate::frame::{
    Head, Item, MAX_WINDOW, Small, Violation, code, flag, kind, parse_goaway, parse_settings,
    parse_u32,
};
use crate::limits::UNANSWERED_RESET_COST;

/// Where received plaintext lies, and so how a stream gets to own its part of it.
pub(super) enum Intake<'a> {
    /// In a buffer of the thread's, which is needed again: copied.
    Copy(&'a [u8]),
    /// In a block of its own: shared.
    Share(&'a Bytes),
}

/// A slice smaller than this is copied out of a shared block rather than keeping it alive.
const MIN_SHARED: usize = 4 * 1024;

impl Intake<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Copy(bytes) => bytes,
            Self::Share(block) => block,
        }
    }

    /// `stalled` says that the stream has not taken what came before: then what comes now may
    /// stay for long and must not keep more alive than itself.
    fn own(&self, piece: &[u8], stalled: bool) -> Bytes {
        match self {
            Self::Share(block) if piece.len() >= MIN_SHARED && !stalled => block.slice_ref(piece),
            _ => Bytes::copy_from_slice(piece),
        }
    }
}

impl Session {
    /// Takes one item; a violation ends the connection.
    pub(super) fn on_item(&mut self, item: &Item<'_>, intake: &Intake<'_>) {
        if matches!(self.phase, Phase::Closing(_) | Phase::Closed(_)) {
            return;
        }
        if let Err(violation) = self.take_item(item, intake) {
            self.violate(violation);
        }
    }

    fn take_item(&mut self, item: &Item<'_>, intake: &Intake<'_>) -> Result<(), Violation> {
        match *item {
            Item::DataStart(head) => {
                self.check_order(head)?;
                self.on_data_start(head)
            }
            Item::Data(head, piece) => {
                self.on_data(head.stream, piece, intake);
                Ok(())
            }
            Item::Padding(head, count) => {
                self.release(head.stream, count as usize);
                Ok(())
            }
            Item::DataEnd(head) => {
                if head.has(flag::END_STREAM)
                    && self
                        .stream(head.stream)
                        .is_some_and(|state| state.error.is_none())
                {
                    self.end_receive(head.stream);
                }
                Ok(())
            }
            Item::Frame(head, payload) => {
                self.check_order(head)?;
                self.on_frame(head, payload)
            }
        }
    }

    /// SETTINGS come first, and nothing comes between the frames of a header block.
    fn check_order(&self, head: Head) -> Result<(), Violation> {
        if !self.peer_ready && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Violation::protocol("the first frame is not settings"));
        }
        match &self.block {
            Some(block) if head.kind != kind::CONTINUATION || head.stream != block.stream => {
                Err(Violation::protocol("frame inside a header block"))
            }
            _ => Ok(()),
        }
    }

    fn on_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        let on_connection = matches!(head.kind, kind::SETTINGS | kind::PING | kind::GOAWAY);
        let on_stream = matches!(
            head.kind,
            kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION
        );
        if (on_connection && head.stream != 0) || (on_stream && head.stream == 0) {
            return Err(Violation::protocol("frame on a stream it cannot be on"));
        }
        match head.kind {
            kind::HEADERS => self.on_headers(head, payload),
            kind::CONTINUATION => self.on_continuation(head, payload),
            kind::PRIORITY => self.on_priority(head),
            kind::RST_STREAM => self.on_reset(head.stream, parse_u32(payload)?),
            kind::SETTINGS => self.on_settings(head, payload),
            kind::PUSH_PROMISE => Err(Violation::protocol("push was not allowed")),
            kind::PING => self.on_ping(head, payload),
            kind::GOAWAY => self.on_goaway(payload),
            kind::WINDOW_UPDATE => self.on_window_update(head.stream, parse_u32(payload)?),
            _ => self.charge(1),
        }
    }

    fn on_priority(&mut self, head: Head) -> Result<(), Violation> {
        if head.length != 5 {
            return Err(Violation::size("priority payload is not five bytes"));
        }
        self.charge(1)
    }

    fn on_data_start(&mut self, head: Head) -> Result<(), Violation> {
        if head.stream == 0 {
            return Err(Violation::protocol("data on the connection"));
        }
        if head.length == 0 && !head.has(flag::END_STREAM) {
            self.charge(1)?;
        }
        let length = i64::from(head.length);
        self.receive_window -= length;
        if self.receive_window < 0 {
            return Err(Violation::flow("data beyond the connection's window"));
        }
        let server = self.role == Role::Server;
        let Some(state) = self.stream(head.stream) else {
            return self.on_closed(head.stream);
        };
        if state.error.is_some() {
            return Ok(());
        }
        state.receive_window -= length;
        if state.receive_ended {
            self.reject(
                head.stream,
                code::STREAM_CLOSED,
                "data after the end of the stream",
            );
        } else if state.receive_window < 0 {
            self.reject(
                head.stream,
                code::FLOW_CONTROL_ERROR,
                "data beyond the stream's window",
            );
        } else if !state.answered && !server {
            self.reject(
                head.stream,
                code::PROTOCOL_ERROR,
                "data before the response",
            );
        }
        Ok(())
    }

    /// Data on a stream that is not in the table any more: expected after our own reset, tolerated
    /// up to a point otherwise.
    fn on_closed(&mut self, id: u32) -> Result<(), Violation> {
        if self.is_idle(id) {
            return Err(Violation::protocol("data on an idle stream"));
        }
        if !self.recent_resets.contains(&id) && id <= self.goaway_limit {
            self.charge(1)?;
            self.send_reset(id, code::STREAM_CLOSED);
        }
        Ok(())
    }

    /// Whether nobody has opened stream `id` yet.
    fn is_idle(&self, id: u32) -> bool {
        match self.role {
            Role::Server => id.is_multiple_of(2) || id > self.last_id,
            Role::Client => id.is_multiple_of(2) || id >= self.last_id,
        }
    }

    fn on_data(&mut self, id: u32, piece: &[u8], intake: &Intake<'_>) {
        let batch = self.batch;
        match self.streams.find(id) {
            Some(state) if state.error.is_none() && !state.receive_ended => {
                if state.chunks.is_empty() {
                    state.batch = batch;
                }
                let stalled = state.batch != batch;
                state.chunks.push_back(intake.own(piece, stalled));
                state.held += piece.len() as u32;
                state.wake_reader();
            }
            _ => self.release_connection(piece.len()),
        }
    }

    fn on_reset(&mut self, id: u32, code: u32) -> Result<(), Violation> {
        if self.is_idle(id) {
            return Err(Violation::protocol("reset of an idle stream"));
        }
        let server = self.role == Role::Server;
        let unanswered = self
            .stream(id)
            .is_some_and(|state| server && !state.answered);
        self.charge(if unanswered { UNANSWERED_RESET_COST } else { 1 })?;
        let lost = self.streams.fail(id, Error::PeerReset(code));
        self.release_connection(lost);
        if unanswered && let Some(at) = self.requests.iter().position(|request| request.id == id) {
            self.requests.remove(at);
            self.forget(id);
        }
        Ok(())
    }

    fn on_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        if head.has(flag::ACK) {
            let empty = payload.is_empty();
            return if empty {
                Ok(())
            } else {
                Err(Violation::size("settings ack has a payload"))
            };
        }
        self.charge(1)?;
        let before = i64::from(self.peer.initial_window);
        parse_settings(payload, self.role == Role::Client, &mut self.peer)?;
        self.peer_ready = true;
        let change = i64::from(self.peer.initial_window) - before;
        if change != 0 {
            for state in self.streams.iter_mut() {
                state.send_window += change;
                if state.send_window > i64::from(MAX_WINDOW) {
                    return Err(Violation::flow(
                        "initial window overflows a stream's window",
                    ));
                }
                state.wake_writer();
            }
        }
        self.control(|out| Small::SettingsAck.write(out));
        Ok(())
    }

    fn on_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Violation> {
        let token = payload
            .try_into()
            .map_err(|_| Violation::size("ping is not eight bytes"))?;
        if !head.has(flag::ACK) {
            self.charge(1)?;
            self.control(|out| Small::Pong(token).write(out));
        } else if token == DRAIN_PING {
            self.fix_last_stream();
        }
        Ok(())
    }

    fn on_goaway(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let (last, code) = parse_goaway(payload)?;
        self.charge(1)?;
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            // A client that goes opens nothing more, so there is nothing to announce to it.
            self.goaway_limit = if self.role == Role::Server {
                self.last_id
            } else {
                MAX_WINDOW
            };
        }
        if self.role == Role::Client {
            for id in self.streams.above(last) {
                let lost = self.streams.fail(id, Error::PeerGoAway(code));
                self.release_connection(lost);
            }
        }
        self.wake_driver();
        Ok(())
    }

    fn on_window_update(&mut self, id: u32, increment: u32) -> Result<(), Violation> {
        let increment = i64::from(increment & MAX_WINDOW);
        if id == 0 {
            self.send_window += increment;
            if increment == 0 {
                return Err(Violation::protocol("window update of zero"));
            }
            if self.send_window > i64::from(MAX_WINDOW) {
                return Err(Violation::flow("connection window overflows"));
            }
            return Ok(());
        }
        if self.is_idle(id) {
            return Err(Violation::protocol("window update on an idle stream"));
        }
        let Some(state) = self.stream(id).filter(|state| state.error.is_none()) else {
            return Ok(());
        };
        state.send_window += increment;
        if increment == 0 {
            self.reject(id, code::PROTOCOL_ERROR, "window update of zero");
        } else if state.send_window > i64::from(MAX_WINDOW) {
            self.reject(id, code::FLOW_CONTROL_ERROR, "stream window overflows");
        } else {
            state.wake_writer();
        }
        Ok(())
    }
}
