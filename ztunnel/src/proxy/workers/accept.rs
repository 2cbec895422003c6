//! Accepting on one listener: until its pod drains, and then what waits in the queue already.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use ambit_net::{Acceptor, is_fatal};

use super::Worker;
use crate::proxy::{Direction, Pod, limits};

/// Accepts until the pod drains.
pub(super) async fn until_drained(
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    direction: Direction,
    listener: TcpListener,
) {
    let acceptor = match Acceptor::new(listener) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::error!(%error, pod = %pod.full_name(), ?direction, "cannot accept");
            return;
        }
    };
    let mut drain = std::pin::pin!(pod.drain.cancelled());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut drain => return take_queued(&worker, &pod, direction, &acceptor).await,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                worker
                    .deal(&pod, direction, stream, ambit_net::canonical(peer))
                    .await;
            }
            Err(error) if is_fatal(&error) => {
                tracing::error!(%error, pod = %pod.full_name(), ?direction, "listener lost");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes what waits in the accept queue already: closing the listener would reset it.
async fn take_queued(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    direction: Direction,
    acceptor: &Acceptor,
) {
    loop {
        let queued = tokio::select! {
            biased;
            queued = acceptor.accept() => queued,
            () = std::future::ready(()) => return,
        };
        let Ok((stream, peer)) = queued else { return };
        worker
            .deal(pod, direction, stream, ambit_net::canonical(peer))
            .await;
    }
}
