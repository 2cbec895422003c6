//! The same two agents on the h2 crate and tokio-rustls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::spawn_local;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::agents::{Agents, listen, spawn};
use crate::pki::{name, pki};

const READ: usize = 256 * 1024;
const WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

pub(crate) fn start(server: SocketAddr) -> Agents {
    let (tunnel, accepting) = spawn(move |announce| accepting(announce, server));
    let (address, opening) = spawn(move |announce| opening(announce, tunnel));
    Agents {
        address,
        threads: [accepting, opening],
    }
}

async fn accepting(announce: Sender<SocketAddr>, server: SocketAddr) {
    let listener = listen(&announce).await;
    let acceptor = TlsAcceptor::from(Arc::clone(&pki().server));
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let acceptor = acceptor.clone();
        spawn_local(async move {
            let tls = acceptor.accept(tcp).await.unwrap();
            let mut connection = h2::server::Builder::new()
                .initial_window_size(WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(64 * 1024)
                .max_send_buffer_size(400 * 1024)
                .handshake(tls)
                .await
                .unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                spawn_local(async move {
                    let tcp = TcpStream::connect(server).await.unwrap();
                    tcp.set_nodelay(true).unwrap();
                    let send = respond.send_response(Response::new(()), false).unwrap();
                    copy(tcp, send, request.into_body()).await;
                });
            }
        });
    }
}

async fn opening(announce: Sender<SocketAddr>, tunnel: SocketAddr) {
    let listener = listen(&announce).await;
    let connector = TlsConnector::from(Arc::clone(&pki().client));
    let pooled: Arc<Mutex<Option<h2::client::SendRequest<Bytes>>>> = Arc::default();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (pooled, connector) = (Arc::clone(&pooled), connector.clone());
        spawn_local(async move {
            let mut slot = pooled.lock().await;
            if slot.is_none() {
                let tcp = TcpStream::connect(tunnel).await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let tls = connector.connect(name(), tcp).await.unwrap();
                let (client, connection) = h2::client::Builder::new()
                    .initial_window_size(WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_frame_size(64 * 1024)
                    .max_send_buffer_size(4 << 20)
                    .handshake(tls)
                    .await
                    .unwrap();
                spawn_local(connection);
                *slot = Some(client);
            }
            let client = slot.as_ref().unwrap().clone();
            drop(slot);
            let request = Request::connect("10.0.0.1:80").body(()).unwrap();
            let mut client = client.ready().await.unwrap();
            let (response, send) = client.send_request(request, false).unwrap();
            copy(tcp, send, response.await.unwrap().into_body()).await;
        });
    }
}

async fn copy(tcp: TcpStream, mut send: SendStream<Bytes>, mut receive: RecvStream) {
    let (mut read, mut write) = tcp.into_split();
    let up = async {
        let mut size = 4 * 1024;
        let mut buffer = BytesMut::new();
        loop {
            read.readable().await.unwrap();
            buffer.reserve(size);
            let count = read.read_buf(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                let _gone = send.send_data(Bytes::new(), true);
                return;
            }
            if count >= size {
                size = (size * 4).min(READ);
            }
            let mut data = buffer.split().freeze();
            while !data.is_empty() {
                send.reserve_capacity(data.len());
                let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
                let Some(Ok(room)) = room else { return };
                let room = room.min(data.len());
                if send.send_data(data.split_to(room), false).is_err() {
                    return;
                }
            }
        }
    };
    let down = async {
        while let Some(Ok(chunk)) = receive.data().await {
            if write.write_all(&chunk).await.is_err() {
                return;
            }
            let _gone = receive.flow_control().release_capacity(chunk.len());
        }
        let _gone = write.shutdown().await;
    };
    tokio::join!(up, down);
}
