//! DNS over UDP: one datagram, one answer; questions for upstream do not hold up others.

use std::io;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tracing::debug;

use super::limits::DATAGRAM;
use super::message::Transport;
use super::pod::PodDns;

/// Answers the datagrams of one socket until the pod stops.
pub(super) async fn serve(pod: Arc<PodDns>, socket: std::net::UdpSocket) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => Arc::new(socket),
        Err(error) => {
            tracing::warn!(pod = %pod.spec.uid, %error, "no DNS over UDP in the pod");
            return;
        }
    };
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer met a closed port: its sender is gone, the socket is as good.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                debug!(pod = %pod.spec.uid, %error, "cannot receive DNS queries");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        if !pod.is_local(peer.ip()) {
            continue;
        }
        let bytes = buffer[..length].to_vec();
        let Some(place) = pod.place() else {
            if let Some(answer) = PodDns::overloaded(&bytes) {
                drop(socket.try_send_to(&answer, peer));
            }
            continue;
        };
        let (again, socket) = (Arc::clone(&pod), Arc::clone(&socket));
        pod.spawn(async move {
            if let Some(answer) = again.answer(&bytes, peer, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, peer).await
            {
                debug!(pod = %again.spec.uid, %error, "cannot send a DNS answer");
            }
            drop(place);
        });
    }
}
