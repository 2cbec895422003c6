//! HTTP/2 frames (RFC 9113 §4 and §6): heads, payloads, error codes. Pure: bytes in, values out.
//! It refuses to know streams, windows and what a frame means for a connection.

mod deframer;
mod settings;

pub use deframer::{Deframer, Item};
pub use settings::{PeerSettings, parse_settings, write_settings};

/// Bytes of a frame head.
pub const HEAD_LEN: usize = 9;

/// The smallest and default value of `SETTINGS_MAX_FRAME_SIZE`.
pub const MIN_MAX_FRAME: u32 = 16 * 1024;

/// The largest value of `SETTINGS_MAX_FRAME_SIZE`.
pub const MAX_MAX_FRAME: u32 = (1 << 24) - 1;

/// The largest flow-control window.
pub const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The flow-control window that every connection and stream starts with.
pub const DEFAULT_WINDOW: u32 = 65_535;

/// What a client sends before its first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub mod kind {
    /// Stream payload.
    pub const DATA: u8 = 0;
    /// Start of a header block.
    pub const HEADERS: u8 = 1;
    /// Deprecated; ignored.
    pub const PRIORITY: u8 = 2;
    /// End of a stream, at once.
    pub const RST_STREAM: u8 = 3;
    /// Connection parameters.
    pub const SETTINGS: u8 = 4;
    /// Never allowed here: push is switched off.
    pub const PUSH_PROMISE: u8 = 5;
    /// Sign of life.
    pub const PING: u8 = 6;
    /// End of a connection.
    pub const GOAWAY: u8 = 7;
    /// Flow-control credit.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a header block.
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub mod flag {
    /// Last frame of its sender on the stream (DATA, HEADERS).
    pub const END_STREAM: u8 = 0x1;
    /// Answer (SETTINGS, PING).
    pub const ACK: u8 = 0x1;
    /// The header block is complete (HEADERS, CONTINUATION).
    pub const END_HEADERS: u8 = 0x4;
    /// A pad length precedes the payload (DATA, HEADERS).
    pub const PADDED: u8 = 0x8;
    /// Priority fields precede the header block (HEADERS).
    pub const PRIORITY: u8 = 0x20;
}

/// HTTP/2 error codes (RFC 9113 §7).
pub mod code {
    /// No error: a graceful end.
    pub const NO_ERROR: u32 = 0x0;
    /// The protocol was broken in a way without a code of its own.
    pub const PROTOCOL_ERROR: u32 = 0x1;
    /// The sender failed.
    pub const INTERNAL_ERROR: u32 = 0x2;
    /// A window was overrun or overflowed.
    pub const FLOW_CONTROL_ERROR: u32 = 0x3;
    /// A frame for a stream that has ended.
    pub const STREAM_CLOSED: u32 = 0x5;
    /// A frame of a size it cannot have.
    pub const FRAME_SIZE_ERROR: u32 = 0x6;
    /// The stream was not processed at all and may be tried again.
    pub const REFUSED_STREAM: u32 = 0x7;
    /// The stream is not needed any more.
    pub const CANCEL: u32 = 0x8;
    /// The header compression state is broken.
    pub const COMPRESSION_ERROR: u32 = 0x9;
    /// The TCP connection behind a CONNECT failed.
    pub const CONNECT_ERROR: u32 = 0xa;
    /// The peer does too much of something.
    pub const ENHANCE_YOUR_CALM: u32 = 0xb;
}

/// A rule of the protocol that the peer broke, and the error code to tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// HTTP/2 error code.
    pub code: u32,
    /// The rule, for logs.
    pub what: &'static str,
}

impl Violation {
    /// `PROTOCOL_ERROR`.
    pub const fn protocol(what: &'static str) -> Self {
        Self {
            code: code::PROTOCOL_ERROR,
            what,
        }
    }

    /// `FRAME_SIZE_ERROR`.
    pub const fn size(what: &'static str) -> Self {
        Self {
            code: code::FRAME_SIZE_ERROR,
            what,
        }
    }

    /// `FLOW_CONTROL_ERROR`.
    pub const fn flow(what: &'static str) -> Self {
        Self {
            code: code::FLOW_CONTROL_ERROR,
            what,
        }
    }

    /// `ENHANCE_YOUR_CALM`.
    pub const fn calm(what: &'static str) -> Self {
        Self {
            code: code::ENHANCE_YOUR_CALM,
            what,
        }
    }
}

/// A frame head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of payload.
    pub length: u32,
    /// One of [`kind`], or unknown.
    pub kind: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// The stream, or 0 for the connection.
    pub stream: u32,
}

