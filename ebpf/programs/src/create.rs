//! Multipath TCP is declined in enrolled pods: the application is told that the protocol is not supported,
//! whereupon runtimes use TCP. Its connections are made by inner sockets of the kernel, so the programs could
//! not vouch for each of them, nor for the peer's name that the application sees.

use ambit_ebpf_common::flags;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_set_retval};
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use core::ptr::read_volatile;

use crate::maps::NETNS;

const REFUSE: i32 = 0;
const PROCEED: i32 = 1;
const MPTCP: u32 = 262;
const EPROTONOSUPPORT: i32 = 93;

#[cgroup_sock(sock_create)]
pub fn sock_create(context: SockContext) -> i32 {
    let socket: *mut bpf_sock = context.as_ptr().cast();
    // SAFETY: the context is valid while the program runs.
    if unsafe { read_volatile(&raw const (*socket).protocol) } != MPTCP {
        return PROCEED;
    }
    // SAFETY: the helper reads the context that the kernel gave us.
    let netns = unsafe { bpf_get_netns_cookie(socket.cast()) };
    // SAFETY: nothing of the entry is kept beyond this program.
    match unsafe { NETNS.get(&netns) } {
        Some(entry) if entry.flags & flags::OUTBOUND != 0 => {
            // SAFETY: the helper has no preconditions.
            unsafe { bpf_set_retval(-EPROTONOSUPPORT) };
            REFUSE
        }
        _ => PROCEED,
    }
}
