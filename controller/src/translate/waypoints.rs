//! Which waypoint stands before a service or workload: the labels that ask for one, and the
//! checks whether it takes them.

use std::collections::BTreeMap;

use ambit_model::{
    ApplicationTunnel, GatewayAddress, GatewayDestination, NamespacedHostname, NetworkAddress,
    WeightedWaypoint,
};

use crate::api::gateway::{Listener, RouteNamespaces};
use crate::api::meta::Labels;
use crate::api::{Gateway, Namespace, ObjectMeta};
use crate::finding::Problem;
use crate::snapshot::Snapshot;
use crate::validate::address;

/// Port and protocol of a waypoint's listener.
const HBONE_PORT: u16 = 15008;

/// All gateways that can be waypoints, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Waypoints(BTreeMap<(String, String), Waypoint>);

#[derive(Clone, Debug, PartialEq)]
struct Waypoint {
    address: Option<GatewayAddress>,
    accepts: Accepts,
    allowed: RouteNamespaces,
    tunnel: Option<ApplicationTunnel>,
}

/// Traffic a waypoint takes (`istio.io/waypoint-for`).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Accepts {
    service: bool,
    workload: bool,
}

/// What a waypoint is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Traffic {
    /// Addressed to a service.
    Service,
    /// Addressed to a workload.
    Workload,
}

/// Who asks for a waypoint.
pub(super) struct Asker<'a> {
    pub(super) meta: &'a ObjectMeta,
    pub(super) namespace: Option<&'a Namespace>,
    pub(super) traffic: Traffic,
}

/// The waypoints found for somebody.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) waypoint: Option<GatewayAddress>,
    pub(super) weighted: Vec<WeightedWaypoint>,
    pub(super) problems: Vec<Problem>,
}

impl Waypoints {
    /// Collects the gateways of a snapshot.
    pub(super) fn collect(snapshot: &Snapshot) -> Self {
        let classes: BTreeMap<&str, &ObjectMeta> = snapshot
            .gateway_classes
            .iter()
            .map(|c| (c.metadata.name.as_str(), &c.metadata))
            .collect();
        let services: std::collections::HashSet<(&str, &str)> = if snapshot.gateways.is_empty() {
            std::collections::HashSet::new()
        } else {
            let name = |s: &crate::api::ObjectMeta| (s.namespace.clone(), s.name.clone());
            let wanted: std::collections::HashSet<_> = snapshot
                .gateways
                .iter()
                .map(|g| name(&g.metadata))
                .collect();
            let meta = snapshot.services.iter().map(|s| &s.object.metadata);
            meta.filter(|m| wanted.contains(&name(m)))
                .map(|m| (m.namespace.as_str(), m.name.as_str()))
                .collect()
        };
        let waypoint = |gateway: &Gateway| {
            let class = classes
                .get(gateway.spec.gateway_class_name.as_str())
                .copied();
            let listener = listener(gateway, class);
            if listener.is_none() && gateway.spec.gateway_class_name != "istio-waypoint" {
                return None;
            }
            let meta = &gateway.metadata;
            let has_service = services.contains(&(meta.namespace.as_str(), meta.name.as_str()));
            Some(Waypoint {
                address: address_of(gateway, has_service, snapshot),
                accepts: accepts(meta, class),
                allowed: listener
                    .map(|l| l.allowed_routes.namespaces.clone())
                    .unwrap_or_default(),
                tunnel: tunnel(meta, class),
            })
        };
        let found = snapshot.gateways.iter().filter_map(|gateway| {
            let meta = &gateway.metadata;
            Some((
                (meta.namespace.clone(), meta.name.clone()),
                waypoint(gateway)?,
            ))
        });
        Self(found.collect())
    }

    /// What to speak to the pods of a waypoint.
    pub(super) fn tunnel_of(&self, namespace: &str, name: &str) -> Option<ApplicationTunnel> {
        self.0.get(&(namespace.to_owned(), name.to_owned()))?.tunnel
    }

