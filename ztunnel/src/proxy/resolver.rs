//! Names that discovery gives instead of addresses, resolved when a connection needs them.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use ambit_model::Hostname;
use hickory_resolver::TokioResolver;
use rand::seq::SliceRandom;
use tokio::runtime::Handle;

use super::{Pod, limits};

/// A pending answer.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>>;

/// Resolves names for pods' connections. Implementations cache, bound and time out; they are called
/// from any data thread.
pub trait Resolve: Send + Sync {
    /// The addresses of `hostname` as `pod` would get them; the error is for the log.
    fn resolve<'a>(&'a self, pod: &'a Pod, hostname: &'a Hostname) -> Lookup<'a>;
}

/// Asks the resolvers of the node, from the agent's own namespace, and remembers the answers.
pub struct NodeResolver {
    resolver: TokioResolver,
    /// Where the questions run: their sockets must not belong to the thread of one connection.
    control: Handle,
}

impl std::fmt::Debug for NodeResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeResolver")
    }
}

impl NodeResolver {
    /// Reads the node's resolver configuration. Questions run on the current runtime.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn from_system() -> Result<Self, String> {
        let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
        let options = builder.options_mut();
        options.cache_size = limits::NAME_CACHE;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self {
            resolver,
            control: Handle::current(),
        })
    }
}

impl Resolve for NodeResolver {
    fn resolve<'a>(&'a self, _pod: &'a Pod, hostname: &'a Hostname) -> Lookup<'a> {
        let resolver = self.resolver.clone();
        // Absolute: discovery's names are never meant relative to the agent's search domains.
        let name = format!("{hostname}.");
        let question = self.control.spawn(async move {
            match tokio::time::timeout(limits::NAME_WAIT, resolver.lookup_ip(name)).await {
                Ok(Ok(answer)) => Ok(answer.iter().take(limits::NAME_ADDRESSES).collect()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {:?}", limits::NAME_WAIT)),
            }
        });
        Box::pin(async move {
            let mut found: Vec<IpAddr> = question.await.map_err(|error| error.to_string())??;
            // Connections spread over all addresses of a name.
            found.shuffle(&mut rand::rng());
            Ok(found)
        })
    }
}

/// Knows no names: for tests, and where DNS is off.
#[derive(Debug, Default)]
pub struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, _pod: &'a Pod, _hostname: &'a Hostname) -> Lookup<'a> {
        Box::pin(std::future::ready(Err("name resolution is off".to_owned())))
    }
}
