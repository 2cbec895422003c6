//! The store as `/config_dump` shows it, in the shape `istioctl ztunnel-config` reads.

use serde::Serialize;

/// Everything the store holds, sorted by name.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dump {}
