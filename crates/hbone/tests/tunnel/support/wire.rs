//! A scripted HTTP/2 peer: sends any frame, reads frame by frame, over real TLS by another library.

use std::sync::Arc;

use ambit_hbone::frame::{HEAD_LEN, Head, PREFACE, flag, kind};
use ambit_hbone::hpack::Encoder;
use ambit_hbone::{Connection, Error, Request, Settings};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex,
};
use tokio::task::{JoinHandle, spawn_local};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{accept_tls, name, pki};

/// How the server under test ended.
pub(crate) type Outcome = JoinHandle<Result<(), Error>>;

pub(crate) struct Wire<IO = TlsStream<DuplexStream>> {
    io: IO,
}

impl Wire {
    /// A client's TLS connection to a server under test, which hands each request to `serve`.
    /// Nothing of HTTP/2 has been said.
    pub(crate) async fn silent(settings: Settings, serve: fn(Request)) -> (Self, Outcome) {
        let (near, far) = duplex(64 * 1024);
        let outcome = spawn_local(async move {
            let mut connection = Connection::accept(accept_tls(far).await?, &settings).await?;
            while let Some(request) = connection.next().await? {
                if request.authority() == Some("drain:1") {
                    connection.drain();
                }
                serve(request);
            }
            Ok(())
        });
        let tls = TlsConnector::from(Arc::clone(&pki().client))
            .connect(name(), near)
            .await
            .unwrap();
        (Self { io: tls.into() }, outcome)
    }

    /// The same with preface and empty SETTINGS sent, and the server's own read.
    pub(crate) async fn client(settings: Settings, serve: fn(Request)) -> (Self, Outcome) {
        let (mut wire, outcome) = Self::silent(settings, serve).await;
        wire.raw(PREFACE).await;
        wire.frame(kind::SETTINGS, 0, 0, &[]).await;
        wire.expect(kind::SETTINGS).await;
        (wire, outcome)
    }

    /// A server's side of a connection from a client under test, SETTINGS exchanged.
    pub(crate) async fn server(io: DuplexStream, settings: &[u8]) -> Self {
        let acceptor = TlsAcceptor::from(Arc::clone(&pki().server));
        let mut wire = Self {
            io: acceptor.accept(io).await.unwrap().into(),
        };
        let mut preface = [0; 24];
        wire.io.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, PREFACE);
        wire.frame(kind::SETTINGS, 0, 0, settings).await;
        wire.frame(kind::SETTINGS, flag::ACK, 0, &[]).await;
        wire
    }

    /// The reading side as a wire, and the writing side.
    pub(crate) fn split(
        self,
    ) -> (
        Wire<ReadHalf<TlsStream<DuplexStream>>>,
        WriteHalf<TlsStream<DuplexStream>>,
    ) {
        let (read, write) = tokio::io::split(self.io);
        (Wire { io: read }, write)
    }

    /// Replaces the sending keys; what is sent next carries the update.
    pub(crate) fn refresh_keys(&mut self) {
        match &mut self.io {
            TlsStream::Client(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
            TlsStream::Server(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
        }
    }

    /// Sends the closing alert.
    pub(crate) async fn close(&mut self) {
        self.io.shutdown().await.unwrap();
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub(crate) async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = frame(kind, flags, stream, payload);
        // The peer may have hung up in mid-script, which is for the script to find out.
        let _gone = self.io.write_all(&frame).await;
        let _gone = self.io.flush().await;
    }

    /// Opens a stream with a CONNECT.
    pub(crate) async fn connect(&mut self, stream: u32) {
        self.frame(
            kind::HEADERS,
            flag::END_HEADERS,
            stream,
            &connect_block("10.0.0.1:80"),
        )
        .await;
    }

    /// Answers a stream with 200.
    pub(crate) async fn answer(&mut self, stream: u32) {
        self.frame(kind::HEADERS, flag::END_HEADERS, stream, &[0x88])
            .await;
    }

    /// Checks that the connection still works.
    pub(crate) async fn expect_alive(&mut self) {
        self.frame(kind::PING, 0, 0, b"are you?").await;
        loop {
            let (head, payload) = self.expect(kind::PING).await;
            if head.has(flag::ACK) && payload == b"are you?" {
                return;
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> Wire<IO> {
    /// The next frame, or `None` when the peer has closed.
    pub(crate) async fn next(&mut self) -> Option<(Head, Vec<u8>)> {
        let mut head = [0; HEAD_LEN];
        self.io.read_exact(&mut head).await.ok()?;
        let head = Head::parse(&head);
        let mut payload = vec![0; head.length as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        Some((head, payload))
    }

    /// The next frame of a kind; others are passed over.
    pub(crate) async fn expect(&mut self, kind: u8) -> (Head, Vec<u8>) {
        loop {
            match self.next().await {
                Some((head, payload)) if head.kind == kind => return (head, payload),
                Some(_) => {}
                None => panic!("closed while frame {kind} was expected"),
            }
        }
    }

    /// Expects GOAWAY with `code` and then the end.
    pub(crate) async fn expect_goaway(&mut self, code: u32) {
        let (_, payload) = self.expect(kind::GOAWAY).await;
        assert_eq!(payload[4..8], code.to_be_bytes(), "goaway code");
        while self.next().await.is_some() {}
    }

    /// Expects a reset of `stream` with `code`.
    pub(crate) async fn expect_reset(&mut self, stream: u32, code: u32) {
        let (head, payload) = self.expect(kind::RST_STREAM).await;
        assert_eq!(
            (head.stream, payload),
            (stream, code.to_be_bytes().to_vec()),
            "reset"
        );
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head {
        length: payload.len() as u32,
        kind,
        flags,
        stream,
    };
    [&head.bytes(), payload].concat()
}

pub(crate) fn connect_block(authority: &str) -> Vec<u8> {
    let mut block = Vec::new();
    Encoder::new(&mut block, false)
        .field(":method", b"CONNECT")
        .field(":authority", authority.as_bytes());
    block
}

/// A SETTINGS entry.
pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}
