//! What the application sees: `getpeername()` and the sender of `recvmsg()` name the peer it asked for,
//! not the agent.

use ambit_ebpf_common::{DNS_PROXY_PORT, Kind, OUTBOUND_PORT};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::context::{Call, Family};
use crate::maps::NETNS;

/// These programs cannot refuse.
const PROCEED: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(context: SockAddrContext) -> i32 {
    peer_name(Call::new(&context, Family::V4))
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(context: SockAddrContext) -> i32 {
    peer_name(Call::new(&context, Family::V6))
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(context: SockAddrContext) -> i32 {
    sender(Call::new(&context, Family::V4))
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(context: SockAddrContext) -> i32 {
    sender(Call::new(&context, Family::V6))
}

#[inline(always)]
fn peer_name(call: Call) -> i32 {
    let Some(stored) = call.remembered() else {
        return PROCEED;
    };
    let steered = stored.kind == Kind::Captured as u32 || stored.kind == Kind::Dns as u32;
    let port = call.port();
    if steered && (port == u32::from(OUTBOUND_PORT) || port == u32::from(DNS_PROXY_PORT)) {
        call.set_endpoint(&stored.endpoint.address, stored.endpoint.port);
    }
    PROCEED
}

#[inline(always)]
fn sender(call: Call) -> i32 {
    if call.port() != u32::from(DNS_PROXY_PORT) {
        return PROCEED;
    }
    let Some(stored) = call.remembered() else {
        return PROCEED;
    };
    if stored.kind != Kind::Dns as u32 {
        return PROCEED;
    }
    // SAFETY: nothing of the entry is kept beyond this program.
    let Some(entry) = (unsafe { NETNS.get(&stored.netns) }) else {
        return PROCEED;
    };
    // Only the agent's answers: a stranger that sends from the same port must not pass for the server.
    let from = call.endpoint().address;
    if from.same(&entry.v4) || from.same(&entry.v6) {
        call.set_endpoint(&stored.endpoint.address, stored.endpoint.port);
    }
    PROCEED
}
