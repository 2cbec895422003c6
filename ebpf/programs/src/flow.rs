//! TCP's own events. When a captured socket sends its SYN, its ports are known: the destination is filed
//! under the pair of addresses, where the accepting agent finds it.

use ambit_ebpf_common::{Address, Destination, Endpoint, Flow, Kind};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
    BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_setsockopt, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use core::ptr::read_volatile;

use crate::context::storage;
use crate::maps::{FLOWS, PROBES, SETTINGS};

const DONE: u32 = 1;
const AF_INET: u32 = 2;
const SOL_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;

#[sock_ops]
pub fn tcp_events(context: SockOpsContext) -> u32 {
    let ops: *mut bpf_sock_ops = context.as_ptr().cast();
    // SAFETY: the context is valid while the program runs; so everywhere below.
    let op = unsafe { read_volatile(&raw const (*ops).op) };
    if op != BPF_SOCK_OPS_TCP_CONNECT_CB
        && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_STATE_CB
    {
        return DONE;
    }
    // SAFETY: as above; null for a socket that is not complete.
    let socket = unsafe { read_volatile(&raw const (*ops).__bindgen_anon_2.sk) };
    if socket.is_null() {
        return DONE;
    }
    // SAFETY: the socket comes from the context and is not null.
    let Some(stored) = (unsafe { storage(socket, 0).as_ref() }) else {
        return DONE;
    };
    if stored.kind == Kind::Captured as u32 {
        captured(ops, op, stored);
    } else if stored.kind == Kind::Probe as u32 {
        probe(ops, op, stored);
    }
    DONE
}

#[inline(always)]
fn captured(ops: *mut bpf_sock_ops, op: u32, stored: &Destination) {
    if op == BPF_SOCK_OPS_TCP_CONNECT_CB {
        // When it cannot be filed the agent finds nothing and refuses the connection.
        let _ = FLOWS.insert(flow(ops, stored.netns), stored.endpoint, 0);
        choose_congestion_control(ops);
        report_close(ops);
    } else if closed(ops, op) {
        let _ = FLOWS.remove(flow(ops, stored.netns));
    }
}

/// The pod's lookup program lets a probe's SYN pass while it is filed. Once established nothing is looked
/// up any more, so it is dropped: whoever gets the same port next is not the kubelet.
#[inline(always)]
fn probe(ops: *mut bpf_sock_ops, op: u32, stored: &Destination) {
    if op == BPF_SOCK_OPS_TCP_CONNECT_CB {
        let _ = PROBES.insert(flow(ops, stored.netns), 1, 0);
        report_close(ops);
    } else if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || closed(ops, op) {
        let _ = PROBES.remove(flow(ops, stored.netns));
    }
}

#[inline(always)]
fn closed(ops: *mut bpf_sock_ops, op: u32) -> bool {
    // SAFETY: as above; the second argument of this event is the new state.
    op == BPF_SOCK_OPS_STATE_CB
        && unsafe { read_volatile(&raw const (*ops).__bindgen_anon_1.args[1]) } == BPF_TCP_CLOSE
}

/// The addresses of the connection, the connecting side first. All fields are read, whatever the family:
/// were they read in two branches, the compiler would merge the branches and compute the field's offset,
/// which the verifier forbids. Of an IPv4-mapped socket the IPv4 fields are valid, too.
#[inline(always)]
fn flow(ops: *mut bpf_sock_ops, netns: u64) -> Flow {
    // SAFETY: as above.
    unsafe {
        let family = read_volatile(&raw const (*ops).family);
        let local4 = read_volatile(&raw const (*ops).local_ip4);
        let remote4 = read_volatile(&raw const (*ops).remote_ip4);
        let local6 = Address {
            words: [
                read_volatile(&raw const (*ops).local_ip6[0]),
                read_volatile(&raw const (*ops).local_ip6[1]),
                read_volatile(&raw const (*ops).local_ip6[2]),
                read_volatile(&raw const (*ops).local_ip6[3]),
            ],
        };
        let remote6 = Address {
            words: [
                read_volatile(&raw const (*ops).remote_ip6[0]),
                read_volatile(&raw const (*ops).remote_ip6[1]),
                read_volatile(&raw const (*ops).remote_ip6[2]),
                read_volatile(&raw const (*ops).remote_ip6[3]),
            ],
        };
        // The local port is in host byte order, the remote one in network byte order.
        let local_port = read_volatile(&raw const (*ops).local_port);
        let remote_port = u32::from_be(read_volatile(&raw const (*ops).remote_port));
        let (local, remote) = if family == AF_INET || remote6.is_v4() {
            (Address::from_v4(local4), Address::from_v4(remote4))
        } else {
            (local6, remote6)
        };
        Flow {
            netns,
            source: Endpoint {
                address: local,
                port: local_port,
            },
            destination: Endpoint {
                address: remote,
                port: remote_port,
            },
        }
    }
}

/// The captured socket's peer is the agent on the same loopback, where pacing only costs. Other programs'
/// wishes for events are kept.
#[inline(always)]
fn choose_congestion_control(ops: *mut bpf_sock_ops) {
    let Some(settings) = SETTINGS.get(0) else {
        return;
    };
    if settings.congestion[0] != 0 {
        // SAFETY: pointer and length are those of the name. An unknown name is refused and changes nothing.
        unsafe {
            bpf_setsockopt(
                ops.cast(),
                SOL_TCP,
                TCP_CONGESTION,
                settings.congestion.as_ptr().cast_mut().cast(),
                settings.congestion.len() as i32,
            );
        }
    }
}

/// Asks for the event of the socket's end, keeping what other programs asked for.
#[inline(always)]
fn report_close(ops: *mut bpf_sock_ops) {
    // SAFETY: as above.
    unsafe {
        let flags = read_volatile(&raw const (*ops).bpf_sock_ops_cb_flags);
        bpf_sock_ops_cb_flags_set(ops, (flags | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
    }
}
