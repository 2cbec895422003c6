//! Two pods on a wire, each with its own node agent in this process: state, authority and redirection
//! are the test's; everything between is the real data path.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    reason = "each test binary uses a part"
)]

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_ebpf::Capture;
use ambit_identity::issue::{Authority, AuthorityPem, NewRootOptions, new_root};
use ambit_identity::{
    CaClient, CaError, Certificates, RevocationLists, Roots, SignFuture, SignRequest, Signed,
    SystemClock, Tls, TlsSettings, TrustStore,
};
use ambit_model::{TunnelProtocol, Workload};
use ambit_net::{Netns, SocketSettings};
use ambit_state::{Change, Writer};
use ambit_telemetry::{Metrics, Recorder};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use ztunnel::capture::{Ebpf, Interception, PodInfo, PodRuntime, PodSpec, StopReason};
use ztunnel::config::OriginalSource;
use ztunnel::proxy::pod::Redirect;
use ztunnel::proxy::resolver::NoNames;
use ztunnel::proxy::{Mesh, Pods, Settings, Workers, redecide};

/// The one authority of a test.
pub struct LocalCa {
    authority: Authority,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl LocalCa {
    pub fn new() -> Arc<Self> {
        let now = SystemTime::now();
        let lifetime = Duration::from_secs(86_400);
        let root = NewRootOptions {
            trust_domain: "cluster.local",
            lifetime,
            now,
        };
        let root = new_root(root).unwrap();
        let pem = AuthorityPem {
            ca_cert: &root.cert_pem,
            ca_key: &root.key_pem,
            cert_chain: "",
            root_cert: &root.cert_pem,
        };
        let key = rcgen::KeyPair::from_pem(&root.key_pem).unwrap();
        Arc::new(Self {
            authority: Authority::from_pem(pem, now).unwrap(),
            issuer: rcgen::Issuer::from_ca_cert_pem(&root.cert_pem, key).unwrap(),
        })
    }

    /// A list on which the certificate with this serial number is.
    pub fn revoke(&self, serial: &str) -> RevocationLists {
        let now = time::OffsetDateTime::now_utc();
        let serial = serial.parse::<u128>().unwrap().to_be_bytes();
        let list = rcgen::CertificateRevocationListParams {
            this_update: now,
            next_update: now + time::Duration::days(1),
            crl_number: rcgen::SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from_slice(&serial),
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let pem = list.signed_by(&self.issuer).unwrap().pem().unwrap();
        RevocationLists::from_pem(pem.as_bytes()).unwrap()
    }
}

impl CaClient for LocalCa {
    fn sign(&self, request: SignRequest) -> SignFuture<'_> {
        Box::pin(async move {
            let now = SystemTime::now();
            let issued = self
                .authority
                .sign(&request.identity, &request.csr_pem, request.ttl, now);
            let issued = issued.map_err(|error| CaError::BadAnswer {
                identity: request.identity.clone(),
                reason: error.to_string(),
            })?;
            Ok(Signed {
                chain: issued.chain,
                roots: self.authority.roots().to_vec(),
            })
        })
    }
}

/// A pod of the test.
pub struct TestPod {
    pub name: &'static str,
    pub netns: Netns,
    pub v4: IpAddr,
    pub v6: IpAddr,
}

impl TestPod {
    /// As discovery would publish it.
    pub fn workload(&self) -> Workload {
        Workload {
            uid: format!("Kubernetes//Pod/test/{}", self.name).into(),
            name: self.name.into(),
            namespace: "test".into(),
            service_account: self.name.into(),
            addresses: vec![self.v4, self.v6],
            tunnel: TunnelProtocol::Hbone,
            workload_name: self.name.into(),
            canonical_name: self.name.into(),
            canonical_revision: "latest".into(),
            ..Workload::default()
        }
    }

    /// As enrolment would describe it.
    pub fn spec(&self) -> PodSpec {
        PodSpec {
            uid: format!("uid-{}", self.name).into(),
            info: PodInfo {
                name: self.name.into(),
                namespace: "test".into(),
                service_account: self.name.into(),
            },
            netns: self.netns.clone(),
            addresses: vec![self.v4, self.v6],
            dns: false,
        }
    }

