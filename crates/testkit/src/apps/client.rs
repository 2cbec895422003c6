//! Clients of the small servers: blocking, with time limits, from inside a namespace.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::{Addresses, Pattern, verify};
use crate::topology::Host;

/// Time limit of every step.
pub const LIMIT: Duration = Duration::from_secs(15);

/// Connects from a host.
///
/// # Errors
/// As the application would see them.
pub fn connect(from: &Host, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = from.run(|| TcpStream::connect_timeout(&to, LIMIT))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a text and reads the same back, on an open connection.
///
/// # Errors
/// When the connection breaks or the echo differs.
pub fn echo_on(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    if back == text.as_bytes() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the echo differs",
        ))
    }
}

/// Connects, and sends a text to the echo server.
///
/// # Errors
/// When any step fails.
pub fn echo(from: &Host, to: SocketAddr, text: &str) -> io::Result<()> {
    echo_on(&mut connect(from, to)?, text)
}

/// The line that a server which speaks first says.
///
/// # Errors
/// When any step fails.
pub fn banner(from: &Host, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(from, to)?;
    let mut line = Vec::new();
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Both ends' addresses: as the server sees them, and as the client does.
///
/// # Errors
/// When any step fails.
pub fn addresses(from: &Host, to: SocketAddr) -> io::Result<(Addresses, Addresses)> {
    let mut stream = connect(from, to)?;
    let client = Addresses {
        local: stream.local_addr()?,
        peer: stream.peer_addr()?,
    };
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let mut parts = text.split_whitespace().map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(local)), Some(Ok(peer))) => Ok((Addresses { local, peer }, client)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not addresses: {text:?}"),
        )),
    }
}

/// Sends so many bytes of the pattern, closes its half, and returns the server's verdict.
///
/// # Errors
/// When any step fails.
pub fn upload(from: &Host, to: SocketAddr, bytes: u64) -> io::Result<String> {
    let mut stream = connect(from, to)?;
    let pattern = Pattern::default();
    let mut sent = 0;
    while sent < bytes {
        let want = usize::try_from(bytes - sent).unwrap_or(usize::MAX);
        let part = pattern.at(sent, want);
        stream.write_all(part)?;
        sent += part.len() as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut verdict = String::new();
    stream.read_to_string(&mut verdict)?;
    Ok(verdict.trim_end().to_owned())
}

/// Asks for so many bytes and checks each; returns how many came.
///
/// # Errors
/// When any step fails or a byte is wrong.
pub fn download(from: &Host, to: SocketAddr, bytes: u64) -> io::Result<u64> {
    let mut stream = connect(from, to)?;
    stream.write_all(&bytes.to_be_bytes())?;
    let pattern = Pattern::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(total);
        }
        if let Some(at) = verify(&pattern, total, &buffer[..length]) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("wrong at {at}"),
            ));
        }
        total += length as u64;
    }
}

/// One HTTP request; returns the body.
///
/// # Errors
/// When any step fails or the status is not 200.
pub fn get(from: &Host, to: SocketAddr, path: &str) -> io::Result<String> {
    let (status, body) = get_any(from, to, path)?;
    if status == 200 {
        return Ok(body);
    }
    Err(io::Error::other(format!("status {status}: {body}")))
}

/// One HTTP request; returns status and body.
///
/// # Errors
/// When any step fails.
pub fn get_any(from: &Host, to: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    request(from, to, "GET", path)
}

/// One HTTP request of any method, without a body; returns status and body.
///
/// # Errors
/// When any step fails.
pub fn request(from: &Host, to: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = connect(from, to)?;
    stream.write_all(
        format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .as_bytes(),
    )?;
    read_answer(&mut stream)
}

fn read_answer(stream: &mut TcpStream) -> io::Result<(u16, String)> {
    let broken = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut seen = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse().ok())?
            });
            if let (Some(status), Some(length)) = (status, length)
                && body.len() >= length
            {
                return Ok((status, body.to_owned()));
            }
        }
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(broken("the answer ends early"));
        }
        seen.extend_from_slice(&buffer[..length]);
    }
}

/// One datagram there and back; returns who answered.
///
/// # Errors
/// When none comes back in time or it differs.
pub fn udp_echo(from: &Host, to: SocketAddr, text: &str) -> io::Result<SocketAddr> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
        .parse()
        .map_err(io::Error::other)?;
    let socket = from.run(|| UdpSocket::bind(any))?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.send_to(text.as_bytes(), to)?;
    let mut buffer = [0; 2048];
    let (length, peer) = socket.recv_from(&mut buffer)?;
    if &buffer[..length] == text.as_bytes() {
        Ok(peer)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the echo differs",
        ))
    }
}
