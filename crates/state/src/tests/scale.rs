//! Ten thousand workloads: all found, in few indexes, and spread evenly.

use super::*;
use crate::Counts;

const WORKLOADS: u32 = 10_000;
const SERVICES: u32 = 500;

fn address(i: u32) -> String {
    format!("10.{}.{}.{}", 16 + (i >> 16), (i >> 8) & 255, i & 255)
}

fn vip(i: u32) -> String {
    format!("10.200.{}.{}", i >> 8, i & 255)
}

#[test]
fn a_large_mesh_in_one_batch() {
    let (mut writer, reader) = crate::new(Settings::default());
    let services: Vec<_> = (0..SERVICES)
        .map(|i| service("shop", &format!("s{i}"), &vip(i)))
        .collect();
    let mut changes: Vec<Change> = Vec::new();
    for i in 0..WORKLOADS {
        let workload = pod("shop", &format!("w{i}"), &address(i));
        let workload = member(workload, &services[(i % SERVICES) as usize]);
        // All are endpoints of one large service, too.
        let workload = member(workload, &services[0]);
        changes.push(
            Workload {
                node: format!("n{}", i % 100).into(),
                ..workload
            }
            .into(),
        );
    }
    changes.extend(services.iter().cloned().map(Change::from));
    writer.apply(changes);
    assert_eq!(
        reader.counts(),
        Counts {
            workloads: 10_000,
            services: 500,
            policies: 0,
            addresses: 10_000,
            endpoints: 20_000 - 20,
        }
    );
    assert_eq!(reader.workloads_on_node(&"n7".into()).len(), 100);
    assert_eq!(reader.endpoints(&services[0].key()).len(), 10_000);
    let client = reader.find_workload(&network_address(&address(0))).unwrap();
    let mut random = SmallRng::seed_from_u64(1);
    let mut seen = std::collections::HashSet::new();
    for i in 0..SERVICES {
        let destination = SocketAddr::new(ip(&vip(i)), 80);
        let (source, source_ip, now) = (&client, client.addresses[0], Instant::now());
        let request = ResolveRequest {
            source,
            source_ip,
            destination,
            exclude: &[],
            now,
        };
        let upstream = reader.resolve(&request, &mut random).unwrap();
        let workload = upstream.workload.unwrap();
        assert!(workload.services.contains_key(&services[i as usize].key()));
        seen.insert(workload.uid.clone());
    }
    assert!(seen.len() > 400, "{} different endpoints", seen.len());
}
