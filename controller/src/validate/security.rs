//! AuthorizationPolicy and PeerAuthentication. The rules themselves are checked by translating
//! them, so that what is checked is what is enforced.

use super::{not, port};
use crate::api::security::{Action, Mode};
use crate::api::{AuthorizationPolicy, PeerAuthentication};
use crate::finding::Problem;
use crate::translate::authorization;

pub(super) fn check_authorization(policy: &AuthorizationPolicy, problems: &mut Vec<Problem>) {
    let spec = &policy.spec;
    let targets = spec.target_ref.is_some() || !spec.target_refs.is_empty();
    let field = if spec.target_ref.is_some() {
        "spec.targetRef"
    } else {
        "spec.targetRefs"
    };
    if targets && spec.selector.is_some() {
        problems.push(Problem::refused(
            field,
            "cannot be given together with spec.selector; keep one of the two",
        ));
    } else if targets {
        let message = "attaches the policy to a waypoint, which this version does not have; use spec.selector with L4 attributes";
        problems.push(Problem::refused(field, message));
    }
    match spec.action {
        Action::Allow => {}
        Action::Deny if spec.rules.is_empty() => {
            let message = "is missing: a DENY policy without rules never applies; write `rules: [{}]` to deny everything";
            problems.push(Problem::refused("spec.rules", message));
        }
        Action::Deny => {}
        Action::Audit => {
            problems.push(not(
                "spec.action",
                "AUDIT",
                "ALLOW or DENY; to try a policy out use the annotation istio.io/dry-run: \"true\"",
            ));
        }
        Action::Custom => {
            problems.push(not("spec.action", "CUSTOM", "ALLOW or DENY; an external authorizer needs a waypoint, which this version does not have"));
        }
    }
    if let Some(value) = policy.metadata.annotation("istio.io/dry-run")
        && !matches!(value, "true" | "false")
    {
        problems.push(not(
            "metadata.annotations[\"istio.io/dry-run\"]",
            value,
            "\"true\" or \"false\"",
        ));
    }
    if !targets {
        problems.extend(authorization::rules(policy).1);
    }
}

pub(super) fn check_peer_authentication(policy: &PeerAuthentication, problems: &mut Vec<Problem>) {
    let spec = &policy.spec;
    let selects = spec
        .selector
        .as_ref()
        .is_some_and(|s| !s.match_labels.is_empty());
    if !spec.port_level_mtls.is_empty() && !selects {
        let message = "needs spec.selector.matchLabels; modes of single ports can only be set for selected workloads";
        problems.push(Problem::refused("spec.portLevelMtls", message));
    }
    for (number, mtls) in &spec.port_level_mtls {
        let field = format!("spec.portLevelMtls.{number}");
        if port(number).is_none() {
            problems.push(not(field.clone(), number, "a port from 1 to 65535"));
        }
        check_mode(mtls.mode, &field, problems);
    }
    check_mode(spec.mtls.mode, "spec.mtls", problems);
}

fn check_mode(mode: Mode, field: &str, problems: &mut Vec<Problem>) {
    if mode == Mode::Disable {
        let message = "is DISABLE, which acts like PERMISSIVE: the mesh encrypts on its own side of the application";
        problems.push(Problem::warning(format!("{field}.mode"), message));
    }
}
