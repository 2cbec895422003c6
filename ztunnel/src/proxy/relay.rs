//! The end of every connection's way: bytes are copied until both sides have ended, one fails, or the
//! connection is cut; then one exit record is written.

use ambit_net::copy::{Meter, Sink, Source, copy_bidirectional};
use ambit_telemetry::{ByteCounter, ConnectionRecord, Cut, Outcome, ResponseFlag};
use tokio::net::TcpStream;

use super::Failure;
use super::connections::Ticket;
use super::failure::Chain;

/// Bytes go to the record as they are copied, so that a long connection shows before its end.
struct Counted(ByteCounter);

impl Meter for Counted {
    fn forward(&self, bytes: usize) {
        self.0.add_request(bytes as u64);
    }

    fn backward(&self, bytes: usize) {
        self.0.add_response(bytes as u64);
    }
}

/// Copies between the client and the server of a connection, and reports its end.
pub async fn relay<A, B>(mut client: A, mut server: B, record: ConnectionRecord, mut ticket: Ticket)
where
    A: Source + Sink,
    B: Source + Sink,
{
    let bytes = Counted(record.bytes());
    let ended = {
        let copy = copy_bidirectional(&mut client, &mut server, &bytes);
        tokio::select! {
            biased;
            cut = ticket.cut() => Err(cut),
            ended = copy => Ok(ended),
        }
    };
    let outcome = match ended {
        Ok(Ok(())) => Outcome::complete(),
        Ok(Err(error)) => Outcome::failed(ResponseFlag::None, Chain(&Failure::Broken(error))),
        Err(cut) => {
            client.abort();
            server.abort();
            Outcome::cut(flag_of(cut), cut, reason_of(cut))
        }
    };
    // The sockets close before the record says that they are.
    drop((client, server));
    record.finish(outcome);
}

fn flag_of(cut: Cut) -> ResponseFlag {
    match cut {
        Cut::Policy => ResponseFlag::Deny,
        Cut::Revoked => ResponseFlag::CertRevoked,
        Cut::Drain | Cut::Released => ResponseFlag::None,
    }
}

fn reason_of(cut: Cut) -> &'static str {
    match cut {
        Cut::Policy => "cut: a policy change refuses this connection",
        Cut::Revoked => "cut: the peer's certificate was revoked",
        Cut::Drain => "cut: the agent's drain deadline passed",
        Cut::Released => "cut: the pod left the mesh",
    }
}

/// Closes a connection so that the application sees a failure, not an empty answer.
pub fn reset(stream: TcpStream) {
    let mut end = ambit_net::copy::TcpEnd::new(stream);
    end.abort();
}
