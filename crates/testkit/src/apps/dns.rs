//! As much DNS as tests need: queries for addresses, and a server that answers from a table.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::topology::Host;

/// Record types.
const A: u16 = 1;
const AAAA: u16 = 28;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Response code; 0 is fine, 3 is "no such name".
    pub code: u8,
    /// Addresses, in the order given.
    pub addresses: Vec<IpAddr>,
    /// Who answered, as the client sees it.
    pub from: SocketAddr,
}

/// Asks `server` from inside `host` for the IPv4 or IPv6 addresses of a name.
///
/// # Errors
/// When no answer comes or it cannot be read.
pub fn query(host: &Host, server: SocketAddr, name: &str, v6: bool) -> io::Result<Answer> {
    let any = if server.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let socket = host.run(|| UdpSocket::bind(any))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut question = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        question.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, if v6 { AAAA } else { A } as u8, 0, 1]);
    socket.send_to(&question, server)?;
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let parsed = parse(&buffer[..length]);
    let (code, addresses) =
        parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a DNS answer"))?;
    Ok(Answer {
        code,
        addresses,
        from,
    })
}

fn parse(message: &[u8]) -> Option<(u8, Vec<IpAddr>)> {
    let word = |at: usize| {
        Some(u16::from_be_bytes(
            message.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let code = message.get(3)? & 0x0f;
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(message, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..word(6)? {
        at = skip_name(message, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let bytes = message.get(at + 10..at + 10 + length)?;
        match kind {
            A => addresses.push(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            AAAA => addresses.push(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
            _ => {}
        }
        at += 10 + length;
    }
    Some((code, addresses))
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some(at + 1),
            l if l & 0xc0 != 0 => return Some(at + 2),
            l => at += l + 1,
        }
    }
}

/// A running server on port 53.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Answers queries for the names of the table; others do not exist.
    ///
    /// # Errors
    /// When port 53 is taken.
    pub fn start(host: &Host, names: &[(&str, IpAddr)]) -> io::Result<Self> {
        let address = SocketAddr::from((host.v4, 53));
        let socket = host.run(|| UdpSocket::bind(address))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut table: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (name, ip) in names {
            table.entry(name.to_lowercase()).or_default().push(*ip);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, peer)) = socket.recv_from(&mut buffer)
                    && let Some(answer) = answer(&buffer[..length], &table)
                {
                    socket.send_to(&answer, peer).ok();
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn answer(query: &[u8], table: &HashMap<String, Vec<IpAddr>>) -> Option<Vec<u8>> {
    let end = skip_name(query, 12)?;
    let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
    let mut name = Vec::new();
    let mut at = 12;
    while at < end - 1 {
        let length = usize::from(query[at]);
        name.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += length + 1;
    }
    let known = table.get(&name.join("."));
    let found: Vec<_> = known
        .into_iter()
        .flatten()
        .filter(|ip| (kind == A && ip.is_ipv4()) || (kind == AAAA && ip.is_ipv6()))
        .collect();
    let code = if known.is_some() { 0x80 } else { 0x83 };
    let mut out = query.get(..2)?.to_vec();
    out.extend_from_slice(&[
        0x85,
        code,
        0,
        1,
        0,
        u8::try_from(found.len()).ok()?,
        0,
        0,
        0,
        0,
    ]);
    out.extend_from_slice(query.get(12..end + 4)?);
    for ip in found {
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 30]);
        match ip {
            IpAddr::V4(ip) => {
                out.extend_from_slice(&[0, 4]);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.extend_from_slice(&[0, 16]);
                out.extend_from_slice(&ip.octets());
            }
        }
    }
    Some(out)
}
