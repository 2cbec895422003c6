//! The handle on capture: opening, enrolling, releasing.

use std::net::SocketAddr;

use crate::{Error, Listeners, Options, OriginalDestinations, Pod};

/// Capture on this node. All methods may be called from any thread; those that change something block for
/// milliseconds, so call them from the control thread. Dropping it leaves capture in force.
#[derive(Debug)]
pub struct Capture {}

impl Capture {
    /// Checks the machine, then loads and attaches the programs, or adopts what an earlier agent pinned in
    /// the same directory; from then on that agent can change nothing any more.
    ///
    /// # Errors
    /// [`Error::Missing`] names everything that the machine lacks.
    pub fn open(_options: Options) -> Result<Self, Error> {
        Err(Error::Missing(Vec::new()))
    }

    /// Captures a pod, or brings an enrolled one up to date (new listeners first, so nothing is refused).
    /// When it fails nothing of the pod stays captured, unless it was enrolled before.
    ///
    /// # Errors
    /// For a pod that cannot be captured, or when the kernel refuses.
    pub fn enroll(&self, pod: &Pod<'_>) -> Result<(), Error> {
        Err(Error::PodUnknown { cookie: pod.cookie })
    }

    /// Hands the pod's new connections to other listeners, without a gap: close the old ones afterwards.
    ///
    /// # Errors
    /// When the pod is not enrolled.
    pub fn set_listeners(&self, cookie: u64, _listeners: Listeners<'_>) -> Result<(), Error> {
        Err(Error::PodUnknown { cookie })
    }

    /// Ends the capture of a pod and restores its namespace. Open connections are left alone.
    ///
    /// # Errors
    /// When the kernel refuses; releasing a pod that is not enrolled is no error.
    pub fn release(&self, _cookie: u64) -> Result<(), Error> {
        Ok(())
    }

    /// Releases every pod that is not in `keep` and returns their cookies.
    ///
    /// # Errors
    /// As [`Capture::release`].
    pub fn release_stale(&self, _keep: &[u64]) -> Result<Vec<u64>, Error> {
        Ok(Vec::new())
    }

    /// Cookies of the enrolled pods, those adopted from an earlier agent included.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enrolled(&self) -> Result<Vec<u64>, Error> {
        Ok(Vec::new())
    }

    /// A handle for the data path.
    #[must_use]
    pub fn original_destinations(&self) -> OriginalDestinations {
        OriginalDestinations {}
    }

    /// See [`OriginalDestinations::take`].
    #[must_use]
    pub fn original_dst(
        &self,
        cookie: u64,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Option<SocketAddr> {
        self.original_destinations().take(cookie, local, peer)
    }

    /// Connections of this process (thread-group id in the initial pid namespace) to pods are probes and
    /// reach the application directly.
    ///
    /// # Errors
    /// When there is no such process, or the kernel refuses.
    pub fn note_kubelet(&self, _tgid: u32) -> Result<(), Error> {
        Ok(())
    }

    /// Undoes [`Capture::note_kubelet`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget_kubelet(&self, _tgid: u32) -> Result<(), Error> {
        Ok(())
    }

    /// Releases all pods and removes every program, map, pin, rule and setting.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn uninstall(self) -> Result<(), Error> {
        Ok(())
    }
}
