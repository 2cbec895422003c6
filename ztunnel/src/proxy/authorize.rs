//! Policy on one inbound connection: decided, counted, and logged where it is dry-run.

use std::sync::Arc;

use ambit_model::{Action, PolicyKey, Workload};
use ambit_policy::{Connection, Decision, Verdict};

use super::{Failure, Live, Mesh};

/// Decides about a connection that is registered already.
///
/// # Errors
/// [`Failure::Denied`].
pub fn authorize(mesh: &Mesh, workload: &Arc<Workload>, live: &Live) -> Result<(), Failure> {
    let policies = mesh.state.policies_for(workload);
    if policies.is_empty() {
        return Ok(());
    }
    let about = Connection {
        source_identity: live.peer.as_deref(),
        source_ip: live.source.ip(),
        destination_ip: live.destination.ip(),
        destination_port: live.destination.port(),
    };
    let decision = policies.decide(&about);
    report(mesh, live, &decision);
    match decision.verdict {
        Verdict::Allow { .. } => Ok(()),
        Verdict::Deny { by, reason } => Err(Failure::Denied { by, reason }),
    }
}

fn report(mesh: &Mesh, live: &Live, decision: &Decision) {
    let metrics = &mesh.metrics.policy;
    for one in &decision.dry_run {
        let allowed = (one.action == Action::Allow) == one.matched;
        metrics.count(Some(&one.policy), one.action, allowed, true);
        if one.matched {
            note(mesh, live, &one.policy, "dry-run policy matched");
        }
    }
    match &decision.verdict {
        Verdict::Allow { by } => {
            metrics.count(by.as_ref(), Action::Allow, true, false);
            if let Some(by) = by {
                note(mesh, live, by, "policy allowed the connection");
            }
        }
        Verdict::Deny { by, reason } => {
            let action = match reason {
                ambit_policy::DenyReason::NoAllowMatched => Action::Allow,
                _ => Action::Deny,
            };
            metrics.count(by.as_ref(), action, false, false);
            // The access log names it too; here only on request.
            if let Some(by) = by {
                note(mesh, live, by, "policy denied the connection");
            }
        }
    }
}

fn note(mesh: &Mesh, live: &Live, policy: &PolicyKey, what: &str) {
    let (source, destination) = (live.source, live.destination);
    let peer = live.peer.as_deref().map(tracing::field::display);
    if mesh.settings.log_policy_at_info {
        tracing::info!(%policy, %source, peer, %destination, "{what}");
    } else {
        tracing::debug!(%policy, %source, peer, %destination, "{what}");
    }
}
