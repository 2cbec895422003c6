//! The tunnel from outside: against itself (`sim_*`), against a scripted peer (`wire_*`), and
//! against other implementations (`interop_*`).

#![expect(clippy::unwrap_used, reason = "a test ends when something fails")]

mod interop_h2;
mod interop_tls;
mod sim_pool;
mod sim_stream;
mod support;
mod wire_client;
mod wire_random;
mod wire_server;
