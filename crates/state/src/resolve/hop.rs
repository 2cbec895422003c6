//! What is done with a workload once it is chosen, and who may answer there.

use std::net::{IpAddr, SocketAddr};

use ambit_model::{Hostname, Identity, IpFamilies, Service, TunnelProtocol, Workload};
use smallvec::smallvec;

use super::{ResolveError, Resolver};
use crate::upstream::AppliedTo;
use crate::{ExpectedIdentities, Hop, PendingName};

/// The port of HBONE at a workload.
pub(super) const HBONE_PORT: u16 = 15008;

/// How the workload's own `port` is reached.
pub(super) fn plan(workload: &Workload, service: Option<&Service>, port: u16) -> AppliedTo {
    match workload.tunnel {
        TunnelProtocol::None => AppliedTo::Direct { port },
        TunnelProtocol::Hbone => AppliedTo::Hbone {
            gateway_port: HBONE_PORT,
            port,
            expected: expected(workload, service),
        },
    }
}

/// How a workload is reached at one of its addresses.
pub(super) fn to_address(workload: &Workload, service: Option<&Service>, to: SocketAddr) -> Hop {
    plan(workload, service, to.port()).at(to.ip())
}

/// Who may answer for a workload: itself, or under a name of the service.
pub(super) fn expected(workload: &Workload, service: Option<&Service>) -> ExpectedIdentities {
    let mut expected: ExpectedIdentities = smallvec![workload.identity()];
    expected.extend(names_of(service));
    definite(expected)
}

/// Who may answer behind another network's gateway. A workload known from afar stands for many,
/// so the service's names count, and its own only where the service has none.
pub(super) fn expected_inside(
    workload: &Workload,
    service: Option<&Service>,
) -> ExpectedIdentities {
    let names: ExpectedIdentities = names_of(service).collect();
    match names.is_empty() {
        true => smallvec![workload.identity()],
        false => definite(names),
    }
}

/// Names that are not identities of a mesh cannot be presented by anyone, and are left out.
fn names_of(service: Option<&Service>) -> impl Iterator<Item = Identity> {
    let names = service
        .into_iter()
        .flat_map(|service| &service.subject_alt_names);
    names.filter_map(|name| name.parse().ok())
}

fn definite(mut identities: ExpectedIdentities) -> ExpectedIdentities {
    identities.sort_unstable();
    identities.dedup();
    identities
}

/// Whether a service's clients may use the family.
pub(super) fn allows(families: IpFamilies, v6: bool) -> bool {
    match families {
        IpFamilies::Automatic | IpFamilies::Dual => true,
        IpFamilies::Ipv4Only => !v6,
        IpFamilies::Ipv6Only => v6,
    }
}

impl Resolver<'_> {
    /// The hop to `address`; without one, to what DNS will give for the workload's host name.
    pub(super) fn at_or_pending(
        &self,
        workload: &Workload,
        address: Option<IpAddr>,
        families: IpFamilies,
        then: AppliedTo,
    ) -> Result<Hop, ResolveError> {
        match (address, &workload.hostname) {
            (Some(address), _) => Ok(then.at(address)),
            (None, Some(hostname)) => Ok(Hop::Hostname(self.pending(hostname, families, then))),
            (None, None) => Err(ResolveError::NoAddress {
                workload: workload.uid.as_str().to_owned(),
            }),
        }
    }

    fn pending(&self, hostname: &Hostname, families: IpFamilies, then: AppliedTo) -> PendingName {
        PendingName {
            hostname: hostname.clone(),
            prefer_ipv6: self.destination.is_ipv6(),
            allow_ipv4: allows(families, false),
            allow_ipv6: allows(families, true),
            then,
        }
    }
}
