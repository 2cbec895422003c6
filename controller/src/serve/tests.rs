//! Streams with real clients.
