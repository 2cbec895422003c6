//! `gateway.networking.k8s.io`: which waypoints there are.

use serde::Deserialize;

use super::meta::{Labels, ObjectMeta, object};

object!(Gateway, GatewayClass);

/// A waypoint or gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Gateway {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Its content.
    pub spec: GatewaySpec,
    /// Its addresses.
    pub status: GatewayStatus,
}

/// A gateway's content.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// Its class.
    pub gateway_class_name: String,
    /// Its listeners.
    pub listeners: Vec<Listener>,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// `HBONE` for a waypoint.
    pub protocol: String,
    /// Who may use it.
    pub allowed_routes: AllowedRoutes,
}

/// Who may use a listener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AllowedRoutes {
    /// From which namespaces.
    pub namespaces: RouteNamespaces,
}

/// From which namespaces.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RouteNamespaces {
    /// `Same` (when elided), `All` or `Selector`.
    pub from: String,
    /// For `Selector`.
    pub selector: Option<LabelSelector>,
}

/// Selects namespaces.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// All of these.
    pub match_labels: Labels,
    /// And all of these.
    pub match_expressions: Vec<Requirement>,
}

/// A condition on a label.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// For `In` and `NotIn`.
    pub values: Vec<String>,
}

impl LabelSelector {
    /// Whether labels satisfy all of it; an unknown operator does not match.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let expression = |r: &Requirement| {
            let value = labels.get(&r.key);
            match r.operator.as_str() {
                "In" => value.is_some_and(|value| r.values.iter().any(|v| v == value)),
                "NotIn" => value.is_none_or(|value| !r.values.iter().any(|v| v == value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        };
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(expression)
    }
}

/// What came of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GatewayStatus {
    /// Where it is reached.
    pub addresses: Vec<GatewayAddress>,
}

/// Where a gateway is reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GatewayAddress {
    /// `IPAddress` (when elided) or `Hostname`.
    pub r#type: String,
    /// The address.
    pub value: String,
}

/// A class of gateways.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GatewayClass {
    /// Metadata; labels and annotations are defaults of its gateways.
    pub metadata: ObjectMeta,
}
