//! The TLS 1.3 record layer (RFC 8446 §5), after rustls has done the handshake and handed over
//! the traffic keys. Decrypts in place and encrypts straight from the caller's buffer, where
//! rustls' own buffers cost a copy and an allocation per record in each direction. Key updates are
//! derived by rustls; alerts and session tickets are dealt with here.

use std::ops::Range;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ConnectionTrafficSecrets, InvalidMessage, PeerMisbehaved};

use crate::Error;
use crate::limits::MAX_KEY_UPDATES;

/// Bytes of a record head.
pub(crate) const HEAD_LEN: usize = 5;
/// Most plaintext in a record.
pub(crate) const MAX_PLAINTEXT: usize = 16 * 1024;
/// Content type and tag.
const TRAILER_LEN: usize = 17;
const TAG_LEN: usize = 16;
/// What a record adds to its plaintext.
pub(crate) const OVERHEAD: usize = HEAD_LEN + TRAILER_LEN;
/// Most bytes a record's head may announce.
const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;

/// Records sealed with one key before it is replaced. RFC 8446 §5.5 allows 2^24.5 for AES-GCM.
const MAX_RECORDS_PER_KEY: u64 = 1 << 23;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;

/// Where fresh keys come from.
pub(crate) enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Kernel {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        }
        .map(|(_, secrets)| secrets)
    }

    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        }
        .map(|(_, secrets)| secrets)
    }
}

/// One direction's key and position.
struct Cipher {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Cipher {
    fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, rustls::Error> {
        let unsupported = || rustls::Error::General("cipher suite has no record layer".into());
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(unsupported()),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unsupported())?;
        let iv = iv.as_ref().try_into().map_err(|_| unsupported())?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    /// The nonce of the next record (RFC 8446 §5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, counter) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Both directions of an established session.
pub(crate) struct Records {
    tx: Cipher,
    rx: Cipher,
    kernel: Kernel,
    /// The peer asked for a key update that has not been sent yet.
    update_due: bool,
    key_updates: u32,
    /// Bytes still to come of a session ticket that spans records.
    ticket_rest: usize,
    closed: bool,
}

impl Records {
    pub(super) fn new(
        secrets: &rustls::ExtractedSecrets,
        kernel: Kernel,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            tx: Cipher::new(secrets.tx.0, &secrets.tx.1)?,
            rx: Cipher::new(secrets.rx.0, &secrets.rx.1)?,
            kernel,
            update_due: false,
            key_updates: 0,
            ticket_rest: 0,
            closed: false,
        })
    }

