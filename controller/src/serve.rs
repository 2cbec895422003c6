//! Serves what was translated: incremental discovery for node agents, and a stream per node that
//! tells which pods to capture. Every resource is encoded once, whoever it goes to; a client that
//! does not keep up costs a set of names. Knows the protocols, not the meaning of resources.

mod body;
mod enrolment;
mod hub;
mod resource;
mod service;
mod session;
mod table;

#[cfg(test)]
mod tests;

pub use self::enrolment::Enrolment;
pub use self::hub::{ClientStatus, Hub, NodeStatus, OutcomeStatus, Rejection};
pub use self::service::Discovery;
