//! One document to one object, or to the reason why it is refused, with as much of its identity
//! as can be read: a refused policy must still deny what it was meant for.

use std::sync::Arc;

use crate::api::kinds::{Recognised, recognise};
use crate::api::meta::Labels;
use crate::api::{AnyObject, Kind};
use crate::finding::{Lines, Problem};
use crate::limits::MAX_PROBLEMS;
use crate::validate;
use crate::watch::decode::{self, push_field, shown};
use crate::watch::yaml::{self, Node, Value};

/// What a document turned out to be. Lines count within the document.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    /// An object, perhaps with warnings.
    Object {
        object: AnyObject,
        lines: Arc<Lines>,
        warnings: Vec<Problem>,
    },
    /// Not the mesh's business.
    Foreign,
    /// Refused.
    Refused(Box<Refusal>),
}

/// Why a document is refused, and what could be read of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal {
    /// As written.
    pub(crate) kind: String,
    /// The kind, where the mesh reads it.
    pub(crate) known: Option<Kind>,
    /// Elided means `default`.
    pub(crate) namespace: String,
    /// Empty where it could not be read.
    pub(crate) name: String,
    /// Labels it selects.
    pub(crate) selector: Option<Labels>,
    /// Services it is attached to.
    pub(crate) services: Vec<String>,
    /// It asked not to be enforced.
    pub(crate) dry_run: bool,
    /// It is no YAML: what is known of it is a guess.
    pub(crate) malformed: bool,
    /// Lines of its fields.
    pub(crate) lines: Arc<Lines>,
    /// All that is wrong.
    pub(crate) problems: Vec<Problem>,
}

/// Reads one document; a `List` yields one result per item.
pub(crate) fn read(text: &str) -> Vec<Document> {
    match yaml::parse(text) {
        Ok(None) => Vec::new(),
        Ok(Some(root)) => read_tree(&root),
        Err(error) => vec![Document::Refused(Box::new(malformed(text, &error)))],
    }
}

fn read_tree(root: &Node) -> Vec<Document> {
    let is_list = root.field("kind").and_then(Node::text) == Some("List");
    match root.field("items").map(|items| &items.value) {
        Some(Value::Sequence(items)) if is_list => items.iter().map(read_object).collect(),
        _ => vec![read_object(root)],
    }
}

fn read_object(root: &Node) -> Document {
    let text = |name: &str| root.field(name).and_then(Node::text).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let lines = Arc::new(lines_of(root));
    let refuse = |known, problems| {
        let refusal = Refusal {
            lines: Arc::clone(&lines),
            problems,
            ..identify(root, kind, known)
        };
        Document::Refused(Box::new(refusal))
    };
    if !matches!(root.value, Value::Mapping(_)) {
        let message = "this is not an object; expected apiVersion, kind, metadata and spec";
        return refuse(None, vec![Problem::refused("", message)]);
    }
    for (field, value, form) in [
        ("kind", kind, "kind: Pod"),
        ("apiVersion", api_version, "apiVersion: v1"),
    ] {
        if value.is_empty() {
            let known = Kind::ALL.iter().copied().find(|k| k.as_str() == kind);
            return refuse(
                known,
                vec![Problem::refused(
                    field,
                    format!("is missing; write for example {form:?}"),
                )],
            );
        }
    }
    let known = match recognise(api_version, kind) {
        Recognised::Foreign => return Document::Foreign,
        Recognised::Unknown(reason) => {
            let known = Kind::ALL.iter().copied().find(|k| k.as_str() == kind);
            let field = if known.is_some() {
                "apiVersion"
            } else {
                "kind"
            };
            return refuse(
                known,
                vec![Problem::refused(field, format!("is refused: {reason}"))],
            );
        }
        Recognised::Known(known) => known,
    };
    let object = match known.decode(root) {
        Ok(object) => object,
        Err(error) => {
            return refuse(
                Some(known),
                vec![Problem::refused(error.path(), error.reason)],
            );
        }
    };
    let mut problems = validate::check(&object);
    problems.truncate(MAX_PROBLEMS);
    if problems
        .iter()
        .any(|p| p.level == crate::finding::Level::Refused)
    {
        return refuse(Some(known), problems);
    }
    Document::Object {
        object,
        lines,
        warnings: problems,
    }
}