    /// Redirect rules as a CNI agent writes them into the pod.
    pub fn redirect(&self) {
        let rules = "
table inet mesh {
  chain out {
    type nat hook output priority -100;
    meta mark 0x539 accept
    ct mark 0x111 accept
    oifname lo accept
    meta l4proto tcp redirect to :15001
  }
  chain in {
    type nat hook prerouting priority -100;
    iifname lo accept
    meta mark 0x539 accept
    tcp dport != 15008 redirect to :15006
  }
  chain pre {
    type filter hook prerouting priority -150;
    meta mark 0x539 ct mark set 0x111
  }
  chain route {
    type route hook output priority -150;
    ct mark 0x111 meta mark set 0x111
  }
}";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rules).unwrap();
        run_in(&self.netns, &format!("nft -f {}", file.path().display()));
        for family in ["-4", "-6"] {
            run_in(
                &self.netns,
                &format!("ip {family} rule add fwmark 0x111/0xfff lookup 100"),
            );
            run_in(
                &self.netns,
                &format!("ip {family} route add local default dev lo table 100"),
            );
        }
    }
}

/// Runs a command in a namespace; fails the test when it fails.
pub fn run_in(netns: &Netns, command: &str) {
    netns
        .run(|| {
            let mut words = command.split_whitespace();
            let status = Command::new(words.next().unwrap()).args(words).status()?;
            assert!(status.success(), "{command}");
            Ok(())
        })
        .unwrap();
}

/// Two pods with a wire between them.
pub fn two_pods() -> (TestPod, TestPod) {
    let (a, b) = (Netns::create().unwrap(), Netns::create().unwrap());
    a.run(|| {
        let peer = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&b));
        let peer = format!("/proc/{}/fd/{peer}", std::process::id());
        let ip = format!("ip link add eth0 type veth peer name eth0 netns {peer}");
        let status = Command::new("ip").args(ip.split(' ').skip(1)).status()?;
        assert!(status.success(), "{ip}");
        Ok(())
    })
    .unwrap();
    for (netns, host) in [(&a, 1), (&b, 2)] {
        run_in(netns, &format!("ip addr add 10.9.0.{host}/24 dev eth0"));
        run_in(
            netns,
            &format!("ip addr add fd00:9::{host}/64 dev eth0 nodad"),
        );
        run_in(netns, "ip link set eth0 up");
        run_in(netns, "ip route add default dev eth0");
    }
    let pod = |name, netns, host: u8| TestPod {
        name,
        netns,
        v4: [10, 9, 0, host].into(),
        v6: format!("fd00:9::{host}").parse().unwrap(),
    };
    (pod("a", a, 1), pod("b", b, 2))
}

/// A node agent of the test.
pub struct Agent {
    pub writer: Mutex<Writer>,
    pub mesh: Arc<Mesh>,
    pub pods: Arc<Pods>,
    recorder: Option<Recorder>,
    capture: Option<Ebpf>,
    workers: Option<Workers>,
    background: Vec<JoinHandle<()>>,
}

impl Agent {
    /// Starts one behind redirect rules with `workers` data threads. Must be called in a runtime.
    pub fn start(ca: &Arc<LocalCa>, workers: usize) -> Self {
        Self::start_with(ca, workers, None)
    }

