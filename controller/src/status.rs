//! Of each object whether it is in force, and why not, for people and for programs. The same text
//! answers `GET /status` and `controller validate`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use crate::finding::{Finding, Level, Place};
use crate::snapshot::Snapshot;
use crate::translate::Translated;

/// The state of all objects.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Totals.
    pub summary: Summary,
    /// All that is wrong, by file and line.
    pub findings: Vec<Finding>,
    /// Every object in force, and every one that is refused and could be named.
    pub objects: Vec<ObjectState>,
}

/// Totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Objects in force, by kind.
    pub accepted: BTreeMap<String, usize>,
    /// Objects that are refused, in whole or in part.
    pub refused: usize,
    /// Warnings.
    pub warnings: usize,
    /// Documents that are not the mesh's business.
    pub ignored: usize,
    /// Workloads the mesh is told of.
    pub workloads: usize,
    /// Services the mesh is told of.
    pub services: usize,
    /// Policies the mesh is told of.
    pub policies: usize,
}

/// One object.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectState {
    /// Kind.
    pub kind: String,
    /// Namespace; empty where it has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// File, relative to the directory.
    pub file: Arc<str>,
    /// Line of the object's start.
    pub line: u32,
    /// Whether it is in force.
    pub state: State,
}

/// Whether an object is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is.
    Accepted,
    /// It is; there are warnings.
    Warning,
    /// It is not, or not all of it.
    Refused,
}

/// All that is wrong, sorted by place.
#[must_use]
pub fn findings(snapshot: &Snapshot, translated: &Translated) -> Vec<Finding> {
    let mut all: Vec<Finding> = snapshot
        .findings
        .iter()
        .chain(&translated.findings)
        .cloned()
        .collect();
    all.sort();
    all.dedup();
    all
}

type Worst<'a> = HashMap<(&'a str, &'a str, &'a str), &'a Finding>;

/// The worst finding of each object.
fn worst(findings: &[Finding]) -> Worst<'_> {
    let mut worst = Worst::new();
    for finding in findings {
        let key = (
            finding.kind.as_str(),
            finding.namespace.as_str(),
            finding.name.as_str(),
        );
        let known = worst.entry(key).or_insert(finding);
        if known.level < finding.level {
            *known = finding;
        }
    }
    worst
}

/// Counts what is in force.
#[must_use]
pub fn summary(snapshot: &Snapshot, translated: &Translated, findings: &[Finding]) -> Summary {
    let worst = worst(findings);
    let mut accepted: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, namespace, name, place) in snapshot.objects() {
        let finding = if worst.is_empty() {
            None
        } else {
            worst.get(&(kind.as_str(), namespace, name))
        };
        if finding.is_none_or(|finding| !refuses(finding, place)) {
            *accepted.entry(kind.as_str()).or_default() += 1;
        }
    }
    Summary {
        accepted: accepted
            .into_iter()
            .map(|(kind, count)| (kind.to_owned(), count))
            .collect(),
        refused: worst
            .values()
            .filter(|finding| finding.level == Level::Refused)
            .count(),
        warnings: findings
            .iter()
            .filter(|finding| finding.level == Level::Warning)
            .count(),
        ignored: snapshot.foreign,
        workloads: translated.workloads.len(),
        services: translated.services.len(),
        policies: translated.policies.len(),
    }
}

/// Whether a finding refuses the object that stands at a place, and not another of its name.
fn refuses(finding: &Finding, place: &Place) -> bool {
    finding.level == Level::Refused
        && finding.file == place.file
        && finding.line >= place.line_of("")
}

/// Puts the report together.
#[must_use]
pub fn report(snapshot: &Snapshot, translated: &Translated) -> Report {
    let findings = findings(snapshot, translated);
    let summary = summary(snapshot, translated, &findings);
    let worst = worst(&findings);
    let mut objects = Vec::new();
    let mut named = HashSet::new();
    for (kind, namespace, name, place) in snapshot.objects() {
        let key = (kind.as_str(), namespace, name);
        let state = match worst.get(&key) {
            None => State::Accepted,
            Some(finding) if refuses(finding, place) => State::Refused,
            Some(_) => State::Warning,
        };
        named.insert((key, state == State::Refused));
        objects.push(ObjectState {
            kind: kind.as_str().to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            file: Arc::clone(&place.file),
            line: place.line_of(""),
            state,
        });
    }
    let absent = worst.iter().filter(|(key, finding)| {
        finding.level == Level::Refused && !named.contains(&(**key, true))
    });
    objects.extend(absent.map(|(_, finding)| ObjectState {
        kind: finding.kind.clone(),
        namespace: finding.namespace.clone(),
        name: finding.name.clone(),
        file: Arc::clone(&finding.file),
        line: finding.line,
        state: State::Refused,
    }));
    objects.sort_by(|a, b| (&a.file, a.line, &a.kind).cmp(&(&b.file, b.line, &b.kind)));
    Report {
        summary,
        findings,
        objects,
    }
}

impl Report {
    /// Whether an object is refused.
    #[must_use]
    pub fn has_refusals(&self) -> bool {
        self.summary.refused > 0
    }

    /// As lines: what is wrong first, the totals last.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            line(&mut text, format_args!("{finding}"));
        }
        let kinds: Vec<String> = self
            .summary
            .accepted
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let kinds = if kinds.is_empty() {
            String::from("nothing")
        } else {
            kinds.join(", ")
        };
        line(&mut text, format_args!("in force: {kinds}"));
        let Summary {
            refused,
            warnings,
            ignored,
            workloads,
            services,
            policies,
            ..
        } = &self.summary;
        line(
            &mut text,
            format_args!("served: {workloads} workloads, {services} services, {policies} policies"),
        );
        line(
            &mut text,
            format_args!("{refused} refused, {warnings} warnings, {ignored} not for the mesh"),
        );
        text
    }

    /// Every object with its state, after the text.
    #[must_use]
    pub fn full_text(&self) -> String {
        let mut text = self.text();
        for object in &self.objects {
            let state = match object.state {
                State::Accepted => "accepted",
                State::Warning => "accepted, with warnings",
                State::Refused => "refused",
            };
            let ObjectState {
                kind,
                namespace,
                name,
                file,
                line: at,
                ..
            } = object;
            let name = if namespace.is_empty() {
                name.clone()
            } else {
                format!("{namespace}/{name}")
            };
            line(
                &mut text,
                format_args!("{file}:{at}: {kind} {name}: {state}"),
            );
        }
        text
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    if text.write_fmt(arguments).is_ok() {
        text.push('\n');
    }
}
