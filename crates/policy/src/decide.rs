//! The order in which policies decide: DENY before ALLOW, and no ALLOW policy at all allows.

use std::fmt;
use std::net::IpAddr;

use ambit_model::{Action, AuthorizationPolicy, Identity, PolicyBody, PolicyKey};

use crate::matching::matches;

/// What policies look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// The authenticated peer; `None` for plaintext.
    pub source_identity: Option<&'a Identity>,
    /// The peer's address.
    pub source_ip: IpAddr,
    /// The address the workload is reached at.
    pub destination_ip: IpAddr,
    /// The workload's own port, inside any tunnel.
    pub destination_port: u16,
}

/// The outcome for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub verdict: Verdict,
    /// What each dry-run policy would have done; empty (and not allocated) without any.
    pub dry_run: Vec<DryRun>,
}

/// Let through or refused, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Let through.
    Allow {
        /// The ALLOW policy that matched; `None` where there is no ALLOW policy.
        by: Option<PolicyKey>,
    },
    /// Refused.
    Deny {
        /// The policy at fault: for [`DenyReason::NoAllowMatched`] the first ALLOW policy.
        by: Option<PolicyKey>,
        /// Why.
        reason: DenyReason,
    },
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// A DENY policy matched.
    Matched,
    /// There are ALLOW policies, and none matched.
    NoAllowMatched,
    /// A policy that applies could not be understood.
    Invalid,
    /// The workload refers to a policy that is not known (yet).
    Unknown,
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Matched => "denied by policy",
            Self::NoAllowMatched => "allow policies exist but none matched",
            Self::Invalid => "policy could not be understood",
            Self::Unknown => "policy is not known",
        })
    }
}

/// What a dry-run policy would have done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DryRun {
    /// The policy.
    pub policy: PolicyKey,
    /// What it would do on a match.
    pub action: Action,
    /// Whether it matched; an invalid one counts as a DENY that matched.
    pub matched: bool,
}

impl Decision {
    /// Whether the connection is let through.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow { .. })
    }
}

/// Decides about `connection` by `policies`, all of which apply to its destination.
#[must_use]
pub fn decide<'a>(
    policies: impl IntoIterator<Item = &'a AuthorizationPolicy>,
    connection: &Connection<'_>,
) -> Decision {
    let mut tally = Tally::default();
    for policy in policies {
        tally.count(policy, connection);
    }
    tally.decision()
}

/// What has been seen so far. The first of each kind is remembered for the report; which kind
/// wins does not depend on the order.
#[derive(Default)]
pub(crate) struct Tally<'a> {
    refused: Option<(&'a PolicyKey, DenyReason)>,
    allowed: Option<&'a PolicyKey>,
    first_allow: Option<&'a PolicyKey>,
    dry_run: Vec<DryRun>,
}

impl<'a> Tally<'a> {
    /// Refuses because of a policy that is referred to but not known.
    pub(crate) fn unknown(&mut self, key: &'a PolicyKey) {
        self.refused.get_or_insert((key, DenyReason::Unknown));
    }

    pub(crate) fn count(&mut self, policy: &'a AuthorizationPolicy, connection: &Connection<'_>) {
        if policy.dry_run {
            self.dry_run.push(try_out(policy, connection));
            return;
        }
        let key = &policy.key;
        let PolicyBody::Rules(rules) = &policy.body else {
            self.refused.get_or_insert((key, DenyReason::Invalid));
            return;
        };
        match policy.action {
            Action::Deny if self.refused.is_none() => {
                if matches(rules, connection) {
                    self.refused = Some((key, DenyReason::Matched));
                }
            }
            Action::Allow => {
                self.first_allow.get_or_insert(key);
                if self.allowed.is_none() && matches(rules, connection) {
                    self.allowed = Some(key);
                }
            }
            Action::Deny => {}
        }
    }

    pub(crate) fn decision(self) -> Decision {
        let verdict = match (self.refused, self.allowed, self.first_allow) {
            (Some((key, reason)), _, _) => Verdict::Deny {
                by: Some(key.clone()),
                reason,
            },
            (None, Some(key), _) => Verdict::Allow {
                by: Some(key.clone()),
            },
            (None, None, None) => Verdict::Allow { by: None },
            (None, None, Some(key)) => Verdict::Deny {
                by: Some(key.clone()),
                reason: DenyReason::NoAllowMatched,
            },
        };
        Decision {
            verdict,
            dry_run: self.dry_run,
        }
    }
}

fn try_out(policy: &AuthorizationPolicy, connection: &Connection<'_>) -> DryRun {
    let (action, matched) = match &policy.body {
        PolicyBody::Rules(rules) => (policy.action, matches(rules, connection)),
        PolicyBody::Invalid(_) => (Action::Deny, true),
    };
    DryRun {
        policy: policy.key.clone(),
        action,
        matched,
    }
}
