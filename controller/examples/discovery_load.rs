//! Measures a running controller: writes a directory of workloads, connects many discovery clients,
//! changes one workload again and again, and tells how long each change took to reach every client.
//!
//! ```text
//! discovery_load generate --objects DIR --workloads 10000
//! controller run --config DIR --data-dir DATA &
//! discovery_load measure --objects DIR --data-dir DATA --address 127.0.0.1:15012 --pid $!
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_identity::SystemClock;
use ambit_proto::ADDRESS_TYPE;
use ambit_proto::discovery::DeltaDiscoveryRequest;
use ambit_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use controller::ca::NodeTokens;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write a directory of workloads
    Generate {
        #[arg(long)]
        objects: PathBuf,
        #[arg(long, default_value_t = 1000)]
        workloads: u32,
    },
    /// Connect clients, change a workload, measure
    Measure {
        #[arg(long)]
        objects: PathBuf,
        #[arg(long)]
        data_dir: PathBuf,
        #[arg(long, default_value = "127.0.0.1:15012")]
        address: String,
        #[arg(long, default_value_t = 100)]
        clients: usize,
        #[arg(long, default_value_t = 100)]
        changes: u32,
        /// Process id of the controller, to read its memory
        #[arg(long)]
        pid: Option<u32>,
    },
}

/// The workload that changes.
const CHANGING: &str = "changing";

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    match Cli::parse().command {
        Task::Generate { objects, workloads } => generate(&objects, workloads),
        Task::Measure {
            objects,
            data_dir,
            address,
            clients,
            changes,
            pid,
        } => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(measure(
                &objects, &data_dir, &address, clients, changes, pid,
            ))
        }
    }
}

fn pod(name: &str, ip: std::net::Ipv4Addr, revision: u32) -> String {
    let service = revision % 100;
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: ns-{}\n  labels:\n    app: app-{service}\n    \
         version: v{revision}\n  annotations:\n    ambit.dev/netns: /run/netns/{name}\nspec:\n  nodeName: node-{}\n  \
         serviceAccountName: app-{service}\n  containers:\n  - name: app\n    ports:\n    - {{name: http, containerPort: 8080}}\n\
         status:\n  podIP: {ip}\n  phase: Running\n  conditions:\n  - {{type: Ready, status: \"True\"}}\n",
        service % 20,
        service % 10
    )
}

fn generate(objects: &Path, workloads: u32) -> Result<()> {
    std::fs::create_dir_all(objects.join("pods"))?;
    let mut base = String::new();
    for namespace in 0..20 {
        base += &format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{namespace}, labels: {{istio.io/dataplane-mode: ambient}}}}\n---\n"
        );
    }
    for service in 0..100u32 {
        base += &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: app-{service}, namespace: ns-{}}}\nspec: {{clusterIP: 10.96.0.{}, \
             selector: {{app: app-{service}}}, ports: [{{name: http, port: 80, targetPort: http}}]}}\n---\n",
            service % 20,
            service + 1
        );
    }
    std::fs::write(objects.join("base.yaml"), base)?;
    for index in 0..workloads {
        let ip = std::net::Ipv4Addr::from(0x0a80_0000 + index);
        let name = format!("pod-{index}");
        std::fs::write(
            objects.join(format!("pods/{name}.yaml")),
            pod(&name, ip, index),
        )?;
    }
    Ok(())
}

/// One client's news: which client, the version label it saw, and when.
struct Seen {
    revision: u32,
    at: Instant,
}