    /// Whether the peer has sent `close_notify`: nothing more will come.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Encrypts `plaintext`, at most [`MAX_PLAINTEXT`], into the front of `out` as one record;
    /// returns how long it is. `out` must have [`room_for`] it.
    pub(crate) fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let mut length = 0;
        if self.update_due || self.tx.sequence >= MAX_RECORDS_PER_KEY {
            length = self.seal_key_update(out)?;
        }
        Ok(length + self.seal_record(APPLICATION_DATA, plaintext, &mut out[length..])?)
    }

    /// Seals `close_notify` into the front of `out`.
    pub(crate) fn seal_close(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        self.seal_record(ALERT, &[1, CLOSE_NOTIFY], out)
    }

    fn seal_key_update(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        let length = self.seal_record(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], out)?;
        let secrets = self.kernel.next_tx().map_err(Error::PeerTls)?;
        self.tx = Cipher::new(0, &secrets).map_err(Error::PeerTls)?;
        self.update_due = false;
        Ok(length)
    }

    fn seal_record(&mut self, kind: u8, plain: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let body = plain.len() + TRAILER_LEN;
        let [high, low] = (body as u16).to_be_bytes();
        let head = [APPLICATION_DATA, 3, 3, high, low];
        let (head_out, rest) = out.split_at_mut(HEAD_LEN);
        head_out.copy_from_slice(&head);
        let (text, trailer) = rest.split_at_mut(plain.len());
        let trailer = &mut trailer[..TRAILER_LEN];
        let nonce = self.tx.nonce();
        self.tx
            .key
            .seal_out_of_place_scatter(nonce, Aad::from(head), plain, text, &[kind], trailer)
            .map_err(|_| Error::PeerTls(rustls::Error::EncryptError))?;
        Ok(HEAD_LEN + body)
    }

    /// Decrypts all complete records at the front of `block` in place. Appends where their
    /// application data lies to `plain`, and returns how many bytes were used up; the rest is an
    /// incomplete record.
    pub(crate) fn open(
        &mut self,
        block: &mut [u8],
        plain: &mut Vec<Range<usize>>,
    ) -> Result<usize, Error> {
        let mut start = 0;
        while !self.closed {
            let Some(head) = block[start..].first_chunk::<HEAD_LEN>().copied() else {
                break;
            };
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            if head[0] != APPLICATION_DATA {
                let message = InvalidMessage::InvalidContentType;
                return Err(Error::PeerTls(rustls::Error::InvalidMessage(message)));
            }
            if !(TRAILER_LEN..=MAX_CIPHERTEXT).contains(&length) {
                return Err(Error::PeerTls(rustls::Error::PeerSentOversizedRecord));
            }
            let body = start + HEAD_LEN..start + HEAD_LEN + length;
            let Some(ciphertext) = block.get_mut(body.clone()) else {
                break;
            };
            let text = self.open_record(head, ciphertext)?;
            if !text.is_empty() {
                plain.push(body.start + text.start..body.start + text.end);
            }
            start = body.end;
        }
        Ok(start)
    }

    /// Decrypts one record; the range of its application data, empty when it had none.
    fn open_record(&mut self, head: [u8; 5], text: &mut [u8]) -> Result<Range<usize>, Error> {
        let nonce = self.rx.nonce();
        let opened = self.rx.key.open_in_place(nonce, Aad::from(head), text);
        let plain = opened.map_err(|_| Error::PeerTls(rustls::Error::DecryptError))?;
        // RFC 8446 §5.4: the content type is the last byte that is not zero.
        let Some(end) = plain.iter().rposition(|&byte| byte != 0) else {
            let nameless = PeerMisbehaved::IllegalTlsInnerPlaintext;
            return Err(Error::PeerTls(nameless.into()));
        };
        if end > MAX_PLAINTEXT {
            return Err(Error::PeerTls(rustls::Error::PeerSentOversizedRecord));
        }
        let (kind, content) = (plain[end], &plain[..end]);
        match kind {
            APPLICATION_DATA => Ok(0..end),
            ALERT => self.take_alert(content).map(|()| 0..0),
            HANDSHAKE => {
                let content = content.to_vec();
                self.take_handshake(&content).map(|()| 0..0)
            }
            _ => {
                let message = InvalidMessage::InvalidContentType;
                Err(Error::PeerTls(rustls::Error::InvalidMessage(message)))
            }
        }
    }

    fn take_alert(&mut self, content: &[u8]) -> Result<(), Error> {
        match content {
            [_, CLOSE_NOTIFY] => {
                self.closed = true;
                Ok(())
            }
            [_, other] => {
                let alert = AlertDescription::from(*other);
                Err(Error::PeerTls(rustls::Error::AlertReceived(alert)))
            }
            _ => Err(unexpected()),
        }
    }

    fn take_handshake(&mut self, mut content: &[u8]) -> Result<(), Error> {
        loop {
            let skip = self.ticket_rest.min(content.len());
            self.ticket_rest -= skip;
            content = &content[skip..];
            match content {
                [] => return Ok(()),
                // A key update is the last message under its key (RFC 8446 §4.6.3).
                [KEY_UPDATE, 0, 0, 1, request @ (0 | 1)] => return self.update_rx(*request == 1),
                [NEW_SESSION_TICKET, a, b, c, rest @ ..] => {
                    // Tunnels never resume a session: the pool keeps connections instead.
                    self.ticket_rest = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                    content = rest;
                }
                _ => return Err(unexpected()),
            }
        }
    }

    fn update_rx(&mut self, answer: bool) -> Result<(), Error> {
        self.key_updates += 1;
        if self.key_updates > MAX_KEY_UPDATES {
            return Err(Error::PeerTls(
                PeerMisbehaved::TooManyKeyUpdateRequests.into(),
            ));
        }
        let secrets = self.kernel.next_rx().map_err(Error::PeerTls)?;
        self.rx = Cipher::new(0, &secrets).map_err(Error::PeerTls)?;
        self.update_due |= answer;
        Ok(())
    }
}

fn unexpected() -> Error {
    let message = InvalidMessage::UnexpectedMessage("post-handshake message");
    Error::PeerTls(rustls::Error::InvalidMessage(message))
}

/// Bytes of output that sealing `plaintext` bytes may need at most, key update included.
pub(crate) const fn room_for(plaintext: usize) -> usize {
    plaintext.div_ceil(MAX_PLAINTEXT) * (OVERHEAD + HEAD_LEN + 5 + TRAILER_LEN) + plaintext
}

const _: () = assert!(TAG_LEN + 1 == TRAILER_LEN);

#[cfg(test)]
mod tests;
