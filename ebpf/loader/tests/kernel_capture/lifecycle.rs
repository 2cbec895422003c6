//! Restart, takeover, several agents, release and removal.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use ambit_ebpf::{Capture, Error, Listeners, Pod, netns_cookie};

use crate::lab::{Agent, HostProcess, Lab, POD4, possible, unique_options};

#[test]
fn kernel_a_restarted_agent_adopts_and_serves_without_reenrolment() {
    if !possible() {
        return;
    }
    let mut lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let before = links(&lab);
    lab.reopen();
    assert_eq!(links(&lab), before, "the same programs are still attached");
    assert_eq!(lab.capture().enrolled().unwrap(), [lab.pod.cookie()]);
    assert_eq!(lab.capture().dump().unwrap().generation, 2);
    lab.capture()
        .set_listeners(lab.pod.cookie(), agent.listeners())
        .unwrap();
    let _client = lab.host.connect("10.77.0.2:8080").unwrap();
    assert!(lab.accept(&agent.inbound).1.is_none());
    let _application = lab.pod.connect("10.77.0.1:9000").unwrap();
    assert_eq!(
        lab.accept(&agent.outbound).1,
        Some("10.77.0.1:9000".parse().unwrap())
    );
}

#[test]
fn kernel_an_opened_connection_keeps_its_peer_name_over_a_restart() {
    if !possible() {
        return;
    }
    let mut lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let application = lab.pod.connect("10.77.0.1:9000").unwrap();
    lab.reopen();
    assert_eq!(
        application.peer_addr().unwrap().to_string(),
        "10.77.0.1:9000"
    );
    assert_eq!(
        lab.accept(&agent.outbound).1,
        Some("10.77.0.1:9000".parse().unwrap())
    );
}

#[test]
fn kernel_programs_of_another_version_are_replaced_in_place() {
    if !possible() {
        return;
    }
    let mut lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let before = links(&lab);
    drop(lab.take_capture());
    // What an agent with other programs leaves behind: the same layout, other fingerprints.
    let agent_map = aya::maps::MapData::from_pin(lab.options.directory.join("maps/AGENT")).unwrap();
    let map = aya::maps::Map::from_map_data(agent_map).unwrap();
    let mut map: aya::maps::Array<_, [u64; 4]> = map.try_into().unwrap();
    let [layout, generation, ..] = map.get(&0, 0).unwrap();
    map.set(0, [layout, generation, 1, 1], 0).unwrap();
    lab.reopen();
    let after = links(&lab);
    assert_eq!(before.len(), after.len());
    for ((name, link, program), (_, same_link, other_program)) in before.iter().zip(&after) {
        assert_eq!(link, same_link, "the link of {name} was never taken off");
        assert_ne!(program, other_program, "the program of {name}");
    }
    let _client = lab.host.connect("10.77.0.2:8080").unwrap();
    lab.accept(&agent.inbound);
    let _application = lab.pod.connect("10.77.0.1:9000").unwrap();
    assert_eq!(
        lab.accept(&agent.outbound).1,
        Some("10.77.0.1:9000".parse().unwrap())
    );

    // Maps that this version would misread are left alone, and capture stays in force.
    drop(lab.take_capture());
    let [_, generation, node, pod] = map.get(&0, 0).unwrap();
    map.set(0, [99, generation, node, pod], 0).unwrap();
    let error = Capture::open(lab.options.clone()).unwrap_err();
    assert!(
        error.to_string().contains("layout is version 99"),
        "{error}"
    );
    map.set(0, [layout, generation, node, pod], 0).unwrap();
}

#[test]
fn kernel_the_previous_agent_can_change_nothing_any_more() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let agent = Agent::new(&lab.pod);
    lab.enroll(&agent);
    let next = Capture::open(lab.options.clone()).unwrap();
    let cookie = lab.pod.cookie();
    for result in [
        lab.capture().release(cookie),
        lab.capture().set_listeners(cookie, agent.listeners()),
        lab.capture().enroll(&lab.describe(agent.listeners())),
        lab.capture().release_stale(&[]).map(drop),
    ] {
        assert!(
            matches!(result, Err(Error::Superseded { .. })),
            "{result:?}"
        );
    }
    assert_eq!(next.enrolled().unwrap(), [cookie]);
    // It may still finish what it accepted.
    let _application = lab.pod.connect("10.77.0.1:9000").unwrap();
    assert_eq!(
        lab.accept(&agent.outbound).1,
        Some("10.77.0.1:9000".parse().unwrap())
    );
}

