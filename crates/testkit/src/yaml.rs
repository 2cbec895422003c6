//! Builds the Kubernetes-shaped YAML that the controller reads in standalone mode. Text, so that what
//! a test applies is what a user would write.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::topology::Pod;

/// A namespace, in the mesh or not.
#[must_use]
pub fn namespace(name: &str, in_mesh: bool) -> String {
    let labels = if in_mesh {
        "\n  labels: {istio.io/dataplane-mode: ambient}"
    } else {
        ""
    };
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}{labels}\n---\n")
}

/// A pod of the topology, with the label `app` and the service account of its own name.
#[must_use]
pub fn pod(namespace: &str, pod: &Pod, node_name: &str) -> String {
    let (name, host) = (&pod.name, &pod.host);
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n\
         \x20 name: {name}\n\
         \x20 namespace: {namespace}\n\
         \x20 uid: {namespace}-{name}\n\
         \x20 labels: {{app: {name}}}\n\
         \x20 annotations: {{ambit.dev/netns: {path}}}\n\
         spec:\n\
         \x20 serviceAccountName: {name}\n\
         \x20 nodeName: {node_name}\n\
         \x20 containers: [{{name: app, image: app}}]\n\
         status:\n\
         \x20 phase: Running\n\
         \x20 podIP: {v4}\n\
         \x20 podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]\n\
         \x20 conditions: [{{type: Ready, status: \"True\"}}]\n\
         ---\n",
        path = host.path().display(),
        v4 = host.v4,
        v6 = host.v6,
    )
}

/// A dual-stack service for the pods with the label `app`, with the same port at both ends.
#[must_use]
pub fn service(namespace: &str, name: &str, app: &str, vips: &[IpAddr], ports: &[u16]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n"
    );
    let quoted: Vec<_> = vips.iter().map(|ip| format!("\"{ip}\"")).collect();
    if let Some(first) = quoted.first() {
        writeln!(
            text,
            "  clusterIP: {first}\n  clusterIPs: [{}]",
            quoted.join(", ")
        )
        .ok();
    }
    let families: Vec<_> = vips
        .iter()
        .map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
        .collect();
    writeln!(text, "  ipFamilies: [{}]", families.join(", ")).ok();
    writeln!(text, "  selector: {{app: {app}}}\n  ports:").ok();
    for port in ports {
        writeln!(
            text,
            "  - {{name: tcp-{port}, port: {port}, targetPort: {port}, protocol: TCP}}"
        )
        .ok();
    }
    text.push_str("---\n");
    text
}

/// PeerAuthentication for a whole namespace.
#[must_use]
pub fn peer_authentication(namespace: &str, mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: {namespace}}}\nspec: {{mtls: {{mode: {mode}}}}}\n---\n"
    )
}

/// An AuthorizationPolicy for the pods with the label `app`: `action` for what comes from the
/// service accounts, as principals of `cluster.local`.
#[must_use]
pub fn authorization(
    namespace: &str,
    name: &str,
    app: &str,
    action: &str,
    accounts: &[&str],
) -> String {
    let principals: Vec<_> = accounts
        .iter()
        .map(|a| format!("\"cluster.local/ns/{namespace}/sa/{a}\""))
        .collect();
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  action: {action}\n\
         \x20 rules:\n  - from:\n    - source:\n        principals: [{}]\n---\n",
        principals.join(", ")
    )
}