impl Head {
    /// Reads a head; the reserved bit is ignored as the RFC demands.
    pub fn parse(bytes: &[u8; HEAD_LEN]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_WINDOW,
        }
    }

    /// The head as sent.
    pub fn bytes(self) -> [u8; HEAD_LEN] {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// Whether `flag` is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A frame of fixed shape, ready to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Small {
    /// Answers the peer's SETTINGS.
    SettingsAck,
    /// Asks for a sign of life.
    Ping([u8; 8]),
    /// Answers a PING.
    Pong([u8; 8]),
    /// Grants `.1` bytes on stream `.0` (0: the connection).
    WindowUpdate(u32, u32),
    /// Ends stream `.0` with code `.1`.
    Reset(u32, u32),
    /// Announces the end: the last stream that is served, and the code.
    GoAway(u32, u32),
}

impl Small {
    /// Appends the frame to `out`.
    pub fn write(self, out: &mut Vec<u8>) {
        let (kind, flags, stream) = match self {
            Self::SettingsAck => (kind::SETTINGS, flag::ACK, 0),
            Self::Ping(_) => (kind::PING, 0, 0),
            Self::Pong(_) => (kind::PING, flag::ACK, 0),
            Self::WindowUpdate(stream, _) => (kind::WINDOW_UPDATE, 0, stream),
            Self::Reset(stream, _) => (kind::RST_STREAM, 0, stream),
            Self::GoAway(..) => (kind::GOAWAY, 0, 0),
        };
        let length = match self {
            Self::SettingsAck => 0,
            Self::WindowUpdate(..) | Self::Reset(..) => 4,
            Self::Ping(_) | Self::Pong(_) | Self::GoAway(..) => 8,
        };
        out.extend_from_slice(
            &Head {
                length,
                kind,
                flags,
                stream,
            }
            .bytes(),
        );
        match self {
            Self::SettingsAck => {}
            Self::Ping(token) | Self::Pong(token) => out.extend_from_slice(&token),
            Self::WindowUpdate(_, value) | Self::Reset(_, value) => {
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::GoAway(last, code) => {
                out.extend_from_slice(&last.to_be_bytes());
                out.extend_from_slice(&code.to_be_bytes());
            }
        }
    }
}

/// Appends `block` as HEADERS and as many CONTINUATION frames as `max_frame` makes of it.
pub fn write_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end: bool, max_frame: u32) {
    let mut rest = block;
    let mut kind = kind::HEADERS;
    let mut flags = if end { flag::END_STREAM } else { 0 };
    loop {
        let (piece, more) = rest.split_at(rest.len().min(max_frame as usize));
        if more.is_empty() {
            flags |= flag::END_HEADERS;
        }
        let head = Head {
            length: piece.len() as u32,
            kind,
            flags,
            stream,
        };
        out.extend_from_slice(&head.bytes());
        out.extend_from_slice(piece);
        if more.is_empty() {
            return;
        }
        (rest, kind, flags) = (more, kind::CONTINUATION, 0);
    }
}

/// The payload without its padding, if the frame is padded.
///
/// # Errors
/// The padding is longer than the frame.
pub fn strip_padding(head: Head, payload: &[u8]) -> Result<&[u8], Violation> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&pad, rest) = payload
        .split_first()
        .ok_or(Violation::size("padded frame is empty"))?;
    let keep = rest.len().checked_sub(usize::from(pad));
    keep.map(|keep| &rest[..keep])
        .ok_or(Violation::protocol("padding exceeds the frame"))
}

/// The header block fragment of a HEADERS frame, without padding and priority fields.
///
/// # Errors
/// The frame is too short for what its flags promise, or depends on itself.
pub fn strip_headers(head: Head, payload: &[u8]) -> Result<&[u8], Violation> {
    let block = strip_padding(head, payload)?;
    if !head.has(flag::PRIORITY) {
        return Ok(block);
    }
    block
        .get(5..)
        .ok_or(Violation::size("priority fields are cut short"))
}

/// A payload of exactly four bytes, as RST_STREAM and WINDOW_UPDATE have.
///
/// # Errors
/// The payload has another size.
pub fn parse_u32(payload: &[u8]) -> Result<u32, Violation> {
    let bytes = payload
        .try_into()
        .map_err(|_| Violation::size("payload is not four bytes"))?;
    Ok(u32::from_be_bytes(bytes))
}

/// Last stream and error code of a GOAWAY; its debug data is not looked at.
///
/// # Errors
/// The payload is too short.
pub fn parse_goaway(payload: &[u8]) -> Result<(u32, u32), Violation> {
    match payload {
        [a, b, c, d, e, f, g, h, ..] => Ok((
            u32::from_be_bytes([*a, *b, *c, *d]) & MAX_WINDOW,
            u32::from_be_bytes([*e, *f, *g, *h]),
        )),
        _ => Err(Violation::size("goaway is cut short")),
    }
}

#[cfg(test)]
mod tests;
