//! Connections to the pod: the lookup program, probes, and the agent's way to the application.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

use ambit_ebpf::{Error, MARK, ORIGINAL_SOURCE_MARK};

use crate::lab::{
    Agent, HOST4, HOST6, HostProcess, Lab, POD4, POD4_SECOND, POD6, both, connect, eventually,
    possible, socket,
};

#[test]
fn kernel_inbound_is_handed_to_the_agent_with_its_destination() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.pod.serve("[::]:8080", "application");
    lab.enroll(&agent);
    for (asked, client) in [
        ("10.77.0.2:8080", HOST4),
        ("10.77.0.3:8080", HOST4),
        ("10.77.0.2:15001", HOST4),
        ("10.77.0.2:9", HOST4),
        ("[fd77::2]:8080", HOST6),
    ] {
        let _client = lab.host.connect(asked).unwrap();
        let (accepted, _) = lab.accept(&agent.inbound);
        let local = accepted.local_addr().unwrap();
        assert_eq!(
            SocketAddr::new(local.ip().to_canonical(), local.port()).to_string(),
            asked
        );
        assert_eq!(
            accepted
                .peer_addr()
                .unwrap()
                .ip()
                .to_canonical()
                .to_string(),
            client
        );
    }
}

#[test]
fn kernel_inbound_tunnels_and_other_protocols_pass() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.pod.serve("[::]:15008", "tunnel");
    lab.enroll(&agent);
    assert_eq!(lab.host.ask("10.77.0.2:15008").unwrap(), "tunnel");
    assert_eq!(lab.host.ask("[fd77::2]:15008").unwrap(), "tunnel");
    let receiver = lab
        .pod
        .run(|| std::net::UdpSocket::bind("10.77.0.2:7000").unwrap());
    receiver
        .set_read_timeout(Some(crate::lab::PATIENCE))
        .unwrap();
    let sender = lab
        .host
        .run(|| std::net::UdpSocket::bind("10.77.0.1:0").unwrap());
    sender.send_to(b"datagram", "10.77.0.2:7000").unwrap();
    let mut bytes = [0; 8];
    let (_, from) = receiver.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes, from), (b"datagram", sender.local_addr().unwrap()));
}

#[test]
fn kernel_inbound_is_left_alone_when_not_wanted() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.pod.serve("[::]:8080", "application");
    lab.enroll(&agent);
    let mut pod = lab.describe(agent.listeners());
    pod.capture_inbound = false;
    lab.capture().enroll(&pod).unwrap();
    assert_eq!(lab.host.ask("10.77.0.2:8080").unwrap(), "application");
    assert!(!lab.capture().dump().unwrap().pods[0].inbound);
    let _application = lab.pod.connect("10.77.0.1:9000").unwrap();
    assert!(
        lab.accept(&agent.outbound).1.is_some(),
        "outbound is captured all the same"
    );
}

#[test]
fn kernel_inbound_is_refused_when_the_agent_is_dead() {
    if !possible() {
        return;
    }
    let mut lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.pod.serve("[::]:8080", "application");
    lab.enroll(&agent);
    agent.die();
    drop(lab.take_capture());
    for address in ["10.77.0.2:8080", "[fd77::2]:8080"] {
        let error = lab.host.ask(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{address}");
    }
    assert_eq!(
        lab.pod.ask("10.77.0.2:8080").unwrap(),
        "application",
        "the pod itself is unharmed"
    );
}

#[test]
fn kernel_inbound_spreads_over_a_reuseport_group() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    let second = lab.pod.listen("[::]:15006", MARK);
    lab.enroll(&agent);
    let listeners = [&agent.inbound, &second];
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
    }
    let mut counts = [0; 2];
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(lab.host.connect("10.77.0.2:8080").unwrap());
    }
    eventually("all connections are accepted", || {
        for (listener, count) in listeners.iter().zip(&mut counts) {
            while listener.accept().is_ok() {
                *count += 1;
            }
        }
        counts.iter().sum::<usize>() == clients.len()
    });
    assert!(
        counts.iter().all(|count| *count > 8),
        "connections per listener: {counts:?}"
    );
}

#[test]
fn kernel_probes_reach_the_application_and_other_processes_do_not() {
    if !possible() {
        return;
    }
    let mut lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.pod.serve("[::]:8080", "application");
    lab.enroll(&agent);
    let mut kubelet = HostProcess::start(&lab.host);
    lab.capture().note_kubelet(kubelet.tgid()).unwrap();
    for address in [POD4, POD4_SECOND, POD6] {
        for _ in 0..3 {
            assert_eq!(kubelet.ask(address, 8080), "application", "{address}");
        }
    }
    assert_eq!(
        kubelet.ask(POD4, 8088),
        "refused",
        "nobody listens there, and the agent is not asked"
    );

    let impostor = HostProcess::start(&lab.pod);
    let error = lab.capture().note_kubelet(impostor.tgid()).unwrap_err();
    assert!(matches!(error, Error::KubeletInPod { .. }), "{error}");

    let mut stranger = HostProcess::start(&lab.host);
    let answering = std::thread::spawn({
        let inbound = agent.inbound.try_clone().unwrap();
        move || {
            crate::lab::accept(&inbound)
                .unwrap()
                .0
                .write_all(b"agent")
                .unwrap()
        }
    });
    assert_eq!(
        stranger.ask(POD4, 8080),
        "agent",
        "same namespace, another process"
    );
    answering.join().unwrap();

    // Probes do not need the agent.
    agent.die();
    drop(lab.take_capture());
    assert_eq!(kubelet.ask(POD4, 8080), "application");
    assert_eq!(kubelet.ask(POD6, 8080), "application");
    assert_eq!(stranger.ask(POD4, 8080), "refused");

    lab.reopen();
    lab.capture().forget_kubelet(kubelet.tgid()).unwrap();
    assert_eq!(kubelet.ask(POD4, 8080), "refused", "no longer the kubelet");
    assert!(lab.capture().dump().unwrap().kubelets.is_empty());
}

