//! What the administrator may look at: `/config_dump` in the shape that Istio's tools read,
//! `/config`, `/connections` and `/pods`. Adds routes to the runtime's admin server; changes
//! nothing.

mod connections;

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_identity::Certificates;
use ambit_runtime::http::{Method, Response, Router};
use ambit_state::Reader;
use serde::Serialize;

use crate::capture::{OutcomeState, PodStatus, Statuses};
use crate::config::{Config, StaticConfig};
use crate::proxy::Pods;
use connections::ByDirection;
pub use connections::ConnectionDump;

/// Everything that is shown.
pub struct View {
    /// What was configured.
    pub config: Arc<Config>,
    /// Discovery's view.
    pub state: Reader,
    /// Certificates of this node's workloads.
    pub certificates: Certificates,
    /// Served pods.
    pub pods: Arc<Pods>,
    /// Enrolled pods.
    pub statuses: Statuses,
}

/// Adds the routes.
#[must_use]
pub fn routes(router: Router, view: View) -> Router {
    let view = Arc::new(view);
    let (dumped, configured, connected, enrolled) = (
        Arc::clone(&view),
        Arc::clone(&view),
        Arc::clone(&view),
        view,
    );
    router
        .route(
            Method::GET,
            "/config_dump",
            "all that the agent knows",
            move |_| {
                let view = Arc::clone(&dumped);
                // A large mesh takes a while to write down.
                async move {
                    let made =
                        tokio::task::spawn_blocking(move || Response::json(&Dump::of(&view)));
                    made.await
                        .unwrap_or_else(|_| Response::text("the dump failed\n").status(500))
                }
            },
        )
        .route(
            Method::GET,
            "/config",
            "the effective configuration",
            move |_| std::future::ready(Response::json(&*configured.config)),
        )
        .route(
            Method::GET,
            "/connections",
            "live connections, by pod",
            move |_| std::future::ready(Response::json(&connections::by_pod(&connected.pods))),
        )
        .route(
            Method::GET,
            "/pods",
            "enrolled pods and what became of them",
            move |_| std::future::ready(Response::json(&enrolled.statuses.snapshot())),
        )
}

/// `/config_dump`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dump<'a> {
    #[serde(flatten)]
    state: ambit_state::Dump,
    certificates: Vec<ambit_identity::CertificateDump>,
    config: &'a Config,
    version: Version,
    static_config: &'a Option<StaticConfig>,
    workload_state: BTreeMap<String, WorkloadState>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    rust_version: &'static str,
    build_profile: &'static str,
}

/// One enrolled pod with its connections.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadState {
    /// `Up`, or `Pending: ` and why.
    state: String,
    info: Info,
    connections: ByDirection,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    name: String,
    namespace: String,
    trust_domain: String,
    service_account: String,
}

impl<'a> Dump<'a> {
    fn of(view: &'a View) -> Self {
        Self {
            state: view.state.dump(),
            certificates: view.certificates.dump(),
            config: &view.config,
            version: Version {
                version: env!("CARGO_PKG_VERSION"),
                rust_version: env!("CARGO_PKG_RUST_VERSION"),
                build_profile: if cfg!(debug_assertions) {
                    "debug"
                } else {
                    "release"
                },
            },
            static_config: &view.config.discovery.local,
            workload_state: workload_states(view),
        }
    }
}

fn workload_states(view: &View) -> BTreeMap<String, WorkloadState> {
    let trust_domain = view.config.node.trust_domain.as_str();
    let mut states: BTreeMap<_, _> = view
        .statuses
        .snapshot()
        .into_iter()
        .map(|(uid, status)| (uid.to_string(), state_of(&status, trust_domain)))
        .collect();
    for pod in view.pods.list() {
        // The agent itself is served without being enrolled.
        let Some(state) = states.get_mut(pod.uid.as_str()) else {
            continue;
        };
        state.connections = ByDirection::of(&pod.connections.list());
    }
    states
}

fn state_of(status: &PodStatus, trust_domain: &str) -> WorkloadState {
    WorkloadState {
        state: match &status.state {
            OutcomeState::Captured => "Up".to_owned(),
            OutcomeState::Released => "Down".to_owned(),
            OutcomeState::Pending(reason) => format!("Pending: {reason}"),
        },
        info: Info {
            name: status.info.name.to_string(),
            namespace: status.info.namespace.to_string(),
            trust_domain: trust_domain.to_owned(),
            service_account: status.info.service_account.to_string(),
        },
        connections: ByDirection::default(),
    }
}

#[cfg(test)]
mod tests {
    use ambit_model::{Namespace, ServiceAccount};

    use super::*;
    use crate::capture::PodInfo;

    #[test]
    fn a_pod_is_shown_as_istios_tools_read_it() {
        let status = PodStatus {
            info: PodInfo {
                name: "web-1".into(),
                namespace: Namespace::from("shop"),
                service_account: ServiceAccount::from("web"),
            },
            addresses: Vec::new(),
            netns: None,
            state: OutcomeState::Captured,
        };
        let shown = serde_json::to_value(state_of(&status, "cluster.local")).unwrap();
        let expected = serde_json::json!({
            "state": "Up",
            "info": {
                "name": "web-1",
                "namespace": "shop",
                "trustDomain": "cluster.local",
                "serviceAccount": "web",
            },
            "connections": {"inbound": [], "outbound": []},
        });
        assert_eq!(shown, expected);
        let pending = PodStatus {
            state: OutcomeState::Pending("no netns".to_owned()),
            ..status
        };
        assert_eq!(state_of(&pending, "td").state, "Pending: no netns");
    }
}
