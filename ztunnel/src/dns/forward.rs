//! Passing a query on: the client's own bytes under a new id, from the pod's namespace, to one
//! server after the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ambit_net::{Hop, Netns, SocketSettings, Source};
use hickory_proto::op::{Message, ResponseCode};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::limits::{ATTEMPTS, DATAGRAM, SERVER_WAIT};
use super::message::{Query, Transport};
use super::tcp;

const PORT: u16 = 53;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The pod's configuration names no server.
    #[error("no server is configured")]
    NoServer,
    /// The last server's failure.
    #[error("{server} does not answer")]
    Unreachable {
        /// The server.
        server: IpAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where a query is sent from.
pub(super) struct Origin<'a> {
    pub(super) netns: &'a Netns,
    pub(super) sockets: &'a SocketSettings,
    pub(super) servers: &'a [IpAddr],
}

/// The first good answer; of bad ones (SERVFAIL, REFUSED) the last.
pub(super) async fn exchange(
    origin: &Origin<'_>,
    bytes: &[u8],
    query: &Query,
    transport: Transport,
) -> Result<Vec<u8>, ForwardError> {
    let mut bad_answer = None;
    let mut failure = ForwardError::NoServer;
    for server in origin
        .servers
        .iter()
        .copied()
        .cycle()
        .take(attempts(origin.servers.len()))
    {
        let asked = async {
            match transport {
                Transport::Udp => by_udp(origin, server, bytes, query).await,
                Transport::Tcp => by_tcp(origin, server, bytes, query).await,
            }
        };
        let answer = match timeout(SERVER_WAIT, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match answer {
            Ok((bytes, ResponseCode::ServFail | ResponseCode::Refused)) => {
                bad_answer = Some(bytes);
            }
            Ok((bytes, _)) => return Ok(bytes),
            Err(source) => failure = ForwardError::Unreachable { server, source },
        }
    }
    bad_answer.ok_or(failure)
}

/// Every server at least once, and a lost datagram is sent again.
fn attempts(servers: usize) -> usize {
    if servers == 0 {
        0
    } else {
        ATTEMPTS.max(servers)
    }
}

type Answer = (Vec<u8>, ResponseCode);

async fn by_udp(
    origin: &Origin<'_>,
    server: IpAddr,
    bytes: &[u8],
    query: &Query,
) -> io::Result<Answer> {
    let any = match server {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let local = SocketAddr::new(any, 0);
    // A socket of its own, so a port of its own: guessing port and id is what keeps forged
    // answers out (RFC 5452).
    let socket = ambit_net::bind_udp(origin.netns, local, false, origin.sockets)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.connect((server, PORT)).await?;
    let (id, renamed) = rename(bytes);
    socket.send(&renamed).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(code) = accepted(&buffer[..length], id, query) {
            buffer.truncate(length);
            return Ok((buffer, code));
        }
    }
}

async fn by_tcp(
    origin: &Origin<'_>,
    server: IpAddr,
    bytes: &[u8],
    query: &Query,
) -> io::Result<Answer> {
    let to = SocketAddr::new(server, PORT);
    let mut stream =
        ambit_net::connect(origin.netns, to, Source::Any, Hop::Network, origin.sockets)
            .await
            .map_err(io::Error::other)?;
    let (id, renamed) = rename(bytes);
    tcp::write_message(&mut stream, &renamed).await?;
    let answer = tcp::read_message(&mut stream)
        .await?
        .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let code = accepted(&answer, id, query).ok_or(io::ErrorKind::InvalidData)?;
    Ok((answer, code))
}

fn rename(bytes: &[u8]) -> (u16, Vec<u8>) {
    let id: u16 = rand::random();
    let mut renamed = bytes.to_vec();
    if let Some(place) = renamed.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    (id, renamed)
}

/// The code of an answer to this very question.
fn accepted(bytes: &[u8], id: u16, query: &Query) -> Option<ResponseCode> {
    if bytes.get(..2)? != id.to_be_bytes() {
        return None;
    }
    let message = Message::from_vec(bytes).ok()?;
    query
        .is_answered_by(&message)
        .then_some(message.metadata.response_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_asked() {
        for (servers, expected) in [(0, 0), (1, ATTEMPTS), (3, ATTEMPTS), (9, 9)] {
            assert_eq!(attempts(servers), expected);
        }
    }
}
