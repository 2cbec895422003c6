//! Reading and writing the kernel's socket-address context. The verifier wants each word accessed by
//! itself, so every access here is volatile: the compiler may neither merge nor widen it.

use core::ptr::{read_volatile, write_volatile};

use ambit_ebpf_common::{Address, Destination, Endpoint, Kind};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get};
use aya_ebpf::programs::SockAddrContext;

use crate::maps::DESTINATIONS;

/// The family of the address that a program was called with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// The context of a connect, sendmsg, recvmsg or getpeername call.
#[derive(Clone, Copy)]
pub struct Call {
    raw: *mut bpf_sock_addr,
    family: Family,
}

impl Call {
    #[inline(always)]
    pub fn new(context: &SockAddrContext, family: Family) -> Self {
        Self {
            raw: context.as_ptr().cast(),
            family,
        }
    }

    /// Cookie of the socket's network namespace.
    #[inline(always)]
    pub fn netns(self) -> u64 {
        // SAFETY: the helper reads the context that the kernel gave us.
        unsafe { bpf_get_netns_cookie(self.raw.cast()) }
    }

    #[inline(always)]
    pub fn protocol(self) -> u32 {
        // SAFETY: the context is valid while the program runs; so everywhere below.
        unsafe { read_volatile(&raw const (*self.raw).protocol) }
    }

    #[inline(always)]
    pub fn mark(self) -> u32 {
        // SAFETY: `socket()` is not null in this program type.
        unsafe { read_volatile(&raw const (*self.socket()).mark) }
    }

    #[inline(always)]
    fn socket(self) -> *mut bpf_sock {
        // SAFETY: as above.
        unsafe { read_volatile(&raw const (*self.raw).__bindgen_anon_1.sk) }
    }

    /// The address and port of the call: the destination, or for recvmsg and getpeername the peer.
    #[inline(always)]
    pub fn endpoint(self) -> Endpoint {
        // SAFETY: as above.
        let address = unsafe {
            match self.family {
                Family::V4 => Address::from_v4(read_volatile(&raw const (*self.raw).user_ip4)),
                Family::V6 => Address {
                    words: [
                        read_volatile(&raw const (*self.raw).user_ip6[0]),
                        read_volatile(&raw const (*self.raw).user_ip6[1]),
                        read_volatile(&raw const (*self.raw).user_ip6[2]),
                        read_volatile(&raw const (*self.raw).user_ip6[3]),
                    ],
                },
            }
        };
        Endpoint {
            address,
            port: self.port(),
        }
    }

    /// The port alone, in host byte order.
    #[inline(always)]
    pub fn port(self) -> u32 {
        // SAFETY: as above.
        let raw = unsafe { read_volatile(&raw const (*self.raw).user_port) };
        u32::from(u16::from_be(raw as u16))
    }

    /// Replaces address and port.
    #[inline(always)]
    pub fn set_endpoint(self, address: &Address, port: u32) {
        let [a, b, c, d] = address.words;
        // SAFETY: as above.
        unsafe {
            match self.family {
                Family::V4 => write_volatile(&raw mut (*self.raw).user_ip4, d),
                Family::V6 => {
                    write_volatile(&raw mut (*self.raw).user_ip6[0], a);
                    write_volatile(&raw mut (*self.raw).user_ip6[1], b);
                    write_volatile(&raw mut (*self.raw).user_ip6[2], c);
                    write_volatile(&raw mut (*self.raw).user_ip6[3], d);
                }
            }
            write_volatile(
                &raw mut (*self.raw).user_port,
                u32::from((port as u16).to_be()),
            );
        }
    }

    /// What is remembered of this socket, if anything.
    #[inline(always)]
    pub fn remembered(self) -> Option<&'static mut Destination> {
        // SAFETY: null, or storage that lives as long as the socket.
        unsafe { storage(self.socket(), 0).as_mut() }
    }

    /// Remembers the destination with the socket; false when the kernel has no memory for it.
    #[inline(always)]
    pub fn remember(self, netns: u64, kind: Kind, endpoint: &Endpoint) -> bool {
        // SAFETY: null, or storage that lives as long as the socket.
        let stored = unsafe { storage(self.socket(), BPF_SK_STORAGE_GET_F_CREATE.into()).as_mut() };
        let Some(stored) = stored else { return false };
        stored.netns = netns;
        stored.kind = kind as u32;
        stored.endpoint = *endpoint;
        true
    }

    /// Voids what an earlier `connect()` of the same socket left behind.
    #[inline(always)]
    pub fn forget(self) {
        if let Some(stored) = self.remembered() {
            stored.kind = Kind::None as u32;
        }
    }
}

/// The destination stored with `socket`, or null.
///
/// # Safety
/// `socket` must come from the context of the running program and must not be null.
#[inline(always)]
pub unsafe fn storage(socket: *mut bpf_sock, flags: u64) -> *mut Destination {
    let map = (&raw const DESTINATIONS).cast_mut().cast();
    // SAFETY: the map is a socket storage of `Destination`; the caller vouches for the socket.
    unsafe { bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), flags).cast() }
}