/// What can be read of an object that is refused, as leniently as possible.
fn identify(root: &Node, kind: &str, known: Option<Kind>) -> Refusal {
    let text = |path: &[&str]| {
        root.at(path)
            .and_then(Node::text)
            .unwrap_or_default()
            .to_owned()
    };
    let mut namespace = text(&["metadata", "namespace"]);
    if namespace.is_empty() && known.is_some_and(Kind::is_namespaced) {
        namespace.push_str("default");
    }
    Refusal {
        kind: kind.to_owned(),
        known,
        namespace,
        name: text(&["metadata", "name"]),
        selector: root
            .at(&["spec", "selector", "matchLabels"])
            .and_then(labels),
        services: targets(root),
        dry_run: text(&["metadata", "annotations", "istio.io/dry-run"]) == "true",
        ..Refusal::default()
    }
}

/// Labels, if all of them are texts: a selector read in part would select more or less.
fn labels(node: &Node) -> Option<Labels> {
    decode::decode::<Labels>(node)
        .ok()
        .filter(|labels| !labels.is_empty())
}

/// The services a policy is attached to.
fn targets(root: &Node) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |target: &Node| {
        let kind = target
            .field("kind")
            .and_then(Node::text)
            .unwrap_or_default();
        if let ("Service" | "ServiceEntry", Some(name)) =
            (kind, target.field("name").and_then(Node::text))
        {
            found.push(name.to_owned());
        }
    };
    if let Some(target) = root.at(&["spec", "targetRef"]) {
        add(target);
    }
    if let Some(Value::Sequence(items)) = root.at(&["spec", "targetRefs"]).map(|node| &node.value) {
        items.iter().for_each(&mut add);
    }
    found
}

/// A text that is no YAML: its kind, name and namespace are looked for in the text, so that a
/// policy with a slip of the keyboard still denies.
fn malformed(text: &str, error: &yaml::SyntaxError) -> Refusal {
    let kind = scan(text, "kind", true)
        .or_else(|| scan(text, "kind", false))
        .unwrap_or_default();
    let known = Kind::ALL
        .iter()
        .copied()
        .find(|known| known.as_str() == kind);
    let mut namespace = scan(text, "namespace", false).unwrap_or_default();
    if namespace.is_empty() && known.is_some_and(Kind::is_namespaced) {
        namespace.push_str("default");
    }
    let message = format!("this is not valid YAML: {}", error.reason);
    Refusal {
        kind,
        known,
        namespace,
        name: scan(text, "name", false).unwrap_or_default(),
        malformed: true,
        lines: Arc::new(Lines::new(error.line, std::iter::empty())),
        problems: vec![Problem::refused("", message)],
        ..Refusal::default()
    }
}

/// The first value of a field in a text that cannot be parsed, at the start of a line or anywhere.
fn scan(text: &str, key: &str, at_line_start: bool) -> Option<String> {
    let starts_field = |position: usize| match text[..position].chars().next_back() {
        None | Some('\n') => true,
        Some(before) => !at_line_start && matches!(before, ' ' | '\t' | '{' | ',' | '"' | '\''),
    };
    let value = |(position, _): (usize, &str)| {
        let rest = text[position + key.len()..].trim_start_matches(['"', '\'']);
        let value = rest
            .strip_prefix(':')?
            .lines()
            .next()?
            .split([',', '}', '#'])
            .next()?;
        let value = value.trim().trim_matches(['"', '\'']);
        (starts_field(position) && !value.is_empty()).then(|| value.to_owned())
    };
    text.match_indices(key).find_map(value)
}

/// The lines of all fields. A field's line is that of its name; an item's that of its value.
fn lines_of(root: &Node) -> Lines {
    let mut fields = Vec::new();
    collect(root, &mut String::new(), &mut fields);
    Lines::new(root.line, fields.into_iter())
}

fn collect(node: &Node, path: &mut String, fields: &mut Vec<(String, u32)>) {
    let length = path.len();
    match &node.value {
        Value::Scalar { .. } => {}
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                fields.push((path.clone(), item.line));
                collect(item, path, fields);
                path.truncate(length);
            }
        }
        Value::Mapping(entries) => {
            for (key, value) in entries {
                push_field(path, &key.name);
                fields.push((path.clone(), key.line));
                collect(value, path, fields);
                path.truncate(length);
            }
        }
    }
}

/// A name for messages when the object's own could not be read.
pub(crate) fn or_unknown(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        shown(name).trim_matches('"').to_owned()
    }
}
