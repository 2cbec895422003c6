//! The order in which things become known is irrelevant, and nothing stays behind.

use ambit_model::{Action, AuthorizationPolicy, PolicyBody, PolicyKey, Scope};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::{Applied, Counts};

/// Regression: endpoints that arrive after, or before, their service of virtual ranges.
#[test]
fn endpoints_of_a_range_may_come_before_or_after() {
    for service_first in [true, false] {
        let mut mesh = Mesh::new();
        let range = range_service("shop", "range", "10.8.0.0/16");
        let endpoint = member(pod("shop", "web", "10.0.0.2"), &range);
        if service_first {
            mesh.add(range);
            assert!(mesh.resolve("10.8.0.1:80").is_err());
            mesh.add(endpoint);
        } else {
            mesh.add(endpoint);
            assert!(matches!(mesh.hop("10.8.0.1:80"), Hop::Passthrough { .. }));
            mesh.add(range);
        }
        assert_eq!(mesh.names("10.8.0.1:80"), ["web"]);
    }
}

/// Regression: a service that is removed and added again.
#[test]
fn a_service_that_comes_back_finds_its_endpoints() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(member(pod("shop", "web-1", "10.0.0.2"), &web));
    mesh.add(web.clone());
    mesh.remove(web.key());
    assert!(matches!(mesh.hop("10.9.0.1:80"), Hop::Passthrough { .. }));
    mesh.add(web.clone());
    assert_eq!(mesh.names("10.9.0.1:80"), ["web-1"]);
    // Also when the endpoint changed in between.
    mesh.remove(web.key());
    mesh.add(member(pod("shop", "web-2", "10.0.0.3"), &web));
    mesh.remove(uid("shop", "web-1"));
    mesh.add(web);
    assert_eq!(mesh.names("10.9.0.1:80"), ["web-2"]);
}

#[test]
fn a_change_takes_effect_everywhere() {
    let mut mesh = Mesh::new();
    let (old, new) = (
        service("shop", "old", "10.9.0.1"),
        service("shop", "new", "10.9.0.2"),
    );
    mesh.add(old.clone());
    mesh.add(new.clone());
    mesh.add(member(pod("shop", "web", "10.0.0.2"), &old));
    mesh.add(member(pod("shop", "web", "10.0.0.3"), &new));
    assert!(
        matches!(mesh.hop("10.0.0.2:80"), Hop::Passthrough { .. }),
        "the old address"
    );
    assert!(mesh.resolve("10.9.0.1:80").is_err(), "the old service");
    assert_eq!(mesh.names("10.9.0.2:80"), ["web"]);
    mesh.add(Service {
        addresses: vec![network_address("10.9.0.3")],
        ..new
    });
    assert!(
        matches!(mesh.hop("10.9.0.2:80"), Hop::Passthrough { .. }),
        "the old VIP"
    );
    assert_eq!(mesh.names("10.9.0.3:80"), ["web"]);
}

