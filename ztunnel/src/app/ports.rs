//! Opening the agent's own ports, on machines with IPv6 and without.

use ambit_runtime::http::{Router, Server};
use anyhow::Context;

use crate::config::Bind;
use crate::proxy::lacks_ipv6;

/// Serves one port at all its addresses; at those of IPv4 only where the machine has no IPv6.
pub(super) async fn open(bind: Bind, ipv6: bool, router: &Router) -> anyhow::Result<Vec<Server>> {
    let mut servers = Vec::new();
    for address in bind.addresses(ipv6) {
        match Server::bind(address, router.clone()).await {
            Ok(server) => servers.push(server),
            Err(error) if !matches!(bind, Bind::Exact(_)) && lacks_ipv6(address, &error) => {
                tracing::debug!(%address, %error, "no IPv6 here");
            }
            Err(error) => return Err(error).context(format!("cannot listen on {address}")),
        }
    }
    if servers.is_empty() && ipv6 {
        return Box::pin(open(bind, false, router)).await;
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use ambit_net::Netns;

    use super::*;

    #[test]
    fn a_machine_without_ipv6_serves_ipv4() {
        let netns = Netns::create().unwrap();
        let served = netns.run(|| {
            std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let opened =
                runtime.block_on(open(Bind::Localhost(15_000), true, &Router::new("test")));
            let addresses = opened.map(|servers| servers.iter().map(Server::address).collect());
            addresses.map_err(std::io::Error::other)
        });
        let served: Vec<_> = served.unwrap();
        assert_eq!(served, ["127.0.0.1:15000".parse().unwrap()]);
    }
}