    /// Finds the waypoints somebody asks for, by its own labels or by those of its namespace.
    pub(super) fn attach(&self, asker: &Asker<'_>) -> Attached {
        let mut attached = Attached::default();
        if is_managed(asker.meta) {
            return attached;
        }
        let own = asker.meta.label("istio.io/use-waypoint").is_some();
        let source = match asker.namespace {
            Some(namespace) if !own => &namespace.metadata,
            _ => asker.meta,
        };
        let Some(name) = source
            .label("istio.io/use-waypoint")
            .filter(|name| *name != "none")
        else {
            return attached;
        };
        let namespace = source
            .label("istio.io/use-waypoint-namespace")
            .unwrap_or(&asker.meta.namespace);
        match self.find(namespace, name, asker) {
            Ok(address) => attached.waypoint = Some(address),
            // One that is inherited but takes other traffic was not meant.
            Err((Refused::TrafficType, _)) if !own => return attached,
            Err((_, message)) => {
                let field = "metadata.labels[\"istio.io/use-waypoint\"]";
                attached.problems.push(Problem::warning(field, message));
                return attached;
            }
        }
        if asker.traffic == Traffic::Service {
            self.canary(source, asker, (namespace, name), &mut attached);
        }
        attached
    }

    fn find(
        &self,
        namespace: &str,
        name: &str,
        asker: &Asker<'_>,
    ) -> Result<GatewayAddress, (Refused, String)> {
        let direct = "traffic goes direct";
        let Some(waypoint) = self.0.get(&(namespace.to_owned(), name.to_owned())) else {
            let message = format!(
                "names the waypoint {namespace}/{name}, and there is no such Gateway; {direct}"
            );
            return Err((Refused::NotReady, message));
        };
        if !allows(&waypoint.allowed, namespace, asker) {
            let message = format!(
                "names the waypoint {namespace}/{name}, whose allowedRoutes do not admit this namespace; {direct}"
            );
            return Err((Refused::Attachment, message));
        }
        let accepted = match asker.traffic {
            Traffic::Service => waypoint.accepts.service,
            Traffic::Workload => waypoint.accepts.workload,
        };
        if !accepted {
            let message = format!(
                "names the waypoint {namespace}/{name}, which by its label istio.io/waypoint-for does not take this kind of traffic; {direct}"
            );
            return Err((Refused::TrafficType, message));
        }
        waypoint.address.clone().ok_or_else(|| {
            let message = format!(
                "names the waypoint {namespace}/{name}, which has no address yet (status.addresses, or a Service of its name); {direct}"
            );
            (Refused::NotReady, message)
        })
    }

    /// A second waypoint that takes a share of the connections.
    fn canary(
        &self,
        source: &ObjectMeta,
        asker: &Asker<'_>,
        primary: (&str, &str),
        attached: &mut Attached,
    ) {
        let Some(name) = source.label("istio.io/use-waypoint-canary") else {
            return;
        };
        let namespace = source
            .label("istio.io/use-waypoint-canary-namespace")
            .unwrap_or(&asker.meta.namespace);
        let field = "metadata.labels[\"istio.io/use-waypoint-canary\"]";
        if (namespace, name) == primary {
            let message = "names the same waypoint as istio.io/use-waypoint; name another one";
            attached.problems.push(Problem::warning(field, message));
            return;
        }
        let weight = source
            .annotation("istio.io/use-waypoint-canary-weight")
            .unwrap_or("0");
        let Some(weight) = weight.parse::<u32>().ok().filter(|weight| *weight <= 100) else {
            let field = "metadata.annotations[\"istio.io/use-waypoint-canary-weight\"]";
            let message = format!(
                "is {weight:?}; expected a percentage from 0 to 100; all traffic takes the primary"
            );
            attached.problems.push(Problem::warning(field, message));
            return;
        };
        match self.find(namespace, name, asker) {
            Ok(canary) => {
                let share = |destination, weight| WeightedWaypoint {
                    destination,
                    weight,
                };
                let primary = attached.waypoint.clone();
                attached.weighted = vec![share(primary, 100 - weight), share(Some(canary), weight)];
            }
            Err((_, message)) => attached.problems.push(Problem::warning(field, message)),
        }
    }
}

