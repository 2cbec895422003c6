//! Connections that the pod's applications open.

use std::io::{Read, Write};
use std::net::SocketAddr;

use ambit_ebpf::MARK;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::TcpCongestion;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{self, Agent, Lab, POD4, POD6, connect, possible, socket};

/// Connects to `asked`; checks what the agent and the application see.
fn check_captured(lab: &Lab, agent: &Agent, asked: &str, own: &str) {
    let asked: SocketAddr = asked.parse().unwrap();
    let canonical = SocketAddr::new(asked.ip().to_canonical(), asked.port());
    let mut application = lab.pod.connect(&asked.to_string()).unwrap();
    let (mut accepted, wanted) = lab.accept(&agent.outbound);
    assert_eq!(wanted, Some(canonical), "the agent knows the destination");
    assert_eq!(application.peer_addr().unwrap(), asked, "getpeername");
    let local = application.local_addr().unwrap();
    assert_eq!(local.ip().to_canonical().to_string(), own, "getsockname");
    let name = getsockopt(&application, TcpCongestion).unwrap();
    assert!(
        name.to_string_lossy().starts_with("cubic"),
        "congestion control is {name:?}"
    );
    accepted.write_all(b"through").unwrap();
    drop(accepted);
    let mut answer = String::new();
    application.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "through");
}

#[test]
fn kernel_outbound_is_captured_for_every_family() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    check_captured(&lab, &agent, "10.77.0.1:9000", POD4);
    check_captured(&lab, &agent, "[fd77::1]:9000", POD6);
    check_captured(&lab, &agent, "[::ffff:10.77.0.1]:9000", POD4);
    // A destination that does not exist is the agent's problem, too.
    check_captured(&lab, &agent, "192.0.2.9:443", POD4);
    assert_eq!(
        lab.capture().dump().unwrap().pending_connections,
        0,
        "all were taken"
    );
}

#[test]
fn kernel_outbound_lets_loopback_own_addresses_and_the_agent_through() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    lab.pod.serve("[::]:8080", "application");
    lab.host.serve("[::]:9000", "host");
    for own in [
        "127.0.0.1:8080",
        "127.9.9.9:8080",
        "0.0.0.0:8080",
        "[::1]:8080",
        "[::]:8080",
        "[::ffff:127.0.0.1]:8080",
        "10.77.0.2:8080",
        "10.77.0.3:8080",
        "[fd77::2]:8080",
        "[::ffff:10.77.0.2]:8080",
    ] {
        assert_eq!(lab.pod.ask(own).unwrap(), "application", "{own}");
    }
    for other in ["10.77.0.1:9000", "[fd77::1]:9000"] {
        let other: SocketAddr = other.parse().unwrap();
        let mut answer = String::new();
        let stream = lab.pod.run(|| connect(&socket(other, MARK), other));
        stream.unwrap().read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "host", "the agent's own connection to {other}");
    }
}

#[test]
fn kernel_a_connection_to_the_listener_itself_has_no_destination() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    for listener in ["10.77.0.2:15001", "127.0.0.1:15001"] {
        let _application = lab.pod.connect(listener).unwrap();
        assert_eq!(lab.accept(&agent.outbound).1, None, "{listener}");
    }
}

#[test]
fn kernel_connections_from_before_enrolment_are_left_alone() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    let server = lab.host.listen("10.77.0.1:9000", 0);
    let mut application = lab.pod.connect("10.77.0.1:9000").unwrap();
    let (mut accepted, _) = lab::accept(&server).unwrap();
    let inbound = lab.pod.listen("10.77.0.2:8080", 0);
    let mut client = lab.host.connect("10.77.0.2:8080").unwrap();
    let (mut served, _) = lab::accept(&inbound).unwrap();
    lab.enroll(&agent);
    for (from, to) in [
        (&mut application, &mut accepted),
        (&mut client, &mut served),
    ] {
        let mut bytes = [0; 4];
        from.write_all(b"ping").unwrap();
        to.read_exact(&mut bytes).unwrap();
        to.write_all(b"pong").unwrap();
        from.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"pong");
    }
    assert_eq!(
        application.peer_addr().unwrap().to_string(),
        "10.77.0.1:9000"
    );
}

