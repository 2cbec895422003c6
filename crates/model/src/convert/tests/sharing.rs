//! Ten thousand workloads share what they have in common.

use std::sync::Arc;

use ambit_proto::workload as proto;

use crate::{Converter, Workload};

fn pod(i: u32) -> proto::Workload {
    let port = proto::Port {
        service_port: 80,
        target_port: 8080,
        app_protocol: 1,
    };
    let service = format!("shop-{}/web.shop-{}.svc.cluster.local", i % 50, i % 50);
    proto::Workload {
        uid: format!("cluster//Pod/shop-{}/web-{i}", i % 50),
        name: format!("web-{i}"),
        namespace: format!("shop-{}", i % 50),
        service_account: "web".into(),
        node: format!("node-{}", i % 100),
        canonical_name: "web".into(),
        canonical_revision: "v1".into(),
        workload_name: "web".into(),
        cluster_id: "cluster".into(),
        addresses: vec![i.to_be_bytes().to_vec().into()],
        services: [(service, proto::PortList { ports: vec![port] })].into(),
        ..Default::default()
    }
}

fn convert(converter: &mut Converter, count: u32) -> Vec<Workload> {
    (0..count)
        .map(|i| converter.workload(pod(i)).unwrap())
        .collect()
}

#[test]
fn common_strings_are_one() {
    let mut converter = Converter::default();
    let workloads = convert(&mut converter, 10_000);
    // 50 namespaces, 50 host names, 100 nodes, one port list and a few names.
    assert!(converter.shared_len() < 250, "{}", converter.shared_len());
    let (a, b) = (&workloads[0], &workloads[50]);
    assert_eq!(a.namespace.as_str().as_ptr(), b.namespace.as_str().as_ptr());
    assert!(Arc::ptr_eq(&a.canonical_name, &b.canonical_name));
    let ports = |w: &Workload| Arc::clone(w.services.iter().next().unwrap().1);
    assert!(Arc::ptr_eq(&ports(a), &ports(b)));
}

#[test]
fn a_workload_stays_small() {
    let size = size_of::<Workload>();
    assert!(size <= 560, "{size} bytes");
}

#[test]
fn what_nobody_uses_is_forgotten() {
    let mut converter = Converter::default();
    let workloads = convert(&mut converter, 100);
    converter.sweep();
    assert!(converter.shared_len() > 100, "still in use");
    drop(workloads);
    converter.sweep();
    assert_eq!(converter.shared_len(), 0);
}