enum Refused {
    NotReady,
    Attachment,
    TrafficType,
}

/// Waypoints themselves never have one.
fn is_managed(meta: &ObjectMeta) -> bool {
    meta.label("gateway.istio.io/managed").is_some_and(|value| {
        value.contains("mesh-controller") || value.contains("eastwest-controller")
    })
}

fn allows(allowed: &RouteNamespaces, waypoint_namespace: &str, asker: &Asker<'_>) -> bool {
    match allowed.from.as_str() {
        "All" => true,
        "Selector" => {
            let empty = Labels::default();
            let labels = asker
                .namespace
                .map_or(&empty, |namespace| &namespace.metadata.labels);
            allowed
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(labels))
        }
        _ => asker.meta.namespace == waypoint_namespace,
    }
}

/// `NONE`, or `PROXY` with or without a port.
fn binding<'a>(
    meta: &'a ObjectMeta,
    class: Option<&'a ObjectMeta>,
) -> Option<(&'a str, Option<u16>)> {
    let name = "ambient.istio.io/waypoint-inbound-binding";
    let value = meta.annotation(name).or_else(|| class?.annotation(name))?;
    let (protocol, port) = value
        .split_once('/')
        .map_or((value, None), |(p, port)| (p, Some(port)));
    Some((protocol, port.and_then(|port| port.parse().ok())))
}

fn tunnel(meta: &ObjectMeta, class: Option<&ObjectMeta>) -> Option<ApplicationTunnel> {
    let (protocol, port) = binding(meta, class)?;
    match protocol {
        "PROXY" => Some(ApplicationTunnel {
            proxy_protocol: true,
            port,
        }),
        "NONE" if port.is_some() => Some(ApplicationTunnel {
            proxy_protocol: false,
            port,
        }),
        _ => None,
    }
}

/// The listener that takes mesh traffic.
fn listener<'a>(gateway: &'a Gateway, class: Option<&ObjectMeta>) -> Option<&'a Listener> {
    let listeners = &gateway.spec.listeners;
    match binding(&gateway.metadata, class) {
        Some((_, Some(port))) => listeners.iter().find(|listener| listener.port == port),
        Some(("PROXY", None)) => listeners
            .iter()
            .find(|listener| listener.protocol == "istio.io/PROXY"),
        _ => None,
    }
    .or_else(|| {
        listeners
            .iter()
            .find(|l| l.protocol == "HBONE" && l.port == HBONE_PORT)
    })
}

fn accepts(meta: &ObjectMeta, class: Option<&ObjectMeta>) -> Accepts {
    let name = "istio.io/waypoint-for";
    let value = meta
        .label(name)
        .or_else(|| class?.label(name))
        .unwrap_or("service");
    Accepts {
        service: matches!(value, "service" | "all"),
        workload: matches!(value, "workload" | "all"),
    }
}

/// A host name is preferred to an address; without a status, the Service of the gateway's name.
fn address_of(gateway: &Gateway, has_service: bool, snapshot: &Snapshot) -> Option<GatewayAddress> {
    let meta = &gateway.metadata;
    let hostname = |hostname: String| {
        let namespace = meta.namespace.as_str().into();
        GatewayDestination::Hostname(NamespacedHostname {
            namespace,
            hostname: hostname.into(),
        })
    };
    let addresses = &gateway.status.addresses;
    let by_name = addresses
        .iter()
        .find(|a| a.r#type == "Hostname")
        .map(|a| hostname(a.value.clone()));
    let by_address = || {
        let address = addresses.iter().find_map(|a| address(&a.value))?;
        let network = snapshot.mesh.network.as_str().into();
        Some(GatewayDestination::Address(NetworkAddress {
            network,
            address,
        }))
    };
    let by_service = || {
        let name = format!(
            "{}.{}.svc.{}",
            meta.name, meta.namespace, snapshot.mesh.cluster_domain
        );
        has_service.then(|| hostname(name))
    };
    let destination = by_name.or_else(by_address).or_else(by_service)?;
    Some(GatewayAddress {
        destination,
        hbone_port: HBONE_PORT,
    })
}
