//! Endpoints that keep refusing are left out for a while, and never all of them.

use std::time::Duration;

use super::*;
use crate::limits::{
    OUTLIER_BASE, OUTLIER_ENTRIES, OUTLIER_MAX, OUTLIER_MEMORY, OUTLIER_THRESHOLD,
};
use crate::{Endpoint, Outliers};

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        workload: uid("shop", name),
        port: 8080,
    }
}

fn refuse(outliers: &Outliers, name: &str, times: u32, now: Instant) {
    for _ in 0..times {
        outliers.refused(&endpoint(name), now);
    }
}

#[test]
fn it_takes_several_refusals_in_a_row() {
    let (outliers, now) = (Outliers::default(), Instant::now());
    refuse(&outliers, "a", OUTLIER_THRESHOLD - 1, now);
    assert!(!outliers.is_out(&endpoint("a"), now));
    outliers.succeeded(&endpoint("a"));
    refuse(&outliers, "a", OUTLIER_THRESHOLD - 1, now);
    assert!(
        !outliers.is_out(&endpoint("a"), now),
        "a success starts anew"
    );
    refuse(&outliers, "a", 1, now);
    assert!(outliers.is_out(&endpoint("a"), now));
    let other_port = Endpoint {
        port: 8081,
        ..endpoint("a")
    };
    assert!(!outliers.is_out(&other_port, now), "only this port");
    assert_eq!(outliers.list(now), [(endpoint("a"), OUTLIER_BASE)]);
}

#[test]
fn the_time_out_ends_and_doubles_with_each_further_refusal() {
    let (outliers, mut now) = (Outliers::default(), Instant::now());
    refuse(&outliers, "a", OUTLIER_THRESHOLD, now);
    let mut time = OUTLIER_BASE;
    for _ in 0..12 {
        assert!(outliers.is_out(&endpoint("a"), now + time - Duration::from_millis(1)));
        now += time;
        assert!(!outliers.is_out(&endpoint("a"), now), "it gets a chance");
        refuse(&outliers, "a", 1, now);
        time = (time * 2).min(OUTLIER_MAX);
        assert_eq!(outliers.list(now), [(endpoint("a"), time)]);
    }
    outliers.succeeded(&endpoint("a"));
    assert_eq!(outliers.list(now), []);
}

#[test]
fn refusals_of_connections_under_way_do_not_lengthen_it() {
    let (outliers, now) = (Outliers::default(), Instant::now());
    refuse(&outliers, "a", OUTLIER_THRESHOLD + 20, now);
    assert_eq!(outliers.list(now), [(endpoint("a"), OUTLIER_BASE)]);
}

#[test]
fn what_is_long_ago_is_forgotten() {
    let (outliers, now) = (Outliers::default(), Instant::now());
    refuse(&outliers, "a", OUTLIER_THRESHOLD - 1, now);
    let later = now + OUTLIER_MEMORY + Duration::from_secs(1);
    refuse(&outliers, "a", 1, later);
    assert!(!outliers.is_out(&endpoint("a"), later));
}

#[test]
fn the_table_is_bounded_and_forgets_the_quietest() {
    let (outliers, now) = (Outliers::default(), Instant::now());
    refuse(&outliers, "first", OUTLIER_THRESHOLD, now);
    for i in 0..OUTLIER_ENTRIES * 2 {
        let then = now + Duration::from_millis(1 + i as u64 / 10);
        outliers.refused(&endpoint(&format!("x{i}")), then);
    }
    assert_eq!(outliers.len(), OUTLIER_ENTRIES);
    assert!(!outliers.is_out(&endpoint("first"), now));
}

/// `shop/web` with endpoints `a` and `b`.
fn two() -> Mesh {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(member(pod("shop", "a", "10.0.0.2"), &web));
    mesh.add(member(pod("shop", "b", "10.0.0.3"), &web));
    mesh.add(web);
    mesh
}

#[test]
fn an_endpoint_that_keeps_refusing_is_not_chosen_until_its_time_is_over() {
    let mut mesh = two();
    let now = mesh.now;
    refuse(mesh.reader.outliers(), "a", OUTLIER_THRESHOLD, now);
    assert_eq!(mesh.names("10.9.0.1:80"), ["b"]);
    mesh.now += OUTLIER_BASE;
    assert_eq!(mesh.names("10.9.0.1:80"), ["a", "b"]);
}

#[test]
fn when_all_refuse_all_are_tried() {
    let mut mesh = two();
    let now = mesh.now;
    refuse(mesh.reader.outliers(), "a", OUTLIER_THRESHOLD, now);
    refuse(mesh.reader.outliers(), "b", OUTLIER_THRESHOLD, now);
    assert_eq!(mesh.names("10.9.0.1:80"), ["a", "b"]);
    mesh.remove(uid("shop", "b"));
    assert_eq!(mesh.names("10.9.0.1:80"), ["a"]);
}

/// One that was tried for this connection stays excluded even when the others are left out.
#[test]
fn an_endpoint_left_out_is_better_than_one_tried_already() {
    let mut mesh = two();
    let now = mesh.now;
    refuse(mesh.reader.outliers(), "a", OUTLIER_THRESHOLD, now);
    let tried = [uid("shop", "b")];
    let upstream = mesh
        .resolve_without(ip("10.0.0.1"), "10.9.0.1:80", &tried)
        .unwrap();
    assert_eq!(upstream.endpoint.unwrap().workload, uid("shop", "a"));
}

/// STRICT stays strict: rather a refusing endpoint than one it does not allow.
#[test]
fn leaving_out_does_not_loosen_strictness_but_fails_over() {
    use ambit_model::{LoadBalancing, LoadBalancingMode, LocalityScope};
    for (mode, expected) in [
        (LoadBalancingMode::Strict, "a"),
        (LoadBalancingMode::Failover, "b"),
    ] {
        let mut mesh = two();
        let client = mesh.client.clone();
        mesh.set_client(Workload {
            node: "n1".into(),
            ..client
        });
        let preference = vec![LocalityScope::Node];
        let lb = LoadBalancing {
            preference,
            mode,
            ..LoadBalancing::default()
        };
        let web = Service {
            load_balancing: lb,
            ..service("shop", "web", "10.9.0.1")
        };
        let near = member(pod("shop", "a", "10.0.0.2"), &web);
        mesh.add(Workload {
            node: "n1".into(),
            ..near
        });
        mesh.add(web);
        assert_eq!(mesh.names("10.9.0.1:80"), ["a"]);
        let now = mesh.now;
        refuse(mesh.reader.outliers(), "a", OUTLIER_THRESHOLD, now);
        assert_eq!(mesh.names("10.9.0.1:80"), [expected], "{mode:?}");
    }
}
