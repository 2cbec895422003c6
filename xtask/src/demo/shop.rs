//! The shop: three services that call each other by name, as any application would. None of this code
//! knows of the mesh.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use ambit_testkit::apps::{client, dns};
use ambit_testkit::topology::Host;
use anyhow::Result;

/// A service and what it calls to answer.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) calls: Option<&'static str>,
}

/// The services of the shop.
pub(super) const SERVICES: [Service; 3] = [
    Service {
        name: "web",
        calls: Some("orders.shop.svc.cluster.local"),
    },
    Service {
        name: "orders",
        calls: Some("stock.shop.svc.cluster.local"),
    },
    Service {
        name: "stock",
        calls: None,
    },
];

/// Serves on a port inside a pod, for the life of the process.
pub(super) fn serve(service: &Service, host: &Host, port: u16, resolver: SocketAddr) -> Result<()> {
    let listener = host.run(|| TcpListener::bind((host.v4, port)))?;
    let (service, host) = (Arc::new(service.clone()), Arc::new(host.clone()));
    std::thread::Builder::new()
        .name(service.name.into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let (service, host) = (Arc::clone(&service), Arc::clone(&host));
                // A client that went away is nobody's fault here.
                std::thread::spawn(move || answer(stream, &service, &host, port, resolver).ok());
            }
        })?;
    Ok(())
}

fn answer(
    mut stream: TcpStream,
    service: &Service,
    host: &Host,
    port: u16,
    resolver: SocketAddr,
) -> io::Result<()> {
    stream.set_read_timeout(Some(client::LIMIT))?;
    let path = read_path(&stream)?;
    let mut body = format!("{} ({})", service.name, host.v4);
    let mut status = "200 OK";
    if let Some(callee) = service.calls {
        match call(host, callee, port, resolver, &path) {
            Ok(answer) => body = format!("{body} -> {answer}"),
            Err(error) => {
                status = "502 Bad Gateway";
                body = format!("{body} -> {callee} failed: {error}");
            }
        }
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn read_path(stream: &TcpStream) -> io::Result<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    Ok(first.split(' ').nth(1).unwrap_or("/").to_owned())
}

/// Resolves the name as the pod would and asks the service.
fn call(
    host: &Host,
    name: &str,
    port: u16,
    resolver: SocketAddr,
    path: &str,
) -> io::Result<String> {
    let answer = dns::query(host, resolver, name, false)?;
    let address: IpAddr = *answer
        .addresses
        .first()
        .ok_or_else(|| io::Error::other(format!("{name} has no address (code {})", answer.code)))?;
    client::get(host, SocketAddr::new(address, port), path)
}
