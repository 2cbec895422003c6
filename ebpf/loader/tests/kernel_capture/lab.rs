//! A pod and a host: two network namespaces joined by a veth pair, and an agent's directory on bpffs, all
//! gone when the test ends, however it ends.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ambit_ebpf::{Capture, Listeners, MARK, Options, Pod, netns_cookie};
use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub(crate) const HOST4: &str = "10.77.0.1";
pub(crate) const POD4: &str = "10.77.0.2";
pub(crate) const POD4_SECOND: &str = "10.77.0.3";
pub(crate) const HOST6: &str = "fd77::1";
pub(crate) const POD6: &str = "fd77::2";
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Returns false, after saying why, when this machine cannot run kernel tests. In CI that fails.
pub(crate) fn possible() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if !std::path::Path::new("/proc/sys/net/core/bpf_jit_enable").exists() {
        "no BPF in this kernel"
    } else {
        return true;
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "kernel tests must run in CI, but: {reason}"
    );
    eprintln!("skipped: {reason}");
    false
}

/// A network namespace; it lives as long as somebody holds it open.
pub(crate) struct Netns(OwnedFd);

impl Netns {
    pub(crate) fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        let netns = Self(file.join().unwrap().into());
        netns.ip("link set lo up");
        netns
    }

    /// Runs `work` inside, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let netns = self.0.try_clone().unwrap();
        let mut command = Command::new(program);
        // SAFETY: setns is a plain system call, allowed between fork and exec.
        unsafe {
            command.pre_exec(move || Ok(setns(&netns, CloneFlags::CLONE_NEWNET)?));
        }
        command
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        let output = self
            .command("ip")
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn cookie(&self) -> u64 {
        netns_cookie(self.fd()).unwrap()
    }

    /// A listener of an application, or with `mark` one of the agent.
    pub(crate) fn listen(&self, address: &str, mark: u32) -> TcpListener {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| {
            let socket = socket(address, mark);
            socket.set_reuse_address(true).unwrap();
            socket.set_reuse_port(true).unwrap();
            if address.is_ipv6() {
                socket
                    .set_only_v6(address.ip() != IpAddr::from([0u16; 8]))
                    .unwrap();
            }
            socket.bind(&address.into()).unwrap();
            socket.listen(1024).unwrap();
            socket.into()
        })
    }

    /// A listener whose every connection is answered with `name` and closed.
    pub(crate) fn serve(&self, address: &str, name: &'static str) {
        let listener = self.listen(address, 0);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if stream.write_all(name.as_bytes()).is_err() {
                    continue;
                }
            }
        });
    }

    /// Connects like an application.
    pub(crate) fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| connect(&socket(address, 0), address))
    }

    /// Connects and reads all that the other side says.
    pub(crate) fn ask(&self, address: &str) -> io::Result<String> {
        let mut answer = String::new();
        self.connect(address)?.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

pub(crate) fn socket(address: SocketAddr, mark: u32) -> Socket {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .unwrap();
    if mark != 0 {
        socket.set_mark(mark).unwrap();
    }
    socket
}

pub(crate) fn connect(socket: &Socket, address: SocketAddr) -> io::Result<TcpStream> {
    socket.connect_timeout(&SockAddr::from(address), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.try_clone()?.into())
}

/// Accepts, but does not wait for ever.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline =>
            {
                wait_readable(listener);
            }
            Err(error) => return Err(error),
            Ok((stream, peer)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok((stream, peer));
            }
        }
    }
}

fn wait_readable(listener: &TcpListener) {
    let mut poll = libc::pollfd {
        fd: listener.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut poll, 1, 100) };
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        std::thread::yield_now();
    }
}

/// The agent's side of a pod.
pub(crate) struct Agent {
    pub(crate) outbound: TcpListener,
    pub(crate) inbound: TcpListener,
    pub(crate) dns: TcpListener,
}

impl Agent {
    pub(crate) fn new(pod: &Netns) -> Self {
        Self {
            outbound: pod.listen("[::]:15001", MARK),
            inbound: pod.listen("[::]:15006", MARK),
            dns: pod.listen("[::]:15053", MARK),
        }
    }

    pub(crate) fn listeners(&self) -> Listeners<'_> {
        both(&self.inbound)
    }

    /// Ends the agent. Closing alone would not do at once: a process that another test is just starting
    /// has copies of all descriptors until it executes its program.
    pub(crate) fn die(self) {
        for listener in [&self.outbound, &self.inbound, &self.dns] {
            socket2::SockRef::from(listener)
                .shutdown(std::net::Shutdown::Both)
                .unwrap();
        }
    }
}

