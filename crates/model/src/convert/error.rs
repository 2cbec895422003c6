//! Why a resource is refused: which field, which value, what is accepted.

use std::fmt;

use crate::{AuthorizationPolicy, PolicyKey};

/// How much of a refused value and of a resource's name an error repeats.
const SHOWN: usize = 128;

/// A field with a value it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConvertError {
    /// Kind and name of the resource, cut to a printable length; may be empty.
    pub resource: Box<str>,
    /// The field as the protocol names it.
    pub field: &'static str,
    /// The value, cut to a printable length.
    pub value: Box<str>,
    /// What is accepted.
    pub expected: &'static str,
}

impl ConvertError {
    pub(super) fn new(
        field: &'static str,
        value: impl fmt::Display,
        expected: &'static str,
    ) -> Self {
        Self {
            resource: Box::default(),
            field,
            value: cut(&value.to_string()),
            expected,
        }
    }

    pub(super) fn of(self, kind: &'static str, name: &str) -> Self {
        Self {
            resource: format!("{kind} {:?}", cut(name)).into(),
            ..self
        }
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.resource.is_empty() {
            write!(f, "{}: ", self.resource)?;
        }
        write!(
            f,
            "{} is {:?}, expected {}",
            self.field, self.value, self.expected
        )
    }
}

/// Bounds what an error repeats of its input.
fn cut(value: &str) -> Box<str> {
    match value.char_indices().nth(SHOWN) {
        None => value.into(),
        Some((at, _)) => format!("{}...", &value[..at]).into(),
    }
}

/// A policy that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct PolicyError {
    /// What is wrong with it.
    pub error: ConvertError,
    /// What stands in its place and denies what it applies to; `None` only if the resource does
    /// not even say its name and namespace.
    pub refusing: Option<Box<AuthorizationPolicy>>,
}

impl PolicyError {
    /// Gives a policy that does not say its name the one it is published by.
    pub(super) fn known_as(self, name: &str) -> Self {
        let error = self.error;
        let refusing = self.refusing.or_else(|| {
            let key = PolicyKey::parse(name)?;
            Some(Box::new(AuthorizationPolicy::invalid(
                key,
                &error.to_string(),
            )))
        });
        Self { error, refusing }
    }

    /// The name of the policy, where it can be read.
    #[must_use]
    pub fn key(&self) -> Option<&PolicyKey> {
        self.refusing.as_ref().map(|policy| &policy.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_at_a_character() {
        let error = ConvertError::new("field", "é".repeat(1000), "less").of("workload", "w");
        assert_eq!(error.value.chars().count(), SHOWN + 3);
        assert!(
            error
                .to_string()
                .starts_with("workload \"w\": field is \"ééé"),
            "{error}"
        );
    }
}
