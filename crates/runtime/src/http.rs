//! A small HTTP/1.1 server for administration, metrics and readiness: a table of routes, bounded
//! requests, clear answers to bad ones. Not for users' traffic.

mod message;
mod router;
mod server;

pub use hyper::Method;
pub use message::{Request, Response};
pub use router::Router;
pub use server::Server;

#[cfg(test)]
mod tests;
