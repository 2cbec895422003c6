//! Certificates, runtimes and pairs of connected tunnels.

mod pki;
pub(crate) mod wire;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::tls::{TlsStream, accept, connect};
use ambit_hbone::{ConnectRequest, Connection, Error, OpenError, Opened, Pool, Request, Settings};
use ambit_net::copy::{Counters, IoEnd, copy_bidirectional};
use http::HeaderMap;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, LocalOptions};

pub(crate) use pki::{name, pki};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Runs on one thread with time that passes only when everything waits.
pub(crate) fn sim<F: Future>(test: F) -> F::Output {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(3600), test)
            .await
            .unwrap()
    })
}

pub(crate) fn request(authority: &str) -> ConnectRequest {
    ConnectRequest {
        authority: authority.to_owned(),
        headers: HeaderMap::new(),
    }
}

pub(crate) async fn accept_tls(io: DuplexStream) -> Result<TlsStream<DuplexStream>, Error> {
    accept(io, Arc::clone(&pki().server), TIMEOUT).await
}

pub(crate) async fn connect_tls(io: DuplexStream) -> Result<TlsStream<DuplexStream>, Error> {
    connect(io, Arc::clone(&pki().client), name(), TIMEOUT).await
}

/// Accepts with both sides' settings and serves every stream with an echo; counts connections.
#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) settings: Settings,
    pub(crate) connections: Rc<Cell<usize>>,
    pub(crate) pipe: usize,
}

impl Echo {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            connections: Rc::new(Cell::new(0)),
            pipe: 64 * 1024,
        }
    }

    /// A client's new connection to the echo.
    pub(crate) async fn dial(self) -> Result<TlsStream<DuplexStream>, Error> {
        let (near, far) = duplex(self.pipe);
        self.serve(far);
        connect_tls(near).await
    }

    /// Serves one connection.
    pub(crate) fn serve(&self, io: DuplexStream) {
        self.connections.set(self.connections.get() + 1);
        let settings = self.settings.clone();
        tokio::task::spawn_local(async move {
            let tls = accept_tls(io).await.unwrap();
            let mut connection = Connection::accept(tls, &settings).await.unwrap();
            while let Ok(Some(request)) = connection.next().await {
                assert!(request.is_connect());
                tokio::task::spawn_local(echo_stream(request));
            }
        });
    }

    pub(crate) async fn open(
        &self,
        pool: &Pool<u8, Error>,
        key: u8,
    ) -> Result<Opened, OpenError<Error>> {
        pool.open(&key, || self.clone().dial(), request("10.0.0.1:80"))
            .await
    }
}

async fn echo_stream(request: Request) {
    let mut stream = request.accept(HeaderMap::new()).unwrap();
    let (near, far) = duplex(16 * 1024);
    let (mut read, mut write) = tokio::io::split(far);
    let echo = async {
        let copied = tokio::io::copy(&mut read, &mut write).await;
        write.shutdown().await.unwrap();
        copied
    };
    let mut near = IoEnd::new(near);
    let counters = Counters::default();
    let copy = copy_bidirectional(&mut stream, &mut near, &counters);
    let (copied, echoed) = tokio::join!(copy, echo);
    if copied.is_ok() {
        assert_eq!(counters.forward(), echoed.unwrap());
    }
}
