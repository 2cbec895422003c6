//! Bounds on what enrolment may cost. The other side is trusted (root on the node, or the
//! controller), so these guard against defects rather than attacks.

use std::time::Duration;

/// Largest message on the CNI agent's socket, in bytes: its protocol's own bound. A longer one is
/// cut by the kernel and refused.
pub const MAX_MESSAGE: usize = 1024;

/// Descriptors taken from one message: one is expected, a few more are received so that they can
/// be counted in the refusal; the kernel closes the rest.
pub const MAX_DESCRIPTORS: usize = 8;

/// Pods on one node. Kubernetes recommends at most 110; a stream that names more than this many is
/// defective, and further pods are refused.
pub const MAX_PODS: usize = 4096;

/// Addresses of one pod taken from a message.
pub const MAX_ADDRESSES: usize = 32;

/// How long listeners may take to open, so that one stuck pod does not hold up the others.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);

/// First and last pause between attempts at the same pod.
pub const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// First and last pause between connections to the CNI agent or the controller.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(15));

/// How often the namespaces of pods that were found by path or process are looked at again.
pub const AUDIT: Duration = Duration::from_secs(10);

/// How often the kubelet's process is looked for.
pub const KUBELET_SCAN: Duration = Duration::from_secs(5);

/// Outcomes waiting to be sent to the controller; when full the oldest news of a pod is stale anyway
/// and the stream is started again, which reports every pod afresh.
pub const OUTCOMES: usize = 1024;

/// Characters of a reason told to the other side or logged.
pub const REASON: usize = 512;
