//! Settings of each component, from the configuration; and the components that need nothing else.

use std::sync::Arc;

use ambit_ebpf::Capture;
use ambit_net::{CongestionControl, Keepalive, SocketSettings};
use anyhow::Context;

use crate::config::{CaptureMode, Config, Enrolment, EnrolmentSource};
use crate::dns::{self, Dns};
use crate::proxy::pod::Redirect;
use crate::proxy::resolver::{NoNames, NodeResolver};
use crate::proxy::{Mesh, Resolve, Settings};

/// How lookups behave.
pub(super) fn state(config: &Config) -> ambit_state::Settings {
    let preferred = &config.discovery.preferred_service_namespace;
    ambit_state::Settings {
        preferred_service_namespace: preferred.as_deref().map(Into::into),
    }
}

/// The data path.
pub(super) fn proxy(config: &Config) -> Settings {
    let proxy = &config.proxy;
    Settings {
        node: config.node.name.clone(),
        network: config.node.network.clone(),
        cluster: config.node.cluster.clone(),
        trust_domain: config.node.trust_domain.clone(),
        sockets: sockets(config),
        tunnel: tunnel(config),
        ipv6: proxy.ipv6,
        original_source: proxy.original_source,
        localhost_app_tunnel: proxy.localhost_app_tunnel,
        baggage: proxy.baggage,
        log_policy_at_info: proxy.log_policy_at_info,
        connect_attempts: proxy.connect_attempts,
    }
}

fn sockets(config: &Config) -> SocketSettings {
    let keepalive = config.sockets.keepalive.map(|keepalive| Keepalive {
        time: keepalive.time,
        interval: keepalive.interval,
        retries: keepalive.retries,
    });
    SocketSettings {
        mark: config.proxy.packet_mark,
        reuse_port: config.proxy.port_reuse,
        keepalive,
        user_timeout: config.sockets.user_timeout.is_some(),
        loopback_congestion: congestion(&config.proxy.loopback_congestion),
        network_congestion: congestion(&config.tunnel.congestion),
        ..SocketSettings::default()
    }
}

/// The named algorithm; the system's when the kernel does not have it.
fn congestion(name: &str) -> Option<CongestionControl> {
    if name.is_empty() {
        return None;
    }
    CongestionControl::find(name)
        .inspect_err(|error| {
            tracing::warn!(name, %error, "congestion control not available, using the system's");
        })
        .ok()
}

fn tunnel(config: &Config) -> ambit_hbone::Settings {
    let tunnel = &config.tunnel;
    ambit_hbone::Settings {
        stream_window: tunnel.stream_window,
        connection_window: tunnel.connection_window,
        max_frame_size: tunnel.frame_size,
        pool_max_streams: u32::from(tunnel.max_streams),
        pool_idle: tunnel.idle_timeout,
        ..ambit_hbone::Settings::default()
    }
}

/// The resolver of names that discovery gives.
pub(super) fn resolver() -> Arc<dyn Resolve> {
    match NodeResolver::from_system() {
        Ok(resolver) => Arc::new(resolver),
        Err(error) => {
            tracing::warn!(error, "endpoints that have only a name cannot be reached");
            Arc::new(NoNames)
        }
    }
}

/// Capture by eBPF, where it is wanted and possible.
pub(super) fn capture(config: &Config) -> anyhow::Result<Option<Arc<Capture>>> {
    let enrolment = &config.enrolment;
    if !Enrolment::wanted(config.proxy.mode) || enrolment.capture == CaptureMode::Cni {
        return Ok(None);
    }
    let congestion = &config.proxy.loopback_congestion;
    let options = ambit_ebpf::Options {
        directory: enrolment.bpffs.clone(),
        cgroup: enrolment.cgroup.clone(),
        congestion: (!congestion.is_empty()).then(|| congestion.clone()),
        ..ambit_ebpf::Options::default()
    };
    match Capture::open(options) {
        Ok(capture) => Ok(Some(Arc::new(capture))),
        Err(error)
            if enrolment.capture == CaptureMode::Auto
                && enrolment.source == EnrolmentSource::Zds =>
        {
            tracing::warn!(%error, "no eBPF capture here, relying on the CNI agent's rules");
            Ok(None)
        }
        Err(error) => Err(error).context("capture by eBPF"),
    }
}

/// How connections come to the pods' listeners.
pub(super) fn redirect(capture: Option<&Arc<Capture>>) -> Redirect {
    match capture {
        Some(capture) => Redirect::Ebpf(capture.original_destinations()),
        None => Redirect::Netfilter,
    }
}

/// The resolvers in pods, unless they are off.
pub(super) fn dns(
    config: &Config,
    mesh: &Mesh,
    captured: bool,
) -> anyhow::Result<Option<Arc<Dns>>> {
    if !config.dns.enabled {
        return Ok(None);
    }
    let settings = dns::Settings::new(config, mesh.settings.sockets.clone(), captured);
    let dns = Dns::launch(settings, mesh.state.clone(), Arc::clone(&mesh.metrics))?;
    Ok(Some(Arc::new(dns)))
}
