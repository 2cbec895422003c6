//! One struct per component, each with its own `from_source`.

mod control;
mod data;
mod enrolment;
mod process;

pub use control::{
    Certificates, ClientCertificate, Discovery, Headers, RootCertificates, StaticConfig, Token,
};
#[cfg(test)]
pub(super) use data::threads;
pub use data::{
    Dns, Keepalive, OriginalSource, Proxy, ProxyMode, Sockets, Tunnel, WorkloadReference,
};
pub use enrolment::{CaptureMode, Enrolment, EnrolmentSource};
pub use process::{Admin, Drain, Logging};
