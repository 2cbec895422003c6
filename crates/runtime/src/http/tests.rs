//! The server over real sockets on loopback: good requests, and bad ones.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::admin::{self, LogControl};
use crate::shutdown::{Shutdown, ShutdownReason};
use crate::{Readiness, limits};

#[derive(Default)]
struct FakeLog(Mutex<String>);

impl LogControl for FakeLog {
    fn current(&self) -> String {
        self.0.lock().clone()
    }

    fn set(&self, levels: &str) -> Result<(), String> {
        if levels == "loud" {
            return Err("\"loud\" is not a log level".into());
        }
        *self.0.lock() = levels.to_owned();
        Ok(())
    }

    fn reset(&self) -> Result<(), String> {
        "info".clone_into(&mut self.0.lock());
        Ok(())
    }
}

async fn start(router: Router) -> Server {
    Server::bind("127.0.0.1:0".parse().unwrap(), router)
        .await
        .unwrap()
}

fn admin_router() -> (Router, Shutdown) {
    let shutdown = Shutdown::default();
    let router = admin::router("admin", Arc::new(FakeLog::default()), shutdown.clone());
    (
        router.json("/config_dump", "state", || vec!["x".repeat(2000)]),
        shutdown,
    )
}

/// Sends bytes as they are and returns all that comes back.
async fn raw(server: &Server, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // A reset after the answer is fine: the server closes with our bytes unread.
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .expect("the server hangs")
        .ok();
    answer
}

async fn ask(server: &Server, line: &str, headers: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    String::from_utf8_lossy(&raw(server, request.as_bytes()).await).into_owned()
}

#[tokio::test]
async fn the_common_routes_answer() {
    let (router, shutdown) = admin_router();
    let server = start(router).await;
    for (line, status, part) in [
        ("GET /", "200", "/config_dump"),
        ("GET /config_dump", "200", "xxx"),
        (
            "POST /logging?level=debug",
            "200",
            "current log level is debug",
        ),
        ("GET /logging", "200", "current log level is debug"),
        ("POST /logging?level=loud", "400", "not a log level"),
        ("POST /logging?reset", "200", "current log level is info"),
        ("GET /quitquitquit", "405", "use POST"),
        ("GET /nothing", "404", "see /"),
        ("GET /debug/pprof/heap", "501", "no heap profile"),
        ("GET /debug/pprof/profile?seconds=0", "400", "from 1 to 300"),
        ("GET /debug/pprof/profile?seconds=x", "400", "from 1 to 300"),
        (
            "GET /debug/pprof/profile?seconds=1&frequency=9999",
            "400",
            "from 1 to 1000",
        ),
    ] {
        let answer = ask(&server, line, "").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {answer}"
        );
        assert!(answer.contains(part), "{line}: {answer}");
    }
    ask(&server, "POST /quitquitquit", "content-length: 0\r\n").await;
    assert_eq!(shutdown.requested().await, ShutdownReason::Requested);
    server.stop().await;
}

#[tokio::test]
async fn a_cpu_profile_is_gzipped() {
    let server = start(admin_router().0).await;
    let answer = raw(
        &server,
        b"GET /debug/pprof/profile?seconds=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(
        &answer[at..at + 2],
        &[0x1f, 0x8b],
        "{}",
        String::from_utf8_lossy(&answer)
    );
    server.stop().await;
}

#[tokio::test]
async fn bodies_are_compressed_where_accepted() {
    let server = start(admin_router().0).await;
    let plain = ask(&server, "GET /config_dump", "").await;
    assert!(!plain.contains("content-encoding"));
    let refused = ask(&server, "GET /config_dump", "accept-encoding: gzip;q=0\r\n").await;
    assert!(!refused.contains("content-encoding"));
    let packed = ask(&server, "GET /config_dump", "accept-encoding: br, gzip\r\n").await;
    assert!(packed.contains("content-encoding: gzip"), "{packed}");
    assert!(packed.len() < plain.len());
    server.stop().await;
}

#[tokio::test]
async fn bad_requests_are_answered_and_the_server_goes_on() {
    let server = start(admin_router().0).await;
    let garbage = raw(&server, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await;
    assert!(
        garbage.starts_with(b"HTTP/1.1 400"),
        "{}",
        String::from_utf8_lossy(&garbage)
    );
    let header = format!("x: {}\r\n", "a".repeat(limits::HEAD_BYTES * 2));
    let long = ask(&server, "GET /", &header).await;
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
    let body = format!(
        "connection: close\r\ncontent-length: {}\r\n",
        limits::BODY_BYTES + 1
    );
    let mut request = format!("POST /logging HTTP/1.1\r\nhost: a\r\n{body}\r\n").into_bytes();
    request.extend(vec![b'a'; limits::BODY_BYTES + 1]);
    let big = String::from_utf8_lossy(&raw(&server, &request).await).into_owned();
    assert!(big.starts_with("HTTP/1.1 413"), "{big}");
    let foreign = ask(&server, "POST /quitquitquit", "origin: http://evil\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    assert!(ask(&server, "GET /", "").await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let server = start(admin_router().0).await;
    let mut idle = Vec::new();
    for _ in 0..limits::CONNECTIONS {
        idle.push(TcpStream::connect(server.address()).await.unwrap());
    }
    let over = ask(&server, "GET /", "").await;
    assert!(
        over.is_empty(),
        "one connection too many was served: {over}"
    );
    drop(idle);
    let mut served = false;
    for _ in 0..100 {
        served = ask(&server, "GET /", "").await.starts_with("HTTP/1.1 200");
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(served, "places did not become free again");
    server.stop().await;
}

#[tokio::test]
async fn readiness_is_served() {
    let readiness = Readiness::default();
    let waiting = readiness.pending("zds snapshot");
    let server = start(readiness.route(Router::new("readiness"))).await;
    let answer = ask(&server, "GET /healthz/ready", "").await;
    assert!(answer.starts_with("HTTP/1.1 500"));
    assert!(
        answer.ends_with("not ready, pending: zds snapshot\n"),
        "{answer}"
    );
    waiting.done();
    assert!(
        ask(&server, "GET /healthz/ready", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_served_at_both_paths() {
    let server = start(admin::metrics_router("text/plain", || {
        "m 1\n# EOF\n".into()
    }))
    .await;
    for path in ["/metrics", "/stats/prometheus"] {
        let answer = ask(&server, &format!("GET {path}"), "").await;
        assert!(answer.ends_with("m 1\n# EOF\n"), "{answer}");
    }
    server.stop().await;
}
