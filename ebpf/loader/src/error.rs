//! What can go wrong with capture, grouped by whose fault it is.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::limits::MAX_ADDRESSES;

/// Something that this kernel, or this process's privileges, do not provide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is missing and, in the same sentence, what it is needed for.
    pub what: String,
    /// What to do about it, one sentence.
    pub remedy: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

/// A failed operation on capture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine cannot do what capture needs; all that is missing, not only the first.
    #[error("capture is not possible here: {}", join(.0))]
    Missing(Vec<Missing>),

    /// The pod's description cannot be enrolled.
    #[error(
        "pod with network namespace cookie {cookie} has {count} addresses, at most {} are possible",
        MAX_ADDRESSES
    )]
    PodTooManyAddresses {
        /// The pod.
        cookie: u64,
        /// How many it has.
        count: usize,
    },

    /// The name of the congestion control algorithm cannot be one.
    #[error(
        "{name:?} is no name of a congestion control algorithm: 1 to 15 letters, digits, '_' or '-'"
    )]
    ConfigCongestion {
        /// The name given.
        name: String,
    },

    /// The host's and the agent's own network namespaces are never captured.
    #[error(
        "network namespace cookie {cookie} is the host's or the agent's own: pods with hostNetwork cannot be enrolled"
    )]
    PodHostNetwork {
        /// The cookie.
        cookie: u64,
    },

    /// A pod without an address can neither be reached nor captured.
    #[error("pod with network namespace cookie {cookie} has no address")]
    PodNoAddress {
        /// The pod.
        cookie: u64,
    },

    /// Inbound capture without a listener would refuse every connection.
    #[error(
        "pod with network namespace cookie {cookie} has address {address} but no inbound listener for its family"
    )]
    PodNoListener {
        /// The pod.
        cookie: u64,
        /// An address whose family has no listener.
        address: IpAddr,
    },

    /// The descriptor given is not the namespace of that cookie.
    #[error("the network namespace given has cookie {found}, not {expected}")]
    PodOtherNamespace {
        /// What the caller said.
        expected: u64,
        /// What the kernel says.
        found: u64,
    },

    /// The pod is not enrolled.
    #[error("no pod with network namespace cookie {cookie} is enrolled")]
    PodUnknown {
        /// The cookie asked for.
        cookie: u64,
    },

    /// A process of a pod cannot be the kubelet, whatever its name.
    #[error(
        "process {tgid} lives in the pod with network namespace cookie {cookie}, so it is not the kubelet"
    )]
    KubeletInPod {
        /// The process.
        tgid: u32,
        /// The pod.
        cookie: u64,
    },

    /// A newer agent has taken over the same bpffs directory; this one may only finish its connections.
    #[error("a newer agent has taken over {}", .directory.display())]
    Superseded {
        /// The directory.
        directory: PathBuf,
    },

    /// What is pinned cannot be used or replaced.
    #[error("{} is pinned but cannot be adopted: {reason}", .path.display())]
    Pinned {
        /// The pin.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// The kernel refused one of the compiled programs.
    #[error("the kernel refused the program {program}")]
    Program {
        /// The program's name.
        program: String,
        /// The kernel's answer, with the verifier's log.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },

    /// The compiled object could not be loaded: its maps could not be made.
    #[error("cannot load the compiled programs")]
    Object(#[source] Box<aya::EbpfError>),

    /// A routing rule, a route or a setting in the pod's namespace.
    #[error("cannot {action} in the pod's network namespace")]
    Namespace {
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },

    /// Any other call to the kernel.
    #[error("cannot {action}")]
    Kernel {
        /// What was being done.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Adds what was being done to a kernel error.
pub(crate) trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Kernel {
            action: action(),
            source,
        })
    }
}

fn join(missing: &[Missing]) -> String {
    missing
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
