//! DNS over TCP: messages with their length in front (RFC 1035 §4.2.2), answered in order.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use ambit_net::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::limits::{TCP_CONNECTIONS, TCP_IDLE};
use super::message::Transport;
use super::pod::PodDns;

/// Reads one message; `None` at the end.
pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

/// Writes one message; those too long for the length field are an error.
pub(super) async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    // In one piece: some clients read the length alone and do not wait for the rest.
    let mut whole = Vec::with_capacity(bytes.len() + 2);
    whole.extend(length.to_be_bytes());
    whole.extend(bytes);
    stream.write_all(&whole).await
}

/// Accepts connections of one listener until the pod stops.
pub(super) async fn serve(pod: Arc<PodDns>, listener: TcpListener) {
    let acceptor = match Acceptor::new(listener) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::warn!(pod = %pod.spec.uid, %error, "no DNS over TCP in the pod");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(TCP_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(pod = %pod.spec.uid, %error, "cannot accept a DNS connection");
                if ambit_net::is_fatal(&error) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        if !pod.is_local(peer.ip()) {
            continue;
        }
        let pod_again = Arc::clone(&pod);
        pod.spawn(async move {
            let result = async {
                stream.set_nonblocking(true)?;
                connection(&pod_again, TcpStream::from_std(stream)?).await
            };
            if let Err(error) = result.await {
                debug!(pod = %pod_again.spec.uid, %error, "DNS connection broke");
            }
            drop(place);
        });
    }
}

/// One message after the other, until the client is done or silent.
async fn connection(pod: &PodDns, mut stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    while let Ok(read) = timeout(TCP_IDLE, read_message(&mut stream)).await {
        let Some(bytes) = read? else { return Ok(()) };
        let Some(answer) = pod.answer(&bytes, peer, Transport::Tcp).await else {
            return Ok(());
        };
        match timeout(TCP_IDLE, write_message(&mut stream, &answer)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}