/// A dual-stack listener for both families.
pub(crate) fn both(listener: &TcpListener) -> Listeners<'_> {
    Listeners {
        v4: Some(listener.as_fd()),
        v6: Some(listener.as_fd()),
    }
}

/// A pod and a host, joined, and capture with a directory of its own.
pub(crate) struct Lab {
    pub(crate) pod: Netns,
    pub(crate) host: Netns,
    pub(crate) options: Options,
    capture: Option<Capture>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let options = unique_options();
        let (pod, host) = (Netns::new(), Netns::new());
        let path = format!("/proc/{}/fd/{}", std::process::id(), pod.fd().as_raw_fd());
        host.ip(&format!(
            "link add veth0 type veth peer name eth0 netns {path}"
        ));
        for (netns, device, addresses) in [
            (&host, "veth0", &[HOST4, HOST6][..]),
            (&pod, "eth0", &[POD4, POD4_SECOND, POD6][..]),
        ] {
            for address in addresses {
                let suffix = if address.contains(':') {
                    "/64 nodad"
                } else {
                    "/24"
                };
                netns.ip(&format!("addr add {address}{suffix} dev {device}"));
            }
            // Without link-local addresses, which would appear some time later.
            netns.ip(&format!("link set {device} addrgenmode none"));
            netns.ip(&format!("link set {device} up"));
        }
        let capture = Some(Capture::open(options.clone()).unwrap());
        Self {
            pod,
            host,
            options,
            capture,
        }
    }

    pub(crate) fn capture(&self) -> &Capture {
        self.capture.as_ref().unwrap()
    }

    pub(crate) fn take_capture(&mut self) -> Capture {
        self.capture.take().unwrap()
    }

    /// Opens capture once more, as a restarted agent does.
    pub(crate) fn reopen(&mut self) {
        drop(self.capture.take());
        self.capture = Some(Capture::open(self.options.clone()).unwrap());
    }

    pub(crate) fn describe<'a>(&'a self, listeners: Listeners<'a>) -> Pod<'a> {
        Pod {
            cookie: self.pod.cookie(),
            netns: self.pod.fd(),
            addresses: [POD4, POD4_SECOND, POD6]
                .map(|a| a.parse().unwrap())
                .to_vec(),
            listeners,
            dns: true,
            capture_inbound: true,
        }
    }

    pub(crate) fn enroll(&self, agent: &Agent) {
        self.capture()
            .enroll(&self.describe(agent.listeners()))
            .unwrap();
    }

    /// Accepts on one of the agent's listeners and says where the connection wanted to go.
    pub(crate) fn accept(&self, listener: &TcpListener) -> (TcpStream, Option<SocketAddr>) {
        let (stream, peer) = accept(listener).unwrap();
        let local = stream.local_addr().unwrap();
        let wanted = self.capture().original_dst(self.pod.cookie(), local, peer);
        (stream, wanted)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Another agent may have taken over: a new one can always clean up.
        drop(self.capture.take());
        if !self.options.directory.exists() {
            return;
        }
        let removed = Capture::open(self.options.clone()).and_then(Capture::uninstall);
        if let Err(error) = removed {
            eprintln!(
                "cannot uninstall {}: {error}",
                self.options.directory.display()
            );
        }
    }
}

/// Options with a directory that no other test uses.
pub(crate) fn unique_options() -> Options {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "ambit-test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    Options {
        directory: PathBuf::from("/sys/fs/bpf").join(name),
        ..Options::default()
    }
}

/// A process of its own in the host's namespace, which connects where it is told.
pub(crate) struct HostProcess(Child);

impl HostProcess {
    pub(crate) fn start(host: &Netns) -> Self {
        // The shell itself opens the connection, and prints what it is told by the other side.
        let script = "while read ip port; do \
                        if { exec 3<>/dev/tcp/$ip/$port; } 2>/dev/null; \
                        then IFS= read -r -t 5 -n 20 answer <&3; echo \"$answer\"; exec 3>&-; \
                        else echo refused; fi; done";
        let mut command = host.command("bash");
        command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    pub(crate) fn tgid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn ask(&mut self, ip: &str, port: u16) -> String {
        let stdin = self.0.stdin.as_mut().unwrap();
        writeln!(stdin, "{ip} {port}").unwrap();
        let mut line = Vec::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if self.0.kill().is_ok() {
            self.0.wait().unwrap();
        }
    }
}