#[test]
fn kernel_non_blocking_repeated_and_fast_open_connects_are_captured() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let asked: SocketAddr = "10.77.0.1:9000".parse().unwrap();
    let wanted = Some(asked);

    let stream = lab.pod.run(|| socket(asked, 0));
    stream.set_nonblocking(true).unwrap();
    for _ in 0..2 {
        // The second call finds the connection under way or established, and changes nothing.
        drop(stream.connect(&asked.into()));
    }
    assert_eq!(lab.accept(&agent.outbound).1, wanted, "non-blocking");
    assert_eq!(stream.peer_addr().unwrap().as_socket(), wanted);

    let stream = lab.pod.run(|| socket(asked, 0));
    assert_eq!(
        stream
            .send_to_with_flags(b"hello", &asked.into(), libc::MSG_FASTOPEN)
            .unwrap(),
        5
    );
    assert_eq!(lab.accept(&agent.outbound).1, wanted, "fast open");

    // A socket that was refused may be used again; what it asked for first must not be remembered.
    lab.pod.serve("127.0.0.1:8081", "own");
    let stream = lab.pod.run(|| socket(asked, 0));
    assert!(
        stream
            .connect(&"127.0.0.1:1".parse::<SocketAddr>().unwrap().into())
            .is_err()
    );
    connect(&stream, asked).unwrap();
    assert_eq!(
        lab.accept(&agent.outbound).1,
        wanted,
        "second connect of a socket"
    );
}

#[test]
fn kernel_a_socket_reused_for_loopback_forgets_its_destination() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    agent.die();
    lab.pod.serve("127.0.0.1:8081", "own");
    let asked: SocketAddr = "10.77.0.1:9000".parse().unwrap();
    let own: SocketAddr = "127.0.0.1:8081".parse().unwrap();
    let stream = lab.pod.run(|| socket(asked, 0));
    assert!(
        stream.connect(&asked.into()).is_err(),
        "nobody listens on 15001"
    );
    assert_eq!(
        lab.capture().dump().unwrap().pending_connections,
        0,
        "the record went with it"
    );
    let stream = connect(&stream, own).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), own);
}

#[test]
fn kernel_multipath_tcp_is_declined_in_enrolled_pods_only() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let multipath = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(262)));
    let enabled = std::fs::read_to_string("/proc/sys/net/mptcp/enabled");
    if enabled.is_err() {
        eprintln!("skipped: this kernel has no multipath TCP, so nothing can bypass capture by it");
        return;
    }
    assert!(lab.pod.run(multipath).is_ok(), "before enrolment");
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let error = lab.pod.run(multipath).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT));
    assert!(lab.host.run(multipath).is_ok(), "other namespaces");
    lab.capture().release(lab.pod.cookie()).unwrap();
    assert!(lab.pod.run(multipath).is_ok(), "after release");
}

#[test]
fn kernel_outbound_is_refused_when_the_agent_is_dead() {
    if !possible() {
        return;
    }
    let mut lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.host.serve("[::]:9000", "host");
    lab.enroll(&agent);
    agent.die();
    drop(lab.take_capture());
    for address in [
        "10.77.0.1:9000",
        "[fd77::1]:9000",
        "[::ffff:10.77.0.1]:9000",
    ] {
        let error = lab.pod.ask(address).unwrap_err();
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{address}"
        );
    }
}

#[test]
fn kernel_a_family_without_address_is_captured_on_loopback() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    let mut pod = lab.describe(agent.listeners());
    pod.addresses.retain(std::net::IpAddr::is_ipv4);
    lab.capture().enroll(&pod).unwrap();
    check_captured(&lab, &agent, "[fd77::1]:9000", "::1");
    check_captured(&lab, &agent, "10.77.0.1:9000", POD4);
}

#[test]
fn kernel_many_connections_at_once_keep_their_destinations_apart() {
    if !possible() {
        return;
    }
    const CONNECTIONS: u16 = 400;
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let ports = 10_000..10_000 + CONNECTIONS;
    let clients = lab.pod.run(|| {
        let open = |port: u16| {
            let asked = SocketAddr::from(([192, 0, 2, 1], port));
            let stream = socket(asked, 0);
            stream.set_nonblocking(true).unwrap();
            drop(stream.connect(&asked.into()));
            stream
        };
        ports.clone().map(open).collect::<Vec<_>>()
    });
    let mut wanted: Vec<u16> = Vec::new();
    while wanted.len() < clients.len() {
        wanted.push(lab.accept(&agent.outbound).1.unwrap().port());
    }
    wanted.sort_unstable();
    assert_eq!(wanted, ports.collect::<Vec<_>>());
}

#[test]
fn kernel_multipath_sockets_from_before_enrolment_do_not_leak() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let multipath = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(262)));
    let Ok(stream) = lab.pod.run(multipath) else {
        eprintln!("skipped: this kernel has no multipath TCP");
        return;
    };
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let asked: SocketAddr = "10.77.0.1:9000".parse().unwrap();
    let _listener = lab.host.listen("10.77.0.1:9000", 0);
    let _stream = connect(&stream, asked).unwrap();
    assert_eq!(lab.accept(&agent.outbound).1, Some(asked));
}
