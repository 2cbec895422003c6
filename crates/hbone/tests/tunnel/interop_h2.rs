//! Against the h2 crate over tokio-rustls: another HTTP/2 and another use of TLS.

use std::sync::Arc;

use ambit_hbone::{Connection, Error, OpenError, Pool, Settings};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::support::{Echo, accept_tls, connect_tls, name, pki, request, sim};

async fn h2_client(
    io: DuplexStream,
) -> (
    h2::client::SendRequest<Bytes>,
    tokio::task::JoinHandle<Result<(), h2::Error>>,
) {
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&pki().client));
    let tls = connector.connect(name(), io).await.unwrap();
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 22)
        .handshake(tls)
        .await
        .unwrap();
    (client, tokio::task::spawn_local(connection))
}

/// An h2 server that echoes every stream.
async fn h2_echo(io: DuplexStream) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&pki().server));
    let tls = acceptor.accept(io).await.unwrap();
    let mut connection = h2::server::Builder::new()
        .handshake::<_, Bytes>(tls)
        .await
        .unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request
            .uri()
            .authority()
            .is_some_and(|authority| authority.host() == "refuse")
        {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response
                .headers_mut()
                .insert("x-reason", HeaderValue::from_static("policy"));
            respond.send_response(response, true).unwrap();
            continue;
        }
        tokio::task::spawn_local(async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let mut body = request.into_body();
            while let Some(Ok(mut chunk)) = body.data().await {
                body.flow_control().release_capacity(chunk.len()).unwrap();
                while !chunk.is_empty() {
                    send.reserve_capacity(chunk.len());
                    let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
                    let room = room.unwrap().unwrap().min(chunk.len());
                    send.send_data(chunk.split_to(room), false).unwrap();
                }
            }
            send.send_data(Bytes::new(), true).unwrap();
        });
    }
}

#[test]
fn an_h2_client_gets_its_bytes_back() {
    sim(async {
        let echo = Echo::new(Settings::default());
        let (near, far) = duplex(64 * 1024);
        echo.serve(far);
        let (client, _driver) = h2_client(near).await;
        for size in [0usize, 5, 70_000, 3_000_000] {
            let mut client = client.clone().ready().await.unwrap();
            let connect = Request::connect("10.0.0.1:80")
                .header("baggage", "k8s.namespace.name=shop")
                .body(())
                .unwrap();
            let (response, mut send) = client.send_request(connect, false).unwrap();
            let sending = async {
                let mut left = size;
                while left > 0 {
                    send.reserve_capacity(left);
                    let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
                    let room = room.unwrap().unwrap().min(left);
                    send.send_data(Bytes::from(vec![7; room]), false).unwrap();
                    left -= room;
                }
                send.send_data(Bytes::new(), true).unwrap();
            };
            let receiving = async {
                let response = response.await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                let mut body = response.into_body();
                let mut count = 0;
                while let Some(chunk) = body.data().await {
                    let chunk = chunk.unwrap();
                    assert!(chunk.iter().all(|byte| *byte == 7));
                    count += chunk.len();
                    body.flow_control().release_capacity(chunk.len()).unwrap();
                }
                count
            };
            let (_, count) = tokio::join!(sending, receiving);
            assert_eq!(count, size);
        }
    });
}

#[test]
fn an_h2_server_gives_bytes_back_and_refusals_arrive_whole() {
    sim(async {
        let pool: Pool<u8, Error> = Pool::new(Settings::default());
        let dial = || async {
            let (near, far) = duplex(64 * 1024);
            tokio::task::spawn_local(h2_echo(far));
            connect_tls(near).await
        };
        for size in [0usize, 5, 70_000, 3_000_000] {
            let opened = pool.open(&0, dial, request("10.0.0.1:80")).await.unwrap();
            let (mut read, mut write) = tokio::io::split(opened.stream);
            let sent = vec![9; size];
            let sending = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let (_, count) = tokio::join!(sending, read.read_to_end(&mut received));
            assert_eq!(count.unwrap(), size);
            assert!(received == sent);
        }
        let refused = pool.open(&0, dial, request("refuse:80")).await;
        let Err(OpenError::Refused { status, headers }) = refused else {
            panic!("not refused")
        };
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(headers["x-reason"], "policy");
    });
}

#[test]
fn a_refusal_reaches_an_h2_client() {
    sim(async {
        let (near, far) = duplex(64 * 1024);
        tokio::task::spawn_local(async move {
            let tls = accept_tls(far).await.unwrap();
            let mut connection = Connection::accept(tls, &Settings::default()).await.unwrap();
            while let Ok(Some(request)) = connection.next().await {
                let status = if request.is_connect() {
                    StatusCode::FORBIDDEN
                } else {
                    StatusCode::BAD_REQUEST
                };
                request.refuse(status, HeaderMap::new()).unwrap();
            }
        });
        let (client, _driver) = h2_client(near).await;
        for (method, expected) in [
            ("CONNECT", StatusCode::FORBIDDEN),
            ("GET", StatusCode::BAD_REQUEST),
        ] {
            let mut client = client.clone().ready().await.unwrap();
            let uri = if method == "GET" {
                "https://a.test/"
            } else {
                "10.0.0.1:80"
            };
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            let (response, _send) = client.send_request(request, false).unwrap();
            assert_eq!(response.await.unwrap().status(), expected);
        }
    });
}

#[test]
fn a_drain_lets_an_h2_client_finish() {
    sim(async {
        let (near, far) = duplex(64 * 1024);
        let server = tokio::task::spawn_local(async move {
            let tls = accept_tls(far).await.unwrap();
            let mut connection = Connection::accept(tls, &Settings::default()).await.unwrap();
            let first = connection.next().await.unwrap().unwrap();
            connection.drain();
            tokio::task::spawn_local(async move {
                let mut stream = first.accept(HeaderMap::new()).unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                stream.write_all(&received).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            assert!(connection.next().await.unwrap().is_none());
        });
        let (client, driver) = h2_client(near).await;
        let mut client = client.ready().await.unwrap();
        let connect = Request::connect("10.0.0.1:80").body(()).unwrap();
        let (response, mut send) = client.send_request(connect, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        send.send_data(Bytes::from_static(b"late"), true).unwrap();
        let mut received = Vec::new();
        while let Some(chunk) = body.data().await {
            received.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(received, b"late");
        server.await.unwrap();
        driver.await.unwrap().unwrap();
    });
}
