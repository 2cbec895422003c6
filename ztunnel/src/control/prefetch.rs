//! Keeps certificates ready for the tunnel workloads of this node, so that no connection waits for
//! the authority. Discovery tells of them, often before their pods are enrolled here.

use std::collections::BTreeSet;

use ambit_identity::{Certificates, Priority};
use ambit_model::{Identity, NodeName, TrustDomain};
use ambit_state::Reader;

use crate::capture::Statuses;

/// Follows discovery. Never returns; drop it to end. An identity is given up when neither
/// discovery nor an enrolled pod has it any more.
pub async fn run(
    state: Reader,
    node: NodeName,
    trust_domain: TrustDomain,
    certificates: Certificates,
    enrolled: Statuses,
) {
    if node.is_empty() {
        // Without a name every node's workloads would look like this one's.
        return std::future::pending().await;
    }
    let mut changes = state.changes();
    let mut ready = BTreeSet::new();
    loop {
        changes.borrow_and_update();
        let wanted: BTreeSet<Identity> = state.identities_on_node(&node).into_iter().collect();
        for identity in wanted.difference(&ready) {
            certificates.request(identity, Priority::Warmup);
        }
        for identity in ready.difference(&wanted) {
            if !in_use(&enrolled, &trust_domain, identity) {
                certificates.forget(identity);
            }
        }
        ready = wanted;
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn in_use(enrolled: &Statuses, trust_domain: &TrustDomain, identity: &Identity) -> bool {
    enrolled.snapshot().values().any(|pod| {
        *trust_domain == identity.trust_domain
            && pod.info.namespace == identity.namespace
            && pod.info.service_account == identity.service_account
    })
}
