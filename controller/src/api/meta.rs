//! What every object carries: names, labels, annotations.

use std::fmt;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

pub use super::labels::Labels;

/// The part of an object's metadata that is read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Name; required.
    pub name: String,
    /// Namespace; elided means `default` for kinds that have one.
    pub namespace: String,
    /// Unique id; elided where objects are written by hand.
    pub uid: String,
    /// What a generated name starts with.
    pub generate_name: String,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// RFC 3339, so that texts compare as times; elided counts as oldest.
    pub creation_timestamp: Option<String>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<String>,
    /// What created the object.
    pub owner_references: Vec<OwnerReference>,
}

impl ObjectMeta {
    /// The value of a label; empty counts as absent.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).filter(|value| !value.is_empty())
    }

    /// The value of an annotation; empty counts as absent.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).filter(|value| !value.is_empty())
    }

    /// Sorts the oldest first, and objects of one age by name.
    #[must_use]
    pub fn age(&self) -> (&str, &str, &str) {
        (
            self.creation_timestamp.as_deref().unwrap_or(""),
            &self.namespace,
            &self.name,
        )
    }
}

/// What created an object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct OwnerReference {
    /// Kind, such as `ReplicaSet`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Whether it manages the object.
    pub controller: bool,
}

/// An object: metadata and the rest.
pub trait Object {
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Its metadata, to fill in what is elided.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

/// Implements [`Object`] for a type with a field `metadata`.
macro_rules! object {
    ($($type:ty),+) => {
        $(impl $crate::api::meta::Object for $type {
            fn meta(&self) -> &$crate::api::meta::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut $crate::api::meta::ObjectMeta {
                &mut self.metadata
            }
        })+
    };
}
pub(crate) use object;

/// A number, or a name to be looked up.
#[derive(Clone, Debug, PartialEq)]
pub enum IntOrString {
    /// A number.
    Int(u16),
    /// A name.
    String(String),
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(IntOrStringVisitor)
    }
}

struct IntOrStringVisitor;

impl Visitor<'_> for IntOrStringVisitor {
    type Value = IntOrString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port number up to 65535 or the name of a port")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<IntOrString, E> {
        let refuse = |_| E::invalid_value(Unexpected::Signed(value), &self);
        u16::try_from(value).map(IntOrString::Int).map_err(refuse)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<IntOrString, E> {
        let refuse = |_| E::invalid_value(Unexpected::Unsigned(value), &self);
        u16::try_from(value).map(IntOrString::Int).map_err(refuse)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<IntOrString, E> {
        Ok(value
            .parse()
            .map_or_else(|_| IntOrString::String(value.to_owned()), IntOrString::Int))
    }
}

/// Selects objects by exact labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadSelector {
    /// All of them must be there; `labels` in networking kinds, `matchLabels` in security kinds.
    #[serde(alias = "labels")]
    pub match_labels: Labels,
}

/// Whether `labels` has all that `wanted` lists; nothing wanted selects nothing.
#[must_use]
pub fn selects(wanted: &Labels, labels: &Labels) -> bool {
    !wanted.is_empty()
        && wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}