    /// Starts one, with its own capture programs or behind redirect rules.
    pub fn start_with(ca: &Arc<LocalCa>, workers: usize, capture: Option<Capture>) -> Self {
        log_as_told();
        let (writer, state) = ambit_state::new(ambit_state::Settings::default());
        let trust = Arc::new(TrustStore::new(Roots::default()));
        let tls = Arc::new(Tls::new(
            &TlsSettings::default(),
            trust,
            Arc::new(SystemClock),
        ));
        let (certificates, worker) = Certificates::new(
            ambit_identity::Settings::default(),
            Arc::clone(ca) as Arc<dyn CaClient>,
            tls,
        );
        let metrics = Arc::new(Metrics::new("ztunnel", "test"));
        let recorder = Recorder::start(Arc::clone(&metrics)).unwrap();
        let (complete, completed) = watch::channel(true);
        let mesh = Arc::new(Mesh {
            state,
            complete: completed,
            certificates,
            metrics,
            demand: std::sync::OnceLock::new(),
            resolver: Arc::new(NoNames),
            settings: settings(),
        });
        let threads = Workers::start(workers, &mesh, &recorder).unwrap();
        let redirect = match &capture {
            Some(capture) => Redirect::Ebpf(capture.original_destinations()),
            None => Redirect::Netfilter,
        };
        let pods = Arc::new(Pods::new(Arc::clone(&mesh), threads.dealer(), redirect));
        let background = vec![
            tokio::spawn(async move {
                worker.run(std::future::pending()).await;
                drop(complete);
            }),
            tokio::spawn(redecide::follow(Arc::clone(&mesh), Arc::clone(&pods))),
        ];
        let writer = Mutex::new(writer);
        let recorder = Some(recorder);
        Self {
            writer,
            mesh,
            pods,
            recorder,
            capture: capture.map(|c| Ebpf(Arc::new(c))),
            workers: Some(threads),
            background,
        }
    }

    /// Tells the agent of workloads, services and policies.
    pub fn apply(&self, changes: Vec<Change>) {
        self.writer.lock().apply(changes);
    }

    /// The metrics as a scrape would show them now.
    pub fn metrics(&self) -> String {
        self.recorder.as_ref().unwrap().encode()
    }

    /// Serves a pod.
    pub async fn serve(&self, pod: &TestPod) {
        let spec = Arc::new(pod.spec());
        let started = self.pods.start(Arc::clone(&spec)).await.unwrap();
        if let Some(capture) = &self.capture {
            capture.attach(&spec, &spec.addresses, &started).unwrap();
        }
    }

    /// Stops serving a pod.
    pub async fn release(&self, pod: &TestPod) {
        self.pods.stop(&pod.spec().uid, StopReason::Removed).await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for task in &self.background {
            task.abort();
        }
        if let Some(workers) = self.workers.take() {
            workers.stop();
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.stop();
        }
        let capture = self
            .capture
            .take()
            .and_then(|Ebpf(capture)| Arc::into_inner(capture));
        if let Some(Err(error)) = capture.map(Capture::uninstall) {
            eprintln!("capture is left behind: {error}");
        }
    }
}

/// Logs to the test's output, as `RUST_LOG` says.
fn log_as_told() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Only the first test of the process sets it up.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .with_ansi(false)
            .try_init(),
    );
}

fn settings() -> Settings {
    Settings {
        node: "".into(),
        network: "".into(),
        cluster: "Kubernetes".into(),
        trust_domain: "cluster.local".into(),
        sockets: SocketSettings {
            connect_timeout: Duration::from_secs(2),
            ..SocketSettings::default()
        },
        tunnel: ambit_hbone::Settings::default(),
        ipv6: true,
        original_source: OriginalSource::Auto,
        localhost_app_tunnel: true,
        baggage: true,
        log_policy_at_info: false,
        connect_attempts: 3,
    }
}

/// A listener of an application in a pod.
pub fn listen(pod: &TestPod, address: impl Into<IpAddr>, port: u16) -> tokio::net::TcpListener {
    let address = SocketAddr::new(address.into(), port);
    let listener = pod
        .netns
        .run(|| std::net::TcpListener::bind(address))
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    tokio::net::TcpListener::from_std(listener).unwrap()
}

/// An application's connection out of a pod.
pub async fn connect(pod: &TestPod, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    let socket = pod.netns.run(|| {
        if to.is_ipv4() {
            tokio::net::TcpSocket::new_v4()
        } else {
            tokio::net::TcpSocket::new_v6()
        }
    })?;
    socket.connect(to).await
}

/// Waits, bounded, until `done` says so.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen in five seconds");
}
