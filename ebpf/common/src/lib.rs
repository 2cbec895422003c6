//! What the BPF programs and their loader agree on: map keys and values, ports and socket marks.
//!
//! Everything here is `repr(C)`, free of padding and free of pointers, so that the same bytes mean the
//! same on both sides. It refuses to know how programs are loaded or what a connection is used for.
#![cfg_attr(not(test), no_std)]

mod address;
mod layout;

pub use address::{Address, Endpoint, Flow};
pub use layout::{Destination, Kind, ListenerKey, NetnsEntry, Settings, flags};

/// Version of the map layouts below. Raised whenever a key, a value or the meaning of a field changes, so
/// that an agent never adopts maps that it would misread.
pub const LAYOUT: u32 = 1;

/// Mark (`SO_MARK`) of every socket that the agent opens inside a pod; such sockets are not captured.
pub const MARK: u32 = 0x539;

/// Only these bits of a socket's mark are compared with [`MARK`]; the others are free for routing.
pub const MARK_MASK: u32 = 0xfff;

/// Mark of the agent's sockets that connect to the application from the client's own address.
///
/// It equals [`MARK`] under [`MARK_MASK`], but routes differ: the replies to these sockets must stay on
/// the pod's loopback, which is what the pod's `fwmark` rule does. Were the rule on [`MARK`] itself, it
/// would send the agent's connections to the network to loopback as well.
pub const ORIGINAL_SOURCE_MARK: u32 = 0x1_0539;

/// Port of the agent's listener for connections that the pod's applications open.
pub const OUTBOUND_PORT: u16 = 15001;

/// Port of the agent's listener for plaintext connections to the pod.
pub const INBOUND_PORT: u16 = 15006;

/// Port of the agent's tunnel listener; never captured.
pub const HBONE_PORT: u16 = 15008;

/// Port of the agent's resolver, UDP and TCP.
pub const DNS_PROXY_PORT: u16 = 15053;

/// The well-known port of DNS.
pub const DNS_PORT: u16 = 53;

/// How many addresses one pod may have.
pub const MAX_ADDRESSES: usize = 8;

/// Length of a congestion control algorithm's name with its terminating zero (`TCP_CA_NAME_MAX`).
pub const CONGESTION_NAME: usize = 16;

/// Enrolled pods per node; a node has 110 by default and rarely more than a few hundred.
pub const MAX_NETNS: u32 = 4096;

/// The agent's inbound listeners: one for each version of IP and pod.
pub const MAX_LISTENERS: u32 = 2 * MAX_NETNS;

/// Captured connections between `connect()` and the agent's `accept()`; least recently used go first.
pub const MAX_FLOWS: u32 = 32_768;

/// The kubelet's connections between their first packet and their establishment.
pub const MAX_PROBES: u32 = 8192;

/// Processes whose connections count as probes.
pub const MAX_KUBELETS: u32 = 16;
