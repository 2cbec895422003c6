//! Names that discovery gives instead of addresses, resolved when a connection needs them.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use ambit_model::Hostname;

use super::Pod;

/// A pending answer.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>>;

/// Resolves names for pods' connections. Implementations cache, bound and time out; they are called
/// from any data thread.
pub trait Resolve: Send + Sync {
    /// The addresses of `hostname` as `pod` would get them; the error is for the log.
    fn resolve<'a>(&'a self, pod: &'a Pod, hostname: &'a Hostname) -> Lookup<'a>;
}

/// Knows no names: for tests, and where DNS is off.
#[derive(Debug, Default)]
pub struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, _pod: &'a Pod, _hostname: &'a Hostname) -> Lookup<'a> {
        Box::pin(std::future::ready(Err("name resolution is off".to_owned())))
    }
}
