//! The node agent: carries the traffic of a node's pods in mutual-TLS tunnels. A library so that
//! tests run the real application in-process; `main.rs` only reads the environment and starts it.

pub mod admin;
pub mod app;
pub mod capture;
pub mod config;
pub mod control;
pub mod dns;
pub mod proxy;
