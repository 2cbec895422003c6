//! The SETTINGS payload (RFC 9113 §6.5).

use super::{DEFAULT_WINDOW, Head, MAX_MAX_FRAME, MAX_WINDOW, MIN_MAX_FRAME, Violation, kind};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What the peer allows us, as of its latest SETTINGS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerSettings {
    /// Set when the peer named a header table size since the flag was last cleared: the next
    /// header block then has to open with a table size update (RFC 7541 §4.2).
    pub table_size_changed: bool,
    /// Streams we may have open.
    pub max_concurrent_streams: u32,
    /// Send window that a stream starts with.
    pub initial_window: u32,
    /// Largest frame we may send.
    pub max_frame: u32,
    /// Largest header list the peer wants.
    pub max_header_list: u32,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            table_size_changed: false,
            max_concurrent_streams: u32::MAX,
            initial_window: DEFAULT_WINDOW,
            max_frame: MIN_MAX_FRAME,
            max_header_list: u32::MAX,
        }
    }
}

/// Applies a SETTINGS payload on top of `settings`. `from_server` tells who sent it: a server may
/// not ask for push.
///
/// # Errors
/// A malformed payload or a value out of range.
pub fn parse_settings(
    payload: &[u8],
    from_server: bool,
    settings: &mut PeerSettings,
) -> Result<(), Violation> {
    let (entries, rest) = payload.as_chunks::<6>();
    if !rest.is_empty() {
        return Err(Violation::size("settings payload is not a multiple of six"));
    }
    for &[i0, i1, v0, v1, v2, v3] in entries {
        let value = u32::from_be_bytes([v0, v1, v2, v3]);
        match u16::from_be_bytes([i0, i1]) {
            HEADER_TABLE_SIZE => settings.table_size_changed = true,
            ENABLE_PUSH if value > 1 || (from_server && value == 1) => {
                return Err(Violation::protocol("enable_push has no such value"));
            }
            MAX_CONCURRENT_STREAMS => settings.max_concurrent_streams = value,
            INITIAL_WINDOW_SIZE if value > MAX_WINDOW => {
                return Err(Violation::flow("initial window is too large"));
            }
            INITIAL_WINDOW_SIZE => settings.initial_window = value,
            MAX_FRAME_SIZE if !(MIN_MAX_FRAME..=MAX_MAX_FRAME).contains(&value) => {
                return Err(Violation::protocol("max frame size is out of range"));
            }
            MAX_FRAME_SIZE => settings.max_frame = value,
            MAX_HEADER_LIST_SIZE => settings.max_header_list = value,
            _ => {}
        }
    }
    Ok(())
}

/// Appends our SETTINGS frame. A client passes no stream limit (it takes no streams) and
/// switches push off.
pub fn write_settings(
    out: &mut Vec<u8>,
    ours: &crate::Settings,
    max_header_list: u32,
    server: bool,
) {
    let second = if server {
        (MAX_CONCURRENT_STREAMS, ours.max_concurrent_streams)
    } else {
        (ENABLE_PUSH, 0)
    };
    let entries = [
        second,
        (INITIAL_WINDOW_SIZE, ours.stream_window.min(MAX_WINDOW)),
        (
            MAX_FRAME_SIZE,
            ours.max_frame_size.clamp(MIN_MAX_FRAME, MAX_MAX_FRAME),
        ),
        (MAX_HEADER_LIST_SIZE, max_header_list),
    ];
    let length = (entries.len() * 6) as u32;
    out.extend_from_slice(
        &Head {
            length,
            kind: kind::SETTINGS,
            flags: 0,
            stream: 0,
        }
        .bytes(),
    );
    for (id, value) in entries {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}
