//! Settings of enrolment (which pods) and capture (how their connections reach the agent).

use std::path::PathBuf;

use serde::Serialize;

use super::control::Discovery;
use super::data::ProxyMode;
use crate::config::node::Node;
use crate::config::reader::Reader;
use crate::config::{parse, variables as v};

/// Who tells which pods are in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EnrolmentSource {
    /// A CNI agent over a unix socket (ZDS).
    Zds,
    /// The controller's per-node stream.
    Controller,
}

/// What brings connections to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum CaptureMode {
    /// eBPF; with ZDS on a kernel without it, the CNI agent's rules.
    Auto,
    /// eBPF, or fail.
    Ebpf,
    /// The CNI agent's redirect rules.
    Cni,
}

/// Enrolment and capture of pods.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// Who tells which pods.
    pub source: EnrolmentSource,
    /// Socket of the CNI agent.
    pub zds_socket: PathBuf,
    /// The controller's enrolment service.
    pub controller: Option<String>,
    /// What brings connections to the agent.
    pub capture: CaptureMode,
    /// Where programs and maps are pinned.
    pub bpffs: PathBuf,
    /// Control group to attach to; `None`: the cgroup v2 mount.
    pub cgroup: Option<PathBuf>,
    /// The host's process file system.
    pub proc: PathBuf,
    /// Name of the process whose probes pass.
    pub kubelet: String,
}

impl Enrolment {
    pub(in crate::config) fn from_source(
        reader: &mut Reader<'_>,
        node: &Node,
        discovery: &Discovery,
    ) -> Self {
        let source = reader
            .parsed(&v::AMBIT_ENROLMENT, |text| match text {
                "zds" => Some(EnrolmentSource::Zds),
                "controller" => Some(EnrolmentSource::Controller),
                _ => None,
            })
            .unwrap_or(EnrolmentSource::Zds);
        let capture = reader
            .parsed(&v::AMBIT_CAPTURE, |text| match text {
                "auto" => Some(CaptureMode::Auto),
                "ebpf" => Some(CaptureMode::Ebpf),
                "cni" => Some(CaptureMode::Cni),
                _ => None,
            })
            .unwrap_or(CaptureMode::Auto);
        let controller = reader
            .parsed(&v::AMBIT_ENROLMENT_ADDRESS, parse::https)
            .or_else(|| discovery.address.clone());
        let path = |value: Option<PathBuf>, default: &str| value.unwrap_or_else(|| default.into());
        let enrolment = Self {
            source,
            zds_socket: path(reader.path(&v::INPOD_UDS), "/var/run/ztunnel/ztunnel.sock"),
            controller,
            capture,
            bpffs: path(reader.path(&v::AMBIT_BPFFS_DIR), "/sys/fs/bpf/ambit"),
            cgroup: reader.path(&v::AMBIT_CGROUP),
            proc: path(reader.path(&v::AMBIT_PROC_DIR), "/proc"),
            kubelet: reader
                .text(&v::AMBIT_KUBELET)
                .unwrap_or_else(|| "kubelet".to_owned()),
        };
        enrolment.check(reader, node);
        enrolment
    }

    fn check(&self, reader: &mut Reader<'_>, node: &Node) {
        if self.source != EnrolmentSource::Controller {
            return;
        }
        if node.name.is_empty() {
            reader.conflict(
                "AMBIT_ENROLMENT=controller needs NODE_NAME: the controller lists pods by node",
            );
        }
        if self.controller.is_none() {
            reader.conflict(
                "AMBIT_ENROLMENT=controller needs XDS_ADDRESS or AMBIT_ENROLMENT_ADDRESS",
            );
        }
        if self.capture == CaptureMode::Cni {
            reader.conflict("AMBIT_ENROLMENT=controller and AMBIT_CAPTURE=cni exclude each other: there is no CNI agent to write rules");
        }
    }

    /// Whether pods are enrolled at all.
    #[must_use]
    pub fn wanted(mode: ProxyMode) -> bool {
        mode == ProxyMode::Shared
    }
}
