//! `connect()` and unconnected `sendmsg()`: where sockets of enrolled pods are steered to the agent.

use ambit_ebpf_common::{
    DNS_PORT, DNS_PROXY_PORT, Endpoint, Kind, MARK, MARK_MASK, NetnsEntry, OUTBOUND_PORT, flags,
};
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::context::{Call, Family};
use crate::maps::{KUBELETS, NETNS};

const REFUSE: i32 = 0;
const PROCEED: i32 = 1;

const TCP: u32 = 6;
const UDP: u32 = 17;

#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    capture(Call::new(&context, Family::V4), true)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    capture(Call::new(&context, Family::V6), true)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(context: SockAddrContext) -> i32 {
    capture(Call::new(&context, Family::V4), false)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(context: SockAddrContext) -> i32 {
    capture(Call::new(&context, Family::V6), false)
}

/// Where a call goes instead.
struct Steer {
    kind: Kind,
    port: u16,
}

#[inline(always)]
fn capture(call: Call, connects: bool) -> i32 {
    let netns = call.netns();
    // SAFETY: nothing of the entry is kept beyond this program.
    let Some(entry) = (unsafe { NETNS.get(&netns) }) else {
        return PROCEED;
    };
    if entry.flags & flags::KUBELET != 0 {
        watch_kubelet(call);
    }
    if entry.flags & (flags::OUTBOUND | flags::DNS) == 0 || call.mark() & MARK_MASK == MARK {
        return PROCEED;
    }
    let asked = call.endpoint();
    let Some(steer) = steer(entry, call.protocol(), &asked) else {
        // A datagram sent elsewhere ends nothing: answers of the server asked before may still come. (And a
        // connected IPv6 socket with an IPv4-mapped peer runs sendmsg4 with the address already steered.)
        if connects {
            call.forget();
        }
        return PROCEED;
    };
    // Without the record the agent could not know the destination: refuse rather than misroute.
    if !call.remember(netns, steer.kind, &asked) {
        return REFUSE;
    }
    let agent = if asked.address.is_v4() {
        &entry.v4
    } else {
        &entry.v6
    };
    call.set_endpoint(agent, steer.port.into());
    PROCEED
}

/// What to do with a destination; `None` lets it through.
#[inline(always)]
fn steer(entry: &NetnsEntry, protocol: u32, asked: &Endpoint) -> Option<Steer> {
    let dns = entry.flags & flags::DNS != 0 && asked.port == u32::from(DNS_PORT);
    let steer = match protocol {
        TCP if dns => Steer {
            kind: Kind::Captured,
            port: DNS_PROXY_PORT,
        },
        TCP if entry.flags & flags::OUTBOUND != 0 => Steer {
            kind: Kind::Captured,
            port: OUTBOUND_PORT,
        },
        UDP if dns => Steer {
            kind: Kind::Dns,
            port: DNS_PROXY_PORT,
        },
        _ => return None,
    };
    if asked.address.is_loopback() || entry.owns(&asked.address) {
        None
    } else {
        Some(steer)
    }
}

/// Marks the socket as a probe's when the caller is the kubelet; the rest happens when it sends its SYN.
#[inline(always)]
fn watch_kubelet(call: Call) {
    if call.protocol() != TCP {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let tgid = unsafe { bpf_get_current_pid_tgid() >> 32 } as u32;
    // SAFETY: the value is not used, only its presence.
    if unsafe { KUBELETS.get(&tgid) }.is_some() {
        // Without memory the probe is treated as anybody's connection, which is safe.
        call.remember(0, Kind::Probe, &call.endpoint());
    }
}