#[test]
fn kernel_a_probes_port_cannot_be_used_again_by_others() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.pod.serve("[::]:8080", "application");
    lab.enroll(&agent);
    // One port for everybody in the host's namespace.
    lab.host.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
    });
    let mut kubelet = HostProcess::start(&lab.host);
    lab.capture().note_kubelet(kubelet.tgid()).unwrap();
    assert_eq!(kubelet.ask(POD4, 8080), "application");
    assert_eq!(kubelet.ask(POD4, 8081), "refused");
    // The same ports, now by somebody else, for the ports that were just probed.
    for port in [8080, 8081] {
        for source in [40000, 40001] {
            let asked: SocketAddr = format!("{POD4}:{port}").parse().unwrap();
            let client = lab.host.run(|| {
                let socket = socket(asked, 0);
                socket.set_reuse_address(true).unwrap();
                let own: SocketAddr = format!("{HOST4}:{source}").parse().unwrap();
                socket
                    .bind(&own.into())
                    .and_then(|()| connect(&socket, asked))
            });
            if client.is_ok() {
                let (accepted, _) = lab.accept(&agent.inbound);
                assert_eq!(accepted.local_addr().unwrap().port(), port);
            }
        }
    }
}

#[test]
fn kernel_the_agent_reaches_the_application_from_the_clients_address() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    for (client, application) in [
        ("10.77.0.1:0", "10.77.0.2:8080"),
        ("192.0.2.77:0", "10.77.0.3:8080"),
        ("[fd77::1]:0", "[fd77::2]:8080"),
        ("[2001:db8::77]:0", "[fd77::2]:8080"),
    ] {
        let listener = lab.pod.listen(application, 0);
        let mut upstream = from_client(&lab, client, application).unwrap();
        let (mut served, peer) = crate::lab::accept(&listener).unwrap();
        let client: SocketAddr = client.parse().unwrap();
        assert_eq!(peer.ip(), client.ip(), "what the application sees");
        served.write_all(b"reply").unwrap();
        let mut bytes = [0; 5];
        upstream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"reply");
    }
    // The same mark rule must not swallow what the agent sends to the network.
    lab.host.serve("[::]:9000", "host");
    let asked: SocketAddr = "10.77.0.1:9000".parse().unwrap();
    let mut answer = String::new();
    let stream = lab.pod.run(|| connect(&socket(asked, MARK), asked));
    stream.unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "host");
}

fn from_client(lab: &Lab, client: &str, application: &str) -> io::Result<std::net::TcpStream> {
    let (client, application): (SocketAddr, SocketAddr) =
        (client.parse().unwrap(), application.parse().unwrap());
    lab.pod.run(|| {
        let socket = socket(application, ORIGINAL_SOURCE_MARK);
        if client.is_ipv4() {
            socket.set_ip_transparent_v4(true)?;
        } else {
            transparent_v6(&socket)?;
        }
        socket.bind_device(Some(b"lo"))?;
        socket.bind(&client.into())?;
        connect(&socket, application)
    })
}

/// Socket options of IPv6 transparency are not in the socket crates.
fn transparent_v6(socket: &socket2::Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: pointer and length are those of `on`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IPV6,
            libc::IPV6_TRANSPARENT,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[test]
fn kernel_listeners_are_swapped_without_a_gap() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let cookie = lab.pod.cookie();
    let accept_all = |listener: &TcpListener| {
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    };
    let mut clients = 0;
    let mut served = 0;
    // Each on a port of its own, so that the old and the new one are no reuseport group.
    let mut current = agent.inbound.try_clone().unwrap();
    for port in 16_000..16_016 {
        let next = lab.pod.listen(&format!("[::]:{port}"), MARK);
        for _ in 0..4 {
            lab.host.connect("10.77.0.2:8080").unwrap();
            lab.host.connect("[fd77::2]:8080").unwrap();
            clients += 2;
        }
        lab.capture().set_listeners(cookie, both(&next)).unwrap();
        lab.host.connect("10.77.0.2:8080").unwrap();
        clients += 1;
        served += accept_all(&current);
        current = next;
    }
    served += accept_all(&current);
    assert_eq!(served, clients, "every connection was accepted by somebody");
    assert!(
        lab.capture()
            .set_listeners(cookie + 1_000_000, both(&current))
            .is_err()
    );
}
