//! How connections reach the listeners: our BPF programs, or redirect rules somebody else wrote.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_ebpf::Capture;

use super::{PodSpec, StartedPod};

/// Why a pod's connections could not be captured.
#[derive(Debug, thiserror::Error)]
pub enum InterceptionError {
    /// The programs refused, or the kernel did.
    #[error("cannot capture the pod's connections")]
    Ebpf(#[from] Box<ambit_ebpf::Error>),
}

/// Brings pods' connections to their listeners.
pub trait Interception: Send + Sync + 'static {
    /// Whether [`attach`](Self::attach) needs the pod's addresses.
    fn needs_addresses(&self) -> bool;

    /// From the return on, new connections of the pod reach its listeners. May be repeated.
    ///
    /// # Errors
    /// Nothing is captured then that was not before.
    fn attach(
        &self,
        pod: &PodSpec,
        addresses: &[IpAddr],
        started: &StartedPod,
    ) -> Result<(), InterceptionError>;

    /// Ends the capture of the namespace with this cookie.
    ///
    /// # Errors
    /// When it may go on.
    fn detach(&self, cookie: u64) -> Result<(), InterceptionError>;

    /// Ends the capture of every namespace that is not listed: left over from an earlier agent.
    ///
    /// # Errors
    /// When some of it may go on.
    fn detach_others(&self, keep: &[u64]) -> Result<usize, InterceptionError>;
}

/// Our programs.
#[derive(Clone, Debug)]
pub struct Ebpf(pub Arc<Capture>);

impl Interception for Ebpf {
    fn needs_addresses(&self) -> bool {
        true
    }

    fn attach(
        &self,
        pod: &PodSpec,
        addresses: &[IpAddr],
        started: &StartedPod,
    ) -> Result<(), InterceptionError> {
        use std::os::fd::AsFd as _;
        let described = ambit_ebpf::Pod {
            cookie: pod.netns.cookie(),
            netns: pod.netns.as_fd(),
            addresses: addresses.to_vec(),
            listeners: started.inbound.borrow(),
            dns: pod.dns,
            capture_inbound: true,
        };
        self.0
            .enroll(&described)
            .map_err(|error| Box::new(error).into())
    }

    fn detach(&self, cookie: u64) -> Result<(), InterceptionError> {
        self.0
            .release(cookie)
            .map_err(|error| Box::new(error).into())
    }

    fn detach_others(&self, keep: &[u64]) -> Result<usize, InterceptionError> {
        let released = self.0.release_stale(keep).map_err(Box::new)?;
        Ok(released.len())
    }
}

/// Rules in the pod, written by the CNI agent before it told us of the pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redirected;

impl Interception for Redirected {
    fn needs_addresses(&self) -> bool {
        false
    }

    fn attach(&self, _: &PodSpec, _: &[IpAddr], _: &StartedPod) -> Result<(), InterceptionError> {
        Ok(())
    }

    fn detach(&self, _: u64) -> Result<(), InterceptionError> {
        Ok(())
    }

    fn detach_others(&self, _: &[u64]) -> Result<usize, InterceptionError> {
        Ok(0)
    }
}

impl Interception for Box<dyn Interception> {
    fn needs_addresses(&self) -> bool {
        (**self).needs_addresses()
    }

    fn attach(
        &self,
        pod: &PodSpec,
        addresses: &[IpAddr],
        started: &StartedPod,
    ) -> Result<(), InterceptionError> {
        (**self).attach(pod, addresses, started)
    }

    fn detach(&self, cookie: u64) -> Result<(), InterceptionError> {
        (**self).detach(cookie)
    }

    fn detach_others(&self, keep: &[u64]) -> Result<usize, InterceptionError> {
        (**self).detach_others(keep)
    }
}