#[test]
fn the_version_grows_and_readers_see_a_batch_as_one() {
    let mut mesh = Mesh::new();
    let mut changes = mesh.reader.changes();
    let before = *changes.borrow_and_update();
    let web = service("shop", "web", "10.9.0.1");
    let batch = vec![
        Change::Service(web.clone()),
        Change::Workload(member(pod("shop", "web-1", "10.0.0.2"), &web)),
        Change::RemoveAddress("shop/never-there".into()),
    ];
    let applied = mesh.writer.apply(batch.clone());
    assert_eq!(
        applied,
        Applied {
            changed: 2,
            removed: 0,
            unchanged: 1
        }
    );
    assert!(changes.has_changed().unwrap());
    assert_eq!(*changes.borrow_and_update(), before + 1);
    let applied = mesh.writer.apply(batch);
    assert_eq!(
        applied,
        Applied {
            changed: 0,
            removed: 0,
            unchanged: 3
        },
        "the same again"
    );
    let names = [web.key().to_string(), uid("shop", "web-1").to_string()];
    let applied = mesh.writer.apply(names.map(Change::RemoveAddress).to_vec());
    assert_eq!(
        applied,
        Applied {
            changed: 0,
            removed: 2,
            unchanged: 0
        }
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_by_the_change() {
    let (mut writer, reader) = crate::new(Settings::default());
    let wanted = uid("shop", "web");
    let waiting = tokio::spawn({
        let (reader, wanted) = (reader.clone(), wanted.clone());
        async move {
            reader
                .wait_for(|reader| reader.find_workload_by_uid(&wanted))
                .await
        }
    });
    tokio::task::yield_now().await;
    writer.apply(vec![pod("shop", "other", "10.0.0.3").into()]);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "not what it waits for");
    writer.apply(vec![pod("shop", "web", "10.0.0.2").into()]);
    assert_eq!(waiting.await.unwrap().uid, wanted);
    let known = reader
        .wait_for(|reader| reader.find_workload_by_uid(&wanted))
        .await;
    assert_eq!(known.uid, wanted, "what is known needs no change");
}

/// A uid and a service key look alike; each is removed by its own name only.
#[test]
fn removal_is_by_exact_name() {
    let mut mesh = Mesh::new();
    let odd = Workload {
        uid: "shop/web".into(),
        ..pod("shop", "odd", "10.0.0.2")
    };
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(odd);
    mesh.add(web.clone());
    mesh.remove("shop/web");
    assert!(
        mesh.reader
            .find_workload(&network_address("10.0.0.2"))
            .is_none()
    );
    assert!(mesh.reader.find_service_by_key(&web.key()).is_some());
    mesh.remove("shop//web.shop.svc.cluster.local");
    assert!(mesh.reader.find_service_by_key(&web.key()).is_some());
    mesh.remove("shop/Web.shop.svc.cluster.local.");
    assert!(
        mesh.reader.find_service_by_key(&web.key()).is_none(),
        "spelled as published"
    );
}

fn policy(name: u8, scope: Scope) -> AuthorizationPolicy {
    AuthorizationPolicy {
        key: PolicyKey::new("ns0", &format!("p{name}")),
        scope,
        action: Action::Deny,
        dry_run: false,
        body: PolicyBody::Rules(vec![]),
    }
}

/// One of few objects in one of few versions, so that changes collide.
fn change() -> impl Strategy<Value = Change> {
    let namespace = || select(vec!["ns0", "ns1"]);
    let workload = (
        0u8..4,
        namespace(),
        0u8..3,
        vec((namespace(), 0u8..3), 0..3),
        any::<bool>(),
    )
        .prop_map(|(name, namespace, address, services, tunnelled)| {
            let mut workload = pod(namespace, &format!("w{name}"), &format!("10.0.0.{address}"));
            for (namespace, service_name) in services {
                let of = service(namespace, &format!("s{service_name}"), "10.9.0.1");
                workload = member(workload, &of);
            }
            workload.node = format!("n{address}").into();
            Change::from(if tunnelled { workload } else { plain(workload) })
        });
    let vips = (namespace(), 0u8..3, 0u8..3, any::<bool>()).prop_map(
        |(namespace, name, address, canonical)| {
            let vip = format!("10.9.0.{address}");
            let service = service(namespace, &format!("s{name}"), &vip);
            Change::from(Service {
                canonical,
                ..service
            })
        },
    );
    let ranges = (
        namespace(),
        0u8..3,
        select(vec!["10.8.0.0/16", "10.8.1.0/24", "10.0.0.0/8"]),
    )
        .prop_map(|(namespace, name, range)| {
            Change::from(range_service(namespace, &format!("s{name}"), range))
        });
    let scope = select(vec![
        Scope::Global,
        Scope::Namespace,
        Scope::WorkloadSelector,
    ]);
    let policies = (0u8..3, scope).prop_map(|(name, scope)| Change::from(policy(name, scope)));
    let gone = prop_oneof![
        (namespace(), 0u8..4).prop_map(|(ns, name)| uid(ns, &format!("w{name}")).to_string()),
        (namespace(), 0u8..3).prop_map(|(ns, name)| key(ns, &format!("s{name}")).to_string()),
    ]
    .prop_map(Change::RemoveAddress);
    let gone_policy =
        (0u8..3).prop_map(|name| Change::RemovePolicy(PolicyKey::new("ns0", &format!("p{name}"))));
    prop_oneof![4 => workload, 2 => vips, 1 => ranges, 1 => policies, 2 => gone, 1 => gone_policy]
}

fn name_of(change: &Change) -> String {
    match change {
        Change::Workload(workload) => workload.uid.to_string(),
        Change::Service(service) => service.key().to_string(),
        Change::Policy(policy) => format!("policy {}", policy.key),
        Change::RemoveAddress(name) => name.clone(),
        Change::RemovePolicy(key) => format!("policy {key}"),
    }
}

/// All that can be asked, asked.
fn answers(mesh: &mut Mesh) -> Vec<String> {
    let mut answers = vec![serde_json::to_string(&mesh.reader.dump()).unwrap()];
    for namespace in ["ns0", "ns1", "other"] {
        for address in [
            "10.0.0.0", "10.0.0.2", "10.9.0.0", "10.9.0.1", "10.8.0.1", "10.8.1.1",
        ] {
            mesh.client.namespace = namespace.into();
            mesh.random = SmallRng::seed_from_u64(3);
            for _ in 0..4 {
                answers.push(format!("{:?}", mesh.resolve(&format!("{address}:80"))));
            }
        }
        for node in ["n0", "n1"] {
            answers.push(format!("{:?}", mesh.reader.workloads_on_node(&node.into())));
        }
        let workload = pod(namespace, "x", "10.0.0.1");
        answers.push(format!("{:?}", mesh.reader.policies_for(&workload)));
    }
    answers
}

proptest! {
    /// Applying the last change of each object, in any order and in any batches, gives the same
    /// answers as the whole history.
    #[test]
    fn only_the_last_word_on_each_object_counts(
        history in vec(change(), 0..40),
        picks in vec(any::<Index>(), 40),
        cut in any::<Index>(),
    ) {
        let mut by_history = Mesh::new();
        for change in &history {
            by_history.writer.apply(vec![change.clone()]);
        }
        let mut last: Vec<Change> = Vec::new();
        for change in history.iter().rev() {
            if !last.iter().any(|other| name_of(other) == name_of(change)) {
                last.push(change.clone());
            }
        }
        let mut shuffled = Vec::new();
        for pick in picks {
            if !last.is_empty() {
                shuffled.push(last.swap_remove(pick.index(last.len())));
            }
        }
        let mut by_last = Mesh::new();
        let rest = shuffled.split_off(if shuffled.is_empty() { 0 } else { cut.index(shuffled.len()) });
        by_last.writer.apply(shuffled);
        by_last.writer.apply(rest);
        prop_assert_eq!(by_history.reader.counts(), by_last.reader.counts());
        prop_assert_eq!(answers(&mut by_history), answers(&mut by_last));
    }

    /// When everything is removed, nothing is left in any index.
    #[test]
    fn nothing_stays_behind(history in vec(change(), 0..40)) {
        let (mut writer, reader) = crate::new(Settings::default());
        writer.apply(history.clone());
        let mut removals = Vec::new();
        for change in history {
            removals.push(match change {
                Change::Policy(policy) => Change::RemovePolicy(policy.key),
                Change::RemovePolicy(key) => Change::RemovePolicy(key),
                other => Change::RemoveAddress(name_of(&other)),
            });
        }
        writer.apply(removals);
        prop_assert_eq!(reader.counts(), Counts::default());
        prop_assert!(reader.is_empty());
    }
}
