//! The maps. All are pinned by the loader and survive the agent.

use ambit_ebpf_common::{
    Destination, Endpoint, Flow, MAX_FLOWS, MAX_KUBELETS, MAX_NETNS, MAX_PROBES, NetnsEntry,
    Settings,
};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, SkStorage};
use aya_ebpf::macros::btf_map;

/// Enrolled network namespaces, by cookie. A namespace that is not here is none of our business.
#[btf_map]
pub static NETNS: HashMap<u64, NetnsEntry, { MAX_NETNS as usize }> = HashMap::new();

/// What a socket's application asked for. It lives and dies with the socket, so it is neither bounded by a
/// guess nor ever stale.
#[btf_map]
pub static DESTINATIONS: SkStorage<Destination> = SkStorage::new();

/// The same by addresses, for the accepting side, until it accepts.
#[btf_map]
pub static FLOWS: LruHashMap<Flow, Endpoint, { MAX_FLOWS as usize }> = LruHashMap::new();

/// Connections of the kubelet that are being established.
#[btf_map]
pub static PROBES: LruHashMap<Flow, u64, { MAX_PROBES as usize }> = LruHashMap::new();

/// Thread-group ids of the kubelet.
#[btf_map]
pub static KUBELETS: HashMap<u32, u32, { MAX_KUBELETS as usize }> = HashMap::new();

/// What the operator chose.
#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();
