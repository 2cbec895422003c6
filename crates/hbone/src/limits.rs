//! Bounds on what a peer can make a tunnel do or hold. What an operator may tune is in
//! [`Settings`](crate::Settings); these are fixed.

/// Times a stream that the peer refused untouched (GOAWAY, `REFUSED_STREAM`) is tried again on
/// another connection. Bounds the work one connect can cause on a peer that refuses everything.
pub const MAX_STREAM_RETRIES: usize = 3;
