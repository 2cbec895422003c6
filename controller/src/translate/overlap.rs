//! Addresses that several objects claim: the oldest object keeps them, the others are refused,
//! since nobody could tell whose identity or policy holds there.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::Workload;

use super::{pods, services};
use crate::api::meta::Object;
use crate::api::{Kind, ObjectMeta, Pod};
use crate::finding::{Finding, Place, Problem};
use crate::maps::FastMap;
use crate::snapshot::Snapshot;
use crate::validate::{address, range};

/// The positions of refused objects in the snapshot.
#[derive(Debug, Default)]
pub(super) struct Overlaps {
    pub(super) pods: HashSet<usize>,
    pub(super) workload_entries: HashSet<usize>,
    pub(super) services: HashSet<usize>,
    pub(super) findings: Vec<Finding>,
}

/// Who holds an address.
struct Holder<'a> {
    kind: Kind,
    meta: &'a ObjectMeta,
    place: &'a Place,
    field: &'static str,
}

type Held<'a> = FastMap<(&'a str, IpAddr), Holder<'a>>;

impl Overlaps {
    /// Claims addresses for an object; `false`, with a finding, when another one has them.
    fn claim<'a>(
        &mut self,
        held: &mut Held<'a>,
        network: &'a str,
        addresses: &[IpAddr],
        by: Holder<'a>,
    ) -> bool {
        for address in addresses {
            let Some(other) = held.get(&(network, *address)) else {
                continue;
            };
            let message = format!(
                "{address} is the address of {} {}/{} already, at {}:{}, which stays in force; give one of them another",
                other.kind,
                other.meta.namespace,
                other.meta.name,
                other.place.file,
                other.place.line_of(other.field)
            );
            let problem = Problem::refused(by.field, message);
            self.findings
                .push(problem.of(by.kind, &by.meta.namespace, &by.meta.name, by.place));
            return false;
        }
        for address in addresses.iter().copied() {
            let Holder {
                kind,
                meta,
                place,
                field,
            } = by;
            held.insert(
                (network, address),
                Holder {
                    kind,
                    meta,
                    place,
                    field,
                },
            );
        }
        true
    }
}

/// Finds all objects that claim an address of an older one. `known` has the workload of a pod that
/// was translated before, which saves reading its addresses again.
pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    known: &dyn Fn(&Arc<Pod>) -> Option<&'a Workload>,
) -> Overlaps {
    let mut overlaps = Overlaps::default();
    let default_network = snapshot.mesh.network.as_str();
    let mut held = Held::default();
    held.reserve(snapshot.pods.len());
    let mut order: Vec<usize> = (0..snapshot.pods.len()).collect();
    // Stable: objects of one age in the order of files.
    order.sort_by_key(|i| {
        snapshot.pods[*i]
            .object
            .metadata
            .creation_timestamp
            .as_deref()
            .unwrap_or("")
    });
    for index in order {
        let entry = &snapshot.pods[index];
        let pod = &*entry.object;
        if pod.spec.host_network || pods::is_terminal(pod) {
            continue;
        }
        let by = Holder {
            kind: Kind::Pod,
            meta: &pod.metadata,
            place: &entry.place,
            field: "status.podIP",
        };
        let is_free = if let Some(workload) = known(&entry.object) {
            overlaps.claim(
                &mut held,
                workload.network.as_str(),
                &workload.addresses,
                by,
            )
        } else {
            let network = pod.metadata.label("topology.istio.io/network");
            let network = network.unwrap_or(default_network);
            overlaps.claim(&mut held, network, &pods::addresses(pod), by)
        };
        if !is_free {
            overlaps.pods.insert(index);
        }
    }
    for (index, entry) in snapshot.workload_entries.iter().enumerate() {
        let by = Holder {
            kind: Kind::WorkloadEntry,
            meta: &entry.object.metadata,
            place: &entry.place,
            field: "spec.address",
        };
        let network = match entry.object.spec.network.as_str() {
            "" => default_network,
            network => network,
        };
        let addresses: Vec<IpAddr> = address(&entry.object.spec.address).into_iter().collect();
        if !overlaps.claim(&mut held, network, &addresses, by) {
            overlaps.workload_entries.insert(index);
        }
    }
    virtual_addresses(snapshot, &mut overlaps);
    overlaps
}

fn virtual_addresses(snapshot: &Snapshot, overlaps: &mut Overlaps) {
    let mut held = Held::default();
    let mut order: Vec<usize> = (0..snapshot.services.len()).collect();
    order.sort_by_key(|i| {
        snapshot.services[*i]
            .object
            .metadata
            .creation_timestamp
            .as_deref()
            .unwrap_or("")
    });
    for index in order {
        let entry = &snapshot.services[index];
        let by = Holder {
            kind: Kind::Service,
            meta: entry.object.meta(),
            place: &entry.place,
            field: "spec.clusterIP",
        };
        let addresses: Vec<IpAddr> = services::virtual_addresses(&entry.object).collect();
        if !overlaps.claim(&mut held, "", &addresses, by) {
            overlaps.services.insert(index);
        }
    }
    // Several service entries may share an address and differ in ports and hosts; by address
    // alone they cannot be told apart, which somebody should know.
    for entry in &snapshot.service_entries {
        for (i, text) in entry.object.spec.addresses.iter().enumerate() {
            let single = range(text).filter(|range| range.prefix_len() == range.max_prefix_len());
            let Some(other) = single.and_then(|range| held.get(&("", range.addr()))) else {
                continue;
            };
            let message = format!(
                "{text} is the address of {} {}/{} too, at {}:{}; a connection by address reaches only one of them",
                other.kind,
                other.meta.namespace,
                other.meta.name,
                other.place.file,
                other.place.line_of(other.field)
            );
            let problem = Problem::warning(format!("spec.addresses[{i}]"), message);
            let meta = &entry.object.metadata;
            overlaps.findings.push(problem.of(
                Kind::ServiceEntry,
                &meta.namespace,
                &meta.name,
                &entry.place,
            ));
        }
    }
}
