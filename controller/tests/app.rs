//! The whole controller in one process: a real directory, real TLS, a real client, and the
//! program's own commands.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a failed step is a failed test"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ambit_proto::ADDRESS_TYPE;
use ambit_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ambit_runtime::{Shutdown, admin::LogControl};
use controller::app::App;
use controller::config::{Cli, Command as Commands, Config};
use controller::metrics::Metrics;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Streaming};

const LONG: Duration = Duration::from_secs(20);

struct NoLog;

impl LogControl for NoLog {
    fn current(&self) -> String {
        String::from("off")
    }
    fn set(&self, _levels: &str) -> Result<(), String> {
        Ok(())
    }
    fn reset(&self) -> Result<(), String> {
        Ok(())
    }
}

struct Fixture {
    app: App,
    objects: tempfile::TempDir,
    data: tempfile::TempDir,
}

fn pod(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{nodeName: node-a}}\nstatus: {{podIP: {ip}}}\n"
    )
}

impl Fixture {
    async fn start() -> Self {
        use clap::Parser as _;
        let (objects, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(objects.path().join("a.yaml"), pod("a", "10.0.0.1")).unwrap();
        let arguments = [
            "controller",
            "run",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--config",
            objects.path().to_str().unwrap(),
            "--data-dir",
            data.path().to_str().unwrap(),
        ];
        let Commands::Run(args) = Cli::parse_from(arguments).command else {
            panic!()
        };
        let config = Config::from_args(&args).unwrap();
        let app = App::start(
            config,
            Arc::new(Metrics::default()),
            Arc::new(NoLog),
            Shutdown::default(),
        );
        Self {
            app: app.await.unwrap(),
            objects,
            data,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.objects.path().join(name), text).unwrap();
    }

    /// As editors and deployment tools do it: a new file takes the name of the old one.
    fn replace(&self, name: &str, text: &str) {
        let temporary = self.objects.path().join(format!(".{name}.tmp"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.objects.path().join(name)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_controller"))
            .args(arguments)
            .output()
            .unwrap();
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    }

    fn data_dir(&self) -> &str {
        self.data.path().to_str().unwrap()
    }

    fn token(&self, node: &str) -> String {
        let (code, text) =
            self.command(&["node-token", "--node", node, "--data-dir", self.data_dir()]);
        assert_eq!(code, 0, "{text}");
        text.trim().to_owned()
    }

    async fn channel(&self, identity: Option<Identity>) -> Channel {
        let root = std::fs::read_to_string(self.data.path().join("root-cert.pem")).unwrap();
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(root));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let address = format!("https://{}", self.app.address);
        Channel::from_shared(address)
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    async fn client(&self, channel: Channel, token: Option<&str>) -> Client {
        let (requests, receiver) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut service = AggregatedDiscoveryServiceClient::new(channel);
        let responses = service
            .delta_aggregated_resources(request)
            .await
            .unwrap()
            .into_inner();
        let subscribe = DeltaDiscoveryRequest {
            type_url: ADDRESS_TYPE.into(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(subscribe).await.unwrap();
        Client {
            requests,
            responses,
        }
    }

    /// A page of the admin server.
    async fn page(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.app.admin_address)
            .await
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    async fn next(&mut self) -> DeltaDiscoveryResponse {
        let next = tokio::time::timeout(LONG, self.responses.message()).await;
        let response = next
            .expect("a response in time")
            .unwrap()
            .expect("the stream goes on");
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(acknowledgement).await.unwrap();
        response
    }

    async fn next_names(&mut self) -> (Vec<String>, Vec<String>) {
        let response = self.next().await;
        (
            response.resources.into_iter().map(|r| r.name).collect(),
            response.removed_resources,
        )
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names
        .iter()
        .map(|name| format!("Kubernetes//Pod/shop/{name}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_of_the_directory_reach_a_client() {
    let fixture = Fixture::start().await;
    let token = fixture.token("node-a");
    let mut client = fixture
        .client(fixture.channel(None).await, Some(&token))
        .await;
    assert_eq!(client.next_names().await, (names(&["a"]), vec![]));
    // A new file, a file that takes another's place, a subdirectory, one that goes.
    fixture.write("b.yaml", &pod("b", "10.0.0.2"));
    assert_eq!(client.next_names().await, (names(&["b"]), vec![]));
    fixture.replace("b.yaml", &pod("b", "10.0.0.3"));
    assert_eq!(client.next_names().await, (names(&["b"]), vec![]));
    std::fs::create_dir(fixture.objects.path().join("more")).unwrap();
    fixture.write("more/c.json", "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"c\", \"namespace\": \"shop\"}, \"status\": {\"podIP\": \"10.0.0.4\"}}");
    assert_eq!(client.next_names().await, (names(&["c"]), vec![]));
    std::fs::remove_file(fixture.objects.path().join("b.yaml")).unwrap();
    assert_eq!(client.next_names().await, (vec![], names(&["b"])));
    // A directory that goes takes what it held along.
    let more = fixture.objects.path().join("more");
    std::fs::rename(&more, fixture.data.path().join("more")).unwrap();
    assert_eq!(client.next_names().await, (vec![], names(&["c"])));
    // What is no object file, and a write without a change, are no news; the next change is.
    fixture.write("notes.txt", "nothing");
    fixture.write("a.yaml", &pod("a", "10.0.0.1"));
    fixture.write("d.yaml", &pod("d", "10.0.0.5"));
    assert_eq!(client.next_names().await, (names(&["d"]), vec![]));
    fixture.app.stop().await;
}

/// Editors in place write beside the file under a name of their own, often in the same directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_file_beside_the_object_hides_no_change() {
    let fixture = Fixture::start().await;
    let token = fixture.token("node-a");
    let mut client = fixture
        .client(fixture.channel(None).await, Some(&token))
        .await;
    client.next().await;
    for (i, temporary) in ["sedXyz", "A.tmp", ".a.swp", "a.yaml~"].iter().enumerate() {
        let beside = fixture.objects.path().join(temporary);
        std::fs::write(&beside, pod("a", &format!("10.0.1.{i}"))).unwrap();
        std::fs::rename(&beside, fixture.objects.path().join("a.yaml")).unwrap();
        assert_eq!(
            client.next_names().await,
            (names(&["a"]), vec![]),
            "{temporary}"
        );
    }
    fixture.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_file_is_not_read() {
    use std::io::Write as _;
    let fixture = Fixture::start().await;
    let token = fixture.token("node-a");
    let mut client = fixture
        .client(fixture.channel(None).await, Some(&token))
        .await;
    client.next().await;
    let text = format!("{}---\n{}", pod("b", "10.0.0.2"), pod("c", "10.0.0.3"));
    let mut file = std::fs::File::create(fixture.objects.path().join("b.yaml")).unwrap();
    let (first, second) = text.split_at(text.len() / 2 + 3);
    file.write_all(first.as_bytes()).unwrap();
    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    assert_eq!(
        client.next_names().await,
        (names(&["b", "c"]), vec![]),
        "both at once"
    );
    fixture.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_told_and_what_was_in_force_stays() {
    let fixture = Fixture::start().await;
    let token = fixture.token("node-a");
    let mut client = fixture
        .client(fixture.channel(None).await, Some(&token))
        .await;
    client.next().await;
    fixture.write("a.yaml", &pod("a", "10.0.0.999"));
    fixture.write("b.yaml", &pod("b", "10.0.0.2"));
    assert_eq!(client.next_names().await, (names(&["b"]), vec![]));
    let line = "a.yaml:5: Pod shop/a: status.podIP is \"10.0.0.999\"; expected an IP address such as 10.0.0.1";
    let status = fixture.page("/status").await;
    assert!(
        status.contains(line) && status.contains("1 refused"),
        "{status}"
    );
    let json = fixture.page("/status?format=json").await;
    for part in [
        "\"line\": 5",
        "\"field\": \"status.podIP\"",
        "\"level\": \"refused\"",
    ] {
        assert!(json.contains(part), "no {part} in {json}");
    }
    let clients = fixture.page("/clients").await;
    assert!(clients.contains("\"node\": \"node-a\""), "{clients}");
    let (code, text) = fixture.command(&["validate", fixture.objects.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(text.contains(line), "{text}");
    fixture.write("a.yaml", &pod("a", "10.0.0.9"));
    assert_eq!(client.next_names().await, (names(&["a"]), vec![]));
    let (code, text) = fixture.command(&[
        "validate",
        "-o",
        "json",
        fixture.objects.path().to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\"refused\": 0"), "{text}");
    fixture.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_certificate_is_as_good_as_a_token() {
    let fixture = Fixture::start().await;
    let out = tempfile::tempdir().unwrap();
    let path = out.path().to_str().unwrap();
    let arguments = [
        "node-token",
        "--node",
        "node-a",
        "--data-dir",
        fixture.data_dir(),
        "--certificate",
        path,
    ];
    let (code, text) = fixture.command(&arguments);
    assert_eq!(code, 0, "{text}");
    let read = |name: &str| std::fs::read_to_string(Path::new(path).join(name)).unwrap();
    let identity = Identity::from_pem(read("cert-chain.pem"), read("key.pem"));
    let mut client = fixture
        .client(fixture.channel(Some(identity)).await, None)
        .await;
    assert_eq!(client.next_names().await, (names(&["a"]), vec![]));
    assert_eq!(fixture.app.hub.clients()[0].node, "node-a");
    fixture.app.stop().await;
}

#[test]
fn commands_say_what_is_wrong() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_controller"))
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for (arguments, part) in [
        (
            &["run", "--config", "/nowhere", "--data-dir", data][..],
            "cannot read the directory \"/nowhere\" of objects",
        ),
        (
            &["validate", "/nowhere"][..],
            "cannot read the directory \"/nowhere\" of objects",
        ),
        (
            &["node-token", "--node", "A B", "--data-dir", data][..],
            "\"A B\" is not a node name: expected",
        ),
        (
            &["run", "--config", "/", "--trust-domain", "a b"][..],
            "--trust-domain is \"a b\"; expected a domain name",
        ),
    ] {
        let (code, text) = run(arguments);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn the_first_mesh_of_the_manual_is_sound() {
    let manual = include_str!("../../docs/standalone.md");
    let (_, rest) = manual.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let mut store = controller::watch::Store::new(controller::snapshot::MeshSettings::default());
    store.update("mesh.yaml", yaml);
    let snapshot = store.snapshot();
    let translated = controller::translate::translate(&snapshot);
    let report = controller::status::report(&snapshot, &translated);
    assert!(report.findings.is_empty(), "{}", report.text());
    assert_eq!(translated.nodes["node-a"].enrolled.len(), 1);
    for path in ["/status", "/nodes", "/clients"] {
        assert!(manual.contains(path), "{path}");
    }
}
