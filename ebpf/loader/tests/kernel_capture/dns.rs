//! DNS is steered to the agent's resolver, and the application sees the server that it asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};

use ambit_ebpf::MARK;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Agent, Lab, Netns, PATIENCE, POD4, POD6, connect, possible, socket};

fn datagram(netns: &Netns, bind: &str, mark: u32) -> UdpSocket {
    let address: SocketAddr = bind.parse().unwrap();
    netns.run(|| {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )
        .unwrap();
        if mark != 0 {
            socket.set_mark(mark).unwrap();
        }
        if address.is_ipv6() {
            socket.set_only_v6(false).unwrap();
        }
        socket.bind(&address.into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.into()
    })
}

/// Answers every query with itself and a mark of who answered.
fn resolver(netns: &Netns, bind: &str, name: &'static str) {
    let socket = datagram(netns, bind, MARK);
    socket.set_read_timeout(None).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let answer = [name.as_bytes(), b":", &query[..length]].concat();
            if socket.send_to(&answer, from).is_err() {
                return;
            }
        }
    });
}

fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut bytes = [0; 64];
    let (length, from) = socket.recv_from(&mut bytes).unwrap();
    (String::from_utf8_lossy(&bytes[..length]).into_owned(), from)
}

#[test]
fn kernel_dns_over_udp_is_steered_and_shows_the_server_asked() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    resolver(&lab.pod, "[::]:15053", "agent");
    for (bind, server, own) in [
        ("0.0.0.0:0", "10.96.0.10:53", POD4),
        ("[::]:0", "[fd00:96::10]:53", POD6),
        ("[::]:0", "[::ffff:10.96.0.10]:53", POD4),
    ] {
        let server: SocketAddr = server.parse().unwrap();
        let unconnected = datagram(&lab.pod, bind, 0);
        unconnected.send_to(b"one", server).unwrap();
        assert_eq!(
            receive(&unconnected),
            ("agent:one".to_owned(), server),
            "unconnected"
        );

        let connected = datagram(&lab.pod, bind, 0);
        connected.connect(server).unwrap();
        assert_eq!(connected.peer_addr().unwrap(), server, "getpeername");
        let local = connected
            .local_addr()
            .unwrap()
            .ip()
            .to_canonical()
            .to_string();
        assert_eq!(local, own, "getsockname shows the pod's address");
        connected.send(b"two").unwrap();
        assert_eq!(
            receive(&connected),
            ("agent:two".to_owned(), server),
            "connected"
        );
    }
}

#[test]
fn kernel_dns_over_tcp_is_steered() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    for server in ["10.96.0.10:53", "[fd00:96::10]:53"] {
        let mut application = lab.pod.connect(server).unwrap();
        let (mut accepted, wanted) = lab.accept(&agent.dns);
        assert_eq!(wanted, Some(server.parse().unwrap()));
        assert_eq!(application.peer_addr().unwrap().to_string(), server);
        accepted.write_all(b"x").unwrap();
        application.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn kernel_dns_of_the_agent_and_of_local_servers_is_left_alone() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    resolver(&lab.pod, "[::]:15053", "agent");
    resolver(&lab.pod, "127.0.0.1:53", "local");
    resolver(&lab.pod, "10.77.0.3:53", "own");
    resolver(&lab.host, "10.77.0.1:53", "upstream");
    for (mark, server, answer) in [
        (0, "127.0.0.1:53", "local:q"),
        (0, "10.77.0.3:53", "own:q"),
        (0, "10.77.0.1:53", "agent:q"),
        (MARK, "10.77.0.1:53", "upstream:q"),
    ] {
        let server: SocketAddr = server.parse().unwrap();
        let client = datagram(&lab.pod, "0.0.0.0:0", mark);
        client.send_to(b"q", server).unwrap();
        assert_eq!(
            receive(&client),
            (answer.to_owned(), server),
            "mark {mark:#x}"
        );
    }
}

#[test]
fn kernel_dns_is_left_alone_when_not_wanted() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    let mut pod = lab.describe(agent.listeners());
    pod.dns = false;
    lab.capture().enroll(&pod).unwrap();
    resolver(&lab.pod, "[::]:15053", "agent");
    resolver(&lab.host, "10.77.0.1:53", "upstream");
    let client = datagram(&lab.pod, "0.0.0.0:0", 0);
    client.send_to(b"q", "10.77.0.1:53").unwrap();
    assert_eq!(receive(&client).0, "upstream:q");
    // TCP is captured like any other port.
    let _application = lab.pod.connect("10.77.0.1:53").unwrap();
    assert_eq!(
        lab.accept(&agent.outbound).1,
        Some("10.77.0.1:53".parse().unwrap())
    );
}

#[test]
fn kernel_other_datagrams_are_untouched() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    resolver(&lab.host, "[::]:7000", "host");
    for (bind, server) in [
        ("0.0.0.0:0", "10.77.0.1:7000"),
        ("[::]:0", "[fd77::1]:7000"),
        ("[::]:0", "[::ffff:10.77.0.1]:7000"),
    ] {
        let server: SocketAddr = server.parse().unwrap();
        let client = datagram(&lab.pod, bind, 0);
        client.send_to(b"q", server).unwrap();
        assert_eq!(receive(&client), ("host:q".to_owned(), server));
        client.connect(server).unwrap();
        assert_eq!(client.peer_addr().unwrap(), server);
    }
}

#[test]
fn kernel_nobody_else_can_use_or_impersonate_the_resolver() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    // From the network the resolver is not reachable ...
    let outsider = datagram(&lab.host, "10.77.0.1:0", 0);
    outsider.connect("10.77.0.2:15053").unwrap();
    let resolver = datagram(&lab.pod, "[::]:15053", MARK);
    outsider.send(b"q").unwrap();
    let own = datagram(&lab.pod, "0.0.0.0:0", 0);
    own.send_to(b"mine", "10.96.0.10:53").unwrap();
    assert_eq!(
        receive(&resolver).0,
        "mine",
        "the outsider's query came first and was dropped"
    );
    // ... and an answer from the same port of another machine does not pass for the server's.
    let stranger = datagram(&lab.host, "10.77.0.1:15053", 0);
    let target = SocketAddr::new(POD4.parse().unwrap(), own.local_addr().unwrap().port());
    stranger.send_to(b"lie", target).unwrap();
    assert_eq!(
        receive(&own),
        ("lie".to_owned(), "10.77.0.1:15053".parse().unwrap())
    );
}

#[test]
fn kernel_dns_is_refused_when_the_agent_is_dead() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    agent.die();
    resolver(&lab.host, "10.77.0.1:53", "upstream");
    let client = datagram(&lab.pod, "0.0.0.0:0", 0);
    client.connect("10.77.0.1:53").unwrap();
    client.send(b"q").unwrap();
    let error = client.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let address: SocketAddr = "10.77.0.1:53".parse().unwrap();
    let error = lab
        .pod
        .run(|| connect(&socket(address, 0), address))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