async fn measure(
    objects: &Path,
    data_dir: &Path,
    address: &str,
    clients: usize,
    changes: u32,
    pid: Option<u32>,
) -> Result<()> {
    let tokens = NodeTokens::open(data_dir, Arc::new(SystemClock))?;
    let root = std::fs::read_to_string(data_dir.join("root-cert.pem"))?;
    let (news, mut seen) = mpsc::channel(clients * 4);
    let (ready, mut are_ready) = mpsc::channel(clients);
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..clients {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&root));
        let endpoint = Channel::from_shared(format!("https://{address}"))?.tls_config(tls)?;
        let token = tokens.issue(&format!("node-{index}"), Duration::from_secs(3600))?;
        tasks.spawn(follow(endpoint, token, news.clone(), ready.clone()));
    }
    let mut workloads = 0;
    for _ in 0..clients {
        tokio::select! {
            count = are_ready.recv() => workloads = count.context("a client ended")?,
            end = tasks.join_next() => bail!("a client ended: {end:?}"),
        }
    }
    let connected = started.elapsed();
    let rss_connected = pid.and_then(rss_megabytes);
    let mut all = Vec::new();
    let mut last = Vec::new();
    for revision in 0..changes {
        let path = objects.join("pods").join(format!("{CHANGING}.yaml"));
        let temporary = objects.join(format!(".{CHANGING}"));
        std::fs::write(&temporary, pod(CHANGING, [10, 1, 0, 1].into(), revision))?;
        let written = Instant::now();
        std::fs::rename(&temporary, &path)?;
        let mut arrived = 0;
        let mut slowest = Duration::ZERO;
        while arrived < clients {
            let next = tokio::time::timeout(PATIENCE, seen.recv()).await;
            let Seen {
                revision: found,
                at,
            } = next
                .context("a change did not arrive")?
                .context("no client is left")?;
            if found == revision {
                arrived += 1;
                slowest = slowest.max(at - written);
                all.push(at - written);
            }
        }
        last.push(slowest);
    }
    tasks.abort_all();
    let rss = pid.and_then(rss_megabytes);
    let report = serde_json::json!({
        "clients": clients,
        "resources": workloads,
        "changes": changes,
        "connect_all_ms": millis(connected),
        "change_to_client_ms": { "p50": percentile(&mut all, 50), "p99": percentile(&mut all, 99), "max": percentile(&mut all, 100) },
        "change_to_last_client_ms": { "p50": percentile(&mut last, 50), "p99": percentile(&mut last, 99), "max": percentile(&mut last, 100) },
        "controller_rss_mb": { "connected": rss_connected, "after": rss },
    });
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{report:#}")?;
    Ok(())
}

async fn follow(
    endpoint: tonic::transport::Endpoint,
    token: String,
    news: mpsc::Sender<Seen>,
    ready: mpsc::Sender<usize>,
) -> Result<()> {
    let channel = endpoint.connect().await?;
    let (requests, receiver) = mpsc::channel(16);
    let mut request = tonic::Request::new(ReceiverStream::new(receiver));
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse()?);
    let mut service =
        AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(200 << 20);
    let subscribe = DeltaDiscoveryRequest {
        type_url: ADDRESS_TYPE.into(),
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(subscribe).await?;
    let mut responses = service
        .delta_aggregated_resources(request)
        .await?
        .into_inner();
    let mut is_first = true;
    while let Some(response) = responses.message().await? {
        let at = Instant::now();
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(acknowledgement).await?;
        if is_first {
            ready.send(response.resources.len()).await?;
            is_first = false;
            continue;
        }
        for resource in response.resources {
            if !resource.name.ends_with(CHANGING) {
                continue;
            }
            let Some(body) = resource.resource else {
                continue;
            };
            let address: ambit_proto::workload::Address = prost::Message::decode(&body.value[..])?;
            let Some(ambit_proto::workload::address::Type::Workload(workload)) = address.r#type
            else {
                continue;
            };
            let revision = workload
                .canonical_revision
                .trim_start_matches('v')
                .parse()?;
            news.send(Seen { revision, at }).await?;
        }
    }
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 100.0
}

fn percentile(values: &mut [Duration], percent: usize) -> f64 {
    values.sort();
    let index = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(index).copied().map_or(0.0, millis)
}

fn rss_megabytes(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some((kilobytes / 10.24).round() / 100.0)
}
