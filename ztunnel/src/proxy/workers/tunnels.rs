//! The tunnels that one pod has opened on one thread, and who is at their other ends.

use std::collections::HashMap;
use std::sync::Arc;

use ambit_hbone::Pool;
use ambit_identity::TrustStore;
use ambit_telemetry::Cut;
use rustls::pki_types::CertificateDer;

use crate::proxy::dial::{DialError, TunnelKey};
use crate::proxy::{Direction, Pod, limits};

/// The tunnels that a pod has opened, on one thread.
pub(super) struct Tunnels {
    pod: Arc<Pod>,
    pool: Pool<TunnelKey, DialError>,
    /// What the other end of each has presented, to find it on a revocation list later.
    chains: HashMap<TunnelKey, Vec<CertificateDer<'static>>>,
}

impl Tunnels {
    pub(super) fn new(pod: &Arc<Pod>, settings: &ambit_hbone::Settings) -> Self {
        Self {
            pod: Arc::clone(pod),
            pool: Pool::new(settings.clone()),
            chains: HashMap::new(),
        }
    }

    pub(super) fn pool(&self) -> Pool<TunnelKey, DialError> {
        self.pool.clone()
    }

    /// Remembers who answered at the other end of a new tunnel; `false` when that pushed out
    /// another, most likely of a tunnel that is closed. If not, its revocation goes unnoticed.
    pub(super) fn note_chain(
        &mut self,
        key: &TunnelKey,
        chain: &[CertificateDer<'static>],
    ) -> bool {
        let full = self.chains.len() >= limits::REMEMBERED_CHAINS;
        if full && let Some(any) = self.chains.keys().next().cloned() {
            self.chains.remove(&any);
        }
        self.chains.insert(key.clone(), chain.to_vec());
        !full
    }

    /// Closes tunnels whose other end was revoked, and cuts what goes through them.
    pub(super) fn cut_revoked(&mut self, trust: &TrustStore) {
        let revoked: Vec<TunnelKey> = self
            .chains
            .iter()
            .filter(|(_, chain)| trust.revoked(chain))
            .map(|(key, _)| key.clone())
            .collect();
        for key in revoked {
            self.chains.remove(&key);
            self.pool.retire_where(|pooled| *pooled == key);
            let cut = self.pod.connections.cut_where(Cut::Revoked, |live| {
                live.direction == Direction::Outbound && live.via == Some(key.to)
            });
            tracing::warn!(to = %key.to, cut, "the certificate of a tunnel's other end was revoked");
        }
    }
}