#[test]
fn kernel_two_agents_on_one_kernel_do_not_meddle() {
    if !possible() {
        return;
    }
    // Both pods have the same addresses, as behind two nodes on one kernel.
    let (one, two) = (Lab::new(), Lab::new());
    let (first, second) = (Agent::new(&one.pod), Agent::new(&two.pod));
    one.enroll(&first);
    two.host.serve("[::]:9000", "host of two");
    assert_eq!(
        two.pod.ask("10.77.0.1:9000").unwrap(),
        "host of two",
        "not enrolled by anybody"
    );
    two.enroll(&second);
    let wanted: SocketAddr = "10.77.0.1:9000".parse().unwrap();
    for (lab, agent) in [(&one, &first), (&two, &second)] {
        let application = lab.pod.connect("10.77.0.1:9000").unwrap();
        assert_eq!(lab.accept(&agent.outbound).1, Some(wanted));
        assert_eq!(application.peer_addr().unwrap(), wanted);
        let _client = lab.host.connect("10.77.0.2:8080").unwrap();
        lab.accept(&agent.inbound);
    }
    // A kubelet of one is a stranger to the other.
    two.pod.serve("[::]:8080", "application");
    let mut kubelet = HostProcess::start(&two.host);
    one.capture().note_kubelet(kubelet.tgid()).unwrap();
    second.die();
    assert_eq!(kubelet.ask(POD4, 8080), "refused");
    two.capture().note_kubelet(kubelet.tgid()).unwrap();
    assert_eq!(kubelet.ask(POD4, 8080), "application");
}

#[test]
fn kernel_release_restores_the_pod() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let pristine = surroundings(&lab);
    let agent = Agent::new(&lab.pod);
    lab.host.serve("[::]:9000", "host");
    lab.pod.serve("[::]:8080", "application");
    lab.enroll(&agent);
    assert_ne!(
        surroundings(&lab),
        pristine,
        "enrolment does change something"
    );
    let open = lab.pod.connect("10.77.0.1:9000").unwrap();
    lab.enroll(&agent);
    lab.capture().release(lab.pod.cookie()).unwrap();
    assert_eq!(surroundings(&lab), pristine);
    assert_eq!(lab.pod.ask("10.77.0.1:9000").unwrap(), "host");
    assert_eq!(lab.host.ask("10.77.0.2:8080").unwrap(), "application");
    assert_eq!(
        open.peer_addr().unwrap().to_string(),
        "10.77.0.1:9000",
        "open ones are left alone"
    );
    assert!(lab.capture().enrolled().unwrap().is_empty());
    lab.capture().release(lab.pod.cookie()).unwrap();
}

#[test]
fn kernel_stale_pods_are_released_by_the_next_agent() {
    if !possible() {
        return;
    }
    let mut lab = Lab::new();
    let pristine = surroundings(&lab);
    let cookie = lab.pod.cookie();
    lab.enroll(&Agent::new(&lab.pod));
    lab.reopen();
    assert!(lab.capture().release_stale(&[cookie]).unwrap().is_empty());
    assert_eq!(
        lab.capture().release_stale(&[cookie + 1]).unwrap(),
        [cookie]
    );
    assert_eq!(surroundings(&lab), pristine);
}

#[test]
fn kernel_a_pod_that_is_gone_can_be_released() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let cookie = {
        let pod = crate::lab::Netns::new();
        let agent = Agent::new(&pod);
        let described = Pod {
            cookie: pod.cookie(),
            netns: pod.fd(),
            ..lab.describe(agent.listeners())
        };
        lab.capture().enroll(&described).unwrap();
        pod.cookie()
    };
    assert_eq!(lab.capture().enrolled().unwrap(), [cookie]);
    lab.capture().release(cookie).unwrap();
    assert!(lab.capture().enrolled().unwrap().is_empty());
}

