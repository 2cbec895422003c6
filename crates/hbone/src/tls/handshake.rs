//! Drives a rustls handshake over a transport and takes the keys out at its end.

use std::pin::Pin;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, ExtractedSecrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::records::{Kernel, Records};
use super::{ALPN, TlsStream, Transport};
use crate::Error;
use crate::limits::MAX_HANDSHAKE_BYTES;

/// First byte of every handshake record, and of the alert that may come instead.
const HANDSHAKE_RECORD: u8 = 22;
const ALERT_RECORD: u8 = 21;

/// Steps after a failure to get at the alert: one per message of the peer's flight and one per
/// alert.
const MAX_ALERT_STEPS: usize = 16;

/// Room asked of the transport per read.
const READ_SIZE: usize = 4096;

/// Both kinds of rustls session.
pub(super) trait Session {
    /// rustls' own marker of the kind.
    type Side;

    /// Processes `incoming` up to the next thing that needs doing.
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Side>;

    /// What was negotiated.
    fn common(&self) -> &CommonState;

    /// Takes the keys out.
    fn into_keys(self) -> Result<(ExtractedSecrets, Kernel), rustls::Error>;
}

impl Session for UnbufferedClientConnection {
    type Side = ClientConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Side> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Kernel), rustls::Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Kernel::Client(kernel)))
    }
}

impl Session for UnbufferedServerConnection {
    type Side = ServerConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Side> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Kernel), rustls::Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Kernel::Server(kernel)))
    }
}

/// What a step of the handshake asks for.
enum Next {
    Again,
    Flush,
    Read,
    Done,
}

/// A handshake under way.
struct Handshake {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Application data that came with the peer's last flight.
    early: Vec<u8>,
    received: usize,
}

pub(super) async fn run<IO: Transport, S: Session>(
    mut io: IO,
    mut session: S,
) -> Result<TlsStream<IO>, Error> {
    let mut state = Handshake {
        incoming: Vec::new(),
        outgoing: Vec::new(),
        early: Vec::new(),
        received: 0,
    };
    loop {
        match state.step(&mut session) {
            Ok(Next::Again) => {}
            Ok(Next::Flush) => state.flush(&mut io).await?,
            Ok(Next::Read) => {
                state.flush(&mut io).await?;
                state.read(&mut io).await?;
            }
            Ok(Next::Done) => break,
            Err(error) => {
                state.send_alert(&mut io, &mut session);
                return Err(error);
            }
        }
    }
    state.flush(&mut io).await?;
    if session.common().alpn_protocol() != Some(ALPN) {
        return Err(Error::PeerAlpn);
    }
    let certificates = session
        .common()
        .peer_certificates()
        .unwrap_or_default()
        .into();
    let (secrets, kernel) = session.into_keys().map_err(Error::PeerTls)?;
    let records = Records::new(&secrets, kernel).map_err(Error::PeerTls)?;
    state.incoming.shrink_to_fit();
    let Handshake {
        incoming, early, ..
    } = state;
    Ok(TlsStream {
        io,
        records,
        incoming,
        early,
        certificates,
    })
}

impl Handshake {
    fn step<S: Session>(&mut self, session: &mut S) -> Result<Next, Error> {
        let UnbufferedStatus {
            mut discard, state, ..
        } = session.step(&mut self.incoming);
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                self.incoming.drain(..discard);
                return Err(Error::PeerTls(error));
            }
        };
        let next = match state {
            ConnectionState::EncodeTlsData(data) => {
                encode(data, &mut self.outgoing)?;
                Next::Again
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                Next::Flush
            }
            ConnectionState::BlockedHandshake => Next::Read,
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(Error::PeerTls)?;
                    discard += record.discard;
                    self.early.extend_from_slice(record.payload);
                }
                Next::Again
            }
            ConnectionState::WriteTraffic(_) => Next::Done,
            _ => return Err(Error::PeerClosed),
        };
        self.incoming.drain(..discard);
        Ok(next)
    }

    async fn read<IO: Transport>(&mut self, io: &mut IO) -> Result<(), Error> {
        self.incoming.reserve(READ_SIZE);
        let count = io.read_buf(&mut self.incoming).await?;
        if count == 0 {
            return Err(Error::PeerClosed);
        }
        if self.received == 0 && !matches!(self.incoming[0], HANDSHAKE_RECORD | ALERT_RECORD) {
            return Err(Error::PeerPlaintext);
        }
        self.received += count;
        if self.received > MAX_HANDSHAKE_BYTES {
            let oversized = rustls::InvalidMessage::HandshakePayloadTooLarge;
            return Err(Error::PeerTls(oversized.into()));
        }
        Ok(())
    }

    async fn flush<IO: Transport>(&mut self, io: &mut IO) -> Result<(), Error> {
        if !self.outgoing.is_empty() {
            io.write_all(&self.outgoing).await?;
            io.flush().await?;
            self.outgoing.clear();
        }
        Ok(())
    }

    /// Tells the peer why, as far as the transport takes it at once: the handshake has failed
    /// either way.
    fn send_alert<IO: Transport, S: Session>(&mut self, io: &mut IO, session: &mut S) {
        // rustls keeps references into what it was given, so it must be given the same again. Asked
        // once more than it has to say, it would read on in what it has refused.
        for _ in 0..MAX_ALERT_STEPS {
            if !session.common().wants_write() {
                break;
            }
            let UnbufferedStatus { discard, state, .. } = session.step(&mut self.incoming);
            match state {
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    if encode(data, &mut self.outgoing).is_err() {
                        return;
                    }
                }
                Err(_) => {}
                Ok(_) => break,
            }
            self.incoming.drain(..discard);
        }
        if self.outgoing.is_empty() {
            return;
        }
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let sent = Pin::new(io).poll_write(&mut cx, &self.outgoing);
        tracing::trace!(?sent, "sent tls alert");
    }
}

fn encode<Side>(mut data: EncodeTlsData<'_, Side>, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    match data.encode(&mut []) {
        Ok(_) => Ok(()),
        Err(EncodeError::InsufficientSize(needed)) => {
            out.resize(start + needed.required_size, 0);
            let encoded = data.encode(&mut out[start..]);
            encoded
                .map(|length| out.truncate(start + length))
                .map_err(|_| Error::LocalClosed)
        }
        Err(EncodeError::AlreadyEncoded) => Err(Error::LocalClosed),
    }
}
