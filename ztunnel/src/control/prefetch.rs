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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ambit_model::{TunnelProtocol, Workload, WorkloadUid};
    use ambit_state::{Change, Settings};

    use super::*;
    use crate::config::Config;
    use crate::control::certificates;

    #[tokio::test]
    async fn identities_of_the_node_are_kept_ready_and_given_up() {
        let source = BTreeMap::from([("FAKE_CA".to_owned(), "true".to_owned())]);
        let prepared = certificates::prepare(&Config::from_source(&source).unwrap()).unwrap();
        let certificates = prepared.certificates;
        let (mut writer, state) = ambit_state::new(Settings::default());
        let workload = |name: &str, node: &str| {
            Change::Workload(Workload {
                uid: WorkloadUid::from(name),
                namespace: "shop".into(),
                service_account: name.into(),
                node: node.into(),
                tunnel: TunnelProtocol::Hbone,
                ..Workload::default()
            })
        };
        let following = tokio::spawn(run(
            state,
            "here".into(),
            TrustDomain::default(),
            certificates.clone(),
            Statuses::default(),
        ));
        let known = |count: usize| {
            let certificates = certificates.clone();
            async move {
                while certificates.dump().len() != count {
                    tokio::task::yield_now().await;
                }
                certificates.dump()
            }
        };
        let patience = std::time::Duration::from_secs(10);
        writer.apply(vec![workload("web", "here"), workload("far", "elsewhere")]);
        let ready = tokio::time::timeout(patience, known(1)).await.unwrap();
        assert_eq!(ready[0].identity, "spiffe://cluster.local/ns/shop/sa/web");
        writer.apply(vec![Change::RemoveAddress("web".to_owned())]);
        tokio::time::timeout(patience, known(0)).await.unwrap();
        following.abort();
    }
}