#[test]
fn kernel_uninstall_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    let mut lab = Lab::new();
    let pristine = surroundings(&lab);
    lab.enroll(&Agent::new(&lab.pod));
    let mut programs: Vec<u32> = links(&lab)
        .into_iter()
        .map(|(.., program)| program)
        .collect();
    assert_eq!(programs.len(), 11, "ten of the node and one of the pod");
    let maps = maps(&lab.options.directory);
    assert_eq!(maps.len(), 9, "{maps:?}");
    lab.take_capture().uninstall().unwrap();
    assert!(!lab.options.directory.exists());
    assert_eq!(surroundings(&lab), pristine);
    // The kernel frees programs and maps a little later.
    crate::lab::eventually("programs are gone", || {
        let loaded = aya::programs::loaded_programs()
            .flatten()
            .map(|program| program.id());
        let loaded: Vec<u32> = loaded.collect();
        programs.retain(|program| loaded.contains(program));
        programs.is_empty()
    });
    crate::lab::eventually("maps are gone", || {
        let loaded: Vec<u32> = aya::maps::loaded_maps()
            .flatten()
            .map(|map| map.id())
            .collect();
        !maps.iter().any(|map| loaded.contains(map))
    });
}

#[test]
fn kernel_a_failed_enrolment_leaves_nothing_captured() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let pristine = surroundings(&lab);
    let agent = Agent::new(&lab.pod);
    // A datagram socket cannot be a listener.
    let wrong = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listeners = Listeners {
        v4: Some(agent.inbound.as_fd()),
        v6: Some(wrong.as_fd()),
    };
    lab.capture()
        .enroll(&lab.describe(Listeners {
            v6: None,
            ..listeners
        }))
        .unwrap_err();
    let other = Pod {
        netns: lab.host.fd(),
        ..lab.describe(agent.listeners())
    };
    let error = lab.capture().enroll(&other).unwrap_err();
    assert!(matches!(error, Error::PodOtherNamespace { .. }), "{error}");
    let host = std::fs::File::open("/proc/self/ns/net").unwrap();
    let cookie = netns_cookie(host.as_fd()).unwrap();
    let described = Pod {
        cookie,
        netns: host.as_fd(),
        ..lab.describe(agent.listeners())
    };
    let error = lab.capture().enroll(&described).unwrap_err();
    assert!(matches!(error, Error::PodHostNetwork { .. }), "{error}");
    assert_eq!(surroundings(&lab), pristine);
    assert!(lab.capture().enrolled().unwrap().is_empty());
    assert_eq!(netns_cookie(lab.pod.fd()).unwrap(), lab.pod.cookie());
}

#[test]
fn kernel_what_is_missing_is_said() {
    if !possible() {
        return;
    }
    let mut options = unique_options();
    options.cgroup = Some("/nonexistent".into());
    let error = Capture::open(options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a cgroup v2 tree at /nonexistent"),
        "{error}"
    );
    let mut options = unique_options();
    options.directory = "/tmp/not-bpffs".into();
    let error = Capture::open(options).unwrap_err();
    assert!(
        error.to_string().contains("bpffs below /tmp/not-bpffs"),
        "{error}"
    );
}

/// Name, link id and program id of everything that is attached.
fn links(lab: &Lab) -> Vec<(String, u32, u32)> {
    let mut found = Vec::new();
    for directory in ["links", "pods"] {
        for path in entries(&lab.options.directory.join(directory)) {
            let link = aya::programs::links::PinnedLink::from_pin(&path).unwrap();
            let info = aya::programs::links::FdLink::from(link).info().unwrap();
            found.push((path.display().to_string(), info.id(), info.program_id()));
        }
    }
    found.sort();
    found
}

/// Ids of the pinned maps.
fn maps(directory: &Path) -> Vec<u32> {
    let paths = entries(&directory.join("maps"));
    paths
        .iter()
        .map(|path| aya::maps::MapInfo::from_pin(path).unwrap().id())
        .collect()
}

fn entries(directory: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// Everything of the pod's namespace that enrolment may touch.
fn surroundings(lab: &Lab) -> Vec<String> {
    let settings = [
        "ipv4/tcp_fwmark_accept",
        "ipv4/fwmark_reflect",
        "ipv6/fwmark_reflect",
    ];
    let setting = |name| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
    vec![
        lab.pod.ip("rule"),
        lab.pod.ip("-6 rule"),
        settled(&lab.pod.ip("route show table all")),
        settled(&lab.pod.ip("-6 route show table all")),
        lab.pod.run(|| settings.map(setting).concat()),
        entries(lab.options.directory.parent().unwrap())
            .iter()
            .filter(|path| **path == lab.options.directory)
            .flat_map(|path| entries(&path.join("pods")))
            .map(|path| path.display().to_string())
            .collect(),
    ]
}

/// Routes without those that appear some time after a link is up.
fn settled(routes: &str) -> String {
    routes
        .lines()
        .filter(|route| !route.starts_with("multicast"))
        .collect()
}
