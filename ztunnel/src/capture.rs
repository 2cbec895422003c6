//! Enrolment: which pods of the node are in the mesh, told by a CNI agent (`zds`) or by the
//! controller (`controller`), and kept true by one `Registry`: a pod is acknowledged when its
//! listeners are open *and* its connections reach them. Knows nothing of what the listeners do.

mod addresses;
mod backoff;
pub mod controller;
mod interception;
mod kubelet;
pub mod limits;
pub mod locate;
mod pod;
mod registry;
mod status;
pub mod zds;

pub use addresses::{addresses_of, holds};
pub use backoff::Backoff;
pub use interception::{Ebpf, Interception, InterceptionError, Redirected};
pub use kubelet::{find_processes, follow_kubelet};
pub use pod::{InboundListeners, PodInfo, PodRuntime, PodSpec, StartError, StartedPod, StopReason};
pub use registry::{Enrolled, EnrolmentError, NetnsSource, Registry};
pub use status::{Outcome, OutcomeState, PodStatus, Statuses};
