//! Decides again about live connections when something they were decided by has changed.

use std::sync::Arc;

use super::{Mesh, Pod, Pods};

/// Follows the state and cuts what it newly refuses. Runs on the control thread until cancelled.
pub async fn follow(mesh: Arc<Mesh>, pods: Arc<Pods>) {
    let mut changes = mesh.state.changes();
    while changes.changed().await.is_ok() {
        changes.borrow_and_update();
        for pod in pods.list() {
            redecide(&mesh, &pod);
            // A pod may have many connections: let readiness and discovery have their turn.
            tokio::task::yield_now().await;
        }
    }
}

/// One pod's connections. A pod that discovery does not know any more keeps its connections: that
/// alone revokes nothing.
fn redecide(mesh: &Mesh, pod: &Pod) {
    if pod.connections.is_empty() {
        return;
    }
    let node = &mesh.settings.node;
    let Some(workload) = mesh.state.find_pod(node, pod.namespace.as_str(), &pod.name) else {
        return;
    };
    let cut = pod
        .connections
        .redecide(&mesh.state.policies_for(&workload));
    if cut > 0 {
        tracing::info!(pod = %pod.full_name(), cut, "a policy change cut live connections");
    }
}
