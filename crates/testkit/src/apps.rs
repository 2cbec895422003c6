//! Small servers and clients: echo, server-first, checked bulk, HTTP, what addresses a connection
//! shows, UDP echo. All servers of a set run on one thread, whatever namespaces they listen in.

mod bulk;
pub mod client;
pub mod dns;
mod server;

use std::net::SocketAddr;

use anyhow::Result;
use tokio::sync::oneshot;

use crate::topology::Host;

pub use bulk::{Pattern, verify};

/// Where each server listens. Below the ephemeral range, which would collide.
pub mod port {
    /// Sends back what it gets.
    pub const ECHO: u16 = 7000;
    /// Speaks first, then echoes.
    pub const SERVER_FIRST: u16 = 7001;
    /// Reads the pattern to the end of the stream, then says how many bytes were right.
    pub const SINK: u16 = 7002;
    /// Reads a count (8 bytes, big endian), then sends so many bytes of the pattern.
    pub const SOURCE: u16 = 7003;
    /// Tells both addresses of the connection as the server sees them, then ends.
    pub const ADDRESSES: u16 = 7004;
    /// UDP echo.
    pub const UDP_ECHO: u16 = 7005;
    /// Closes with a reset after the first byte.
    pub const RESET: u16 = 7006;
    /// HTTP/1.1: answers with the server's name and the client's address.
    pub const HTTP: u16 = 8080;
    /// Nothing listens here.
    pub const CLOSED: u16 = 7999;
}

/// Running servers.
#[derive(Debug)]
pub struct Apps {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the server of a name should know.
#[derive(Clone, Debug)]
pub struct App {
    /// The name it answers with.
    pub name: String,
    /// Where it listens.
    pub host: Host,
}

impl Apps {
    /// Starts all servers for each app, on IPv4 and IPv6.
    ///
    /// # Errors
    /// When a port cannot be listened on.
    pub fn start(apps: &[App]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut sockets = Vec::new();
        for app in apps {
            sockets.push((app.name.clone(), server::Sockets::open(&app.host)?));
        }
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("apps".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let mut tasks = tokio::task::JoinSet::new();
                    for (name, sockets) in sockets {
                        sockets.serve(&name, &mut tasks);
                    }
                    // Either word means the same.
                    stopped.await.ok();
                });
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Starts all servers for one app.
    ///
    /// # Errors
    /// As [`Apps::start`].
    pub fn one(name: &str, host: &Host) -> Result<Self> {
        Self::start(&[App {
            name: name.to_owned(),
            host: host.clone(),
        }])
    }
}

impl Drop for Apps {
    /// Ends the thread with everything it serves.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What [`port::ADDRESSES`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The server's `getsockname`.
    pub local: SocketAddr,
    /// The server's `getpeername`.
    pub peer: SocketAddr,
}
