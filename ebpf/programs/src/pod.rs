//! The program that is attached to each pod's network namespace: it hands connections to the pod to the
//! agent's listener. Every pod has its own instance, because a lookup program cannot ask for the
//! namespace it runs in.
#![no_std]
#![no_main]

use core::ptr::read_volatile;

use ambit_ebpf_common::{
    Address, DNS_PROXY_PORT, Endpoint, Flow, HBONE_PORT, ListenerKey, MAX_LISTENERS, MAX_NETNS,
    MAX_PROBES, NetnsEntry,
};
use aya_ebpf::bindings::{bpf_sk_lookup, sk_action::SK_DROP, sk_action::SK_PASS};
use aya_ebpf::btf_maps::{HashMap, LruHashMap, SockHash};
use aya_ebpf::macros::{btf_map, sk_lookup};
use aya_ebpf::programs::SkLookupContext;
use aya_ebpf::{EbpfContext as _, Global};

/// As in the node's programs, and the same map.
#[btf_map]
static NETNS: HashMap<u64, NetnsEntry, { MAX_NETNS as usize }> = HashMap::new();

/// As in the node's programs, and the same map.
#[btf_map]
static PROBES: LruHashMap<Flow, u64, { MAX_PROBES as usize }> = LruHashMap::new();

/// The agent's inbound listeners of all pods.
#[btf_map]
static LISTENERS: SockHash<ListenerKey, { MAX_LISTENERS as usize }> = SockHash::new();

/// Cookie of the network namespace that this instance is attached to; set by the loader.
#[unsafe(no_mangle)]
static COOKIE: Global<u64> = Global::new(0);

/// Some of the helpers are for programs under the GPL only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

const PASS: u32 = SK_PASS;
const DROP: u32 = SK_DROP;
const AF_INET: u32 = 2;
const TCP: u32 = 6;
const UDP: u32 = 17;
const LOOPBACK: u32 = 1;

#[sk_lookup]
pub fn inbound(context: SkLookupContext) -> u32 {
    let lookup: *mut bpf_sk_lookup = context.as_ptr().cast();
    // SAFETY: the context is valid while the program runs; so everywhere below.
    let (protocol, port, ingress) = unsafe {
        (
            read_volatile(&raw const (*lookup).protocol),
            read_volatile(&raw const (*lookup).local_port),
            read_volatile(&raw const (*lookup).ingress_ifindex),
        )
    };
    let ours = match protocol {
        TCP => port != u32::from(HBONE_PORT),
        // The resolver listens on the pod's address, but serves the pod only.
        UDP => port == u32::from(DNS_PROXY_PORT),
        _ => false,
    };
    if !ours || ingress == LOOPBACK {
        return PASS;
    }
    let (remote, local) = addresses(lookup);
    let cookie = COOKIE.load();
    // SAFETY: nothing of the entry is kept beyond this program.
    let Some(entry) = (unsafe { NETNS.get(&cookie) }) else {
        return DROP;
    };
    // A connection to the pod's own address arrives with the index of the device that bears the address.
    if entry.owns(&remote) {
        return PASS;
    }
    if protocol == UDP {
        return DROP;
    }
    if is_probe(
        lookup,
        remote,
        Endpoint {
            address: local,
            port,
        },
    ) {
        return PASS;
    }
    let version = if remote.is_v4() { 4 } else { 6 };
    match LISTENERS.redirect_sk_lookup(
        context,
        ListenerKey {
            netns: cookie,
            version,
        },
        0,
    ) {
        Ok(()) => PASS,
        // No listener: the agent is gone, and nobody else may answer.
        Err(_) => DROP,
    }
}

/// The remote and the local address. All fields are read, whatever the family: were they read in two
/// branches, the compiler would merge the branches and compute the field's offset, which the verifier
/// forbids. The fields of the other family are zero.
#[inline(always)]
fn addresses(lookup: *mut bpf_sk_lookup) -> (Address, Address) {
    // SAFETY: as above.
    unsafe {
        let v4 = read_volatile(&raw const (*lookup).family) == AF_INET;
        let remote4 = read_volatile(&raw const (*lookup).remote_ip4);
        let local4 = read_volatile(&raw const (*lookup).local_ip4);
        let remote6 = [
            read_volatile(&raw const (*lookup).remote_ip6[0]),
            read_volatile(&raw const (*lookup).remote_ip6[1]),
            read_volatile(&raw const (*lookup).remote_ip6[2]),
            read_volatile(&raw const (*lookup).remote_ip6[3]),
        ];
        let local6 = [
            read_volatile(&raw const (*lookup).local_ip6[0]),
            read_volatile(&raw const (*lookup).local_ip6[1]),
            read_volatile(&raw const (*lookup).local_ip6[2]),
            read_volatile(&raw const (*lookup).local_ip6[3]),
        ];
        if v4 {
            (Address::from_v4(remote4), Address::from_v4(local4))
        } else {
            (Address { words: remote6 }, Address { words: local6 })
        }
    }
}

#[inline(always)]
fn is_probe(lookup: *mut bpf_sk_lookup, remote: Address, destination: Endpoint) -> bool {
    // SAFETY: as above; this field is 16 bits in network byte order.
    let port = u16::from_be(unsafe { read_volatile(&raw const (*lookup).remote_port) });
    let source = Endpoint {
        address: remote,
        port: port.into(),
    };
    // SAFETY: the value is not used, only its presence.
    unsafe {
        PROBES.get(&Flow {
            netns: 0,
            source,
            destination,
        })
    }
    .is_some()
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
