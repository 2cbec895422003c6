//! Addresses that discovery is asked for one by one. Where it is subscribed to everything, nothing
//! here does anything.

use std::net::IpAddr;

use ambit_model::{Namespace, NetworkAddress};

use super::{Failure, Mesh};

/// Makes sure that what can be known of an address is known.
///
/// # Errors
/// [`Failure::Discovery`] when it could not be asked: an address about which nothing could be
/// learned must not be taken for one outside the mesh.
pub async fn learn(mesh: &Mesh, address: IpAddr, namespace: &Namespace) -> Result<(), Failure> {
    let Some(demand) = mesh.demand.get() else {
        return Ok(());
    };
    let address = NetworkAddress {
        network: mesh.settings.network.clone(),
        address,
    };
    let known = mesh.state.find_workload(&address).is_some()
        || mesh.state.find_service(&address, namespace).is_some();
    if known {
        return Ok(());
    }
    let name = format!("{}/{}", address.network, address.address);
    demand.fetch(&name).await.map_err(Failure::Discovery)?;
    Ok(())
}
