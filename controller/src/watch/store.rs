//! What each file holds, and what of it is in force. A pure function of the files' texts except
//! for one thing: when a document turns bad, the object it held before stays in force, and where it
//! is a policy, what it was meant for is denied. Reads no files itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use crate::api::{AnyObject, Kind};
use crate::finding::{Finding, Lines, Place, Problem};
use crate::maps::FastMap;
use crate::snapshot::{MeshSettings, RefusedPolicy, Snapshot};
use crate::watch::documents::split;
use crate::watch::object::{self, Document, Refusal};

/// The files of a directory as they were last read.
#[derive(Debug, Default)]
pub struct Store {
    mesh: Arc<MeshSettings>,
    files: BTreeMap<Arc<str>, File>,
}

#[derive(Debug, Default)]
struct File {
    /// Hash of the whole text, to recognise a write that changed nothing.
    hash: u64,
    documents: Vec<Stored>,
    /// Objects of an earlier reading that stay in force.
    held: Vec<(AnyObject, Place)>,
    /// What the file system said of it when it was read.
    stamp: Option<Stamp>,
    /// Why the file as a whole could not be read.
    unreadable: Option<String>,
}

/// What tells a file that was not touched: its inode, size and time of change.
pub(crate) type Stamp = (u64, u64, i64, i64);

#[derive(Debug)]
struct Stored {
    hash: u64,
    offset: u32,
    content: Document,
}

/// What names an object.
type Key<'a> = (Kind, &'a str, &'a str);

fn key(object: &AnyObject) -> Key<'_> {
    let meta = object.meta();
    (object.kind(), &meta.namespace, &meta.name)
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Store {
    /// Empty, for a mesh with these settings.
    #[must_use]
    pub fn new(mesh: MeshSettings) -> Self {
        Self {
            mesh: Arc::new(mesh),
            files: BTreeMap::new(),
        }
    }

    /// Takes a file's new text; `false` when nothing changed.
    pub fn update(&mut self, file: &str, text: &str) -> bool {
        let hash = hash(text);
        let known = self.files.get_mut(file);
        if known
            .as_ref()
            .is_some_and(|known| known.hash == hash && known.unreadable.is_none())
        {
            return false;
        }
        let name: Arc<str> = Arc::from(file);
        let old = known.map(std::mem::take).unwrap_or_default();
        let documents = read_documents(text, &old);
        let held = hold(&name, &old, &documents);
        self.files.insert(
            name,
            File {
                hash,
                documents,
                held,
                stamp: None,
                unreadable: None,
            },
        );
        true
    }

    /// Whether any file is in a directory.
    pub(crate) fn has_under(&self, directory: &str) -> bool {
        let prefix = format!("{directory}/");
        let from = (Bound::Included(&*prefix), Bound::Unbounded);
        let mut from = self.files.range::<str, _>(from);
        from.next()
            .is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    /// Whether a file was read when the file system said this of it.
    pub(crate) fn has_stamp(&self, file: &str, stamp: Stamp) -> bool {
        self.files
            .get(file)
            .is_some_and(|known| known.stamp == Some(stamp))
    }

    /// Notes what the file system said of a file before it was read.
    pub(crate) fn set_stamp(&mut self, file: &str, stamp: Stamp) {
        if let Some(known) = self.files.get_mut(file) {
            known.stamp = Some(stamp);
        }
    }

    /// Notes that a file cannot be read: what it held stays in force.
    pub fn set_unreadable(&mut self, file: &str, reason: &str) -> bool {
        let entry = self.files.entry(Arc::from(file)).or_default();
        let changed = entry.unreadable.as_deref() != Some(reason);
        entry.unreadable = Some(reason.to_owned());
        changed
    }

    /// Forgets a file that is gone, and with it all it held.
    pub fn remove(&mut self, file: &str) -> bool {
        self.files.remove(file).is_some()
    }

    /// The names of the files known.
    pub fn files(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.keys()
    }

    /// What is in force now. Of several objects with one name the first counts, in the order of
    /// file names, so that a restart finds the same.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut builder = Builder {
            snapshot: Snapshot {
                mesh: Arc::clone(&self.mesh),
                ..Snapshot::default()
            },
            seen: FastMap::default(),
        };
        for (name, file) in &self.files {
            if let Some(reason) = &file.unreadable {
                let message = format!("{reason}; what it held before stays in force");
                builder.snapshot.findings.push(whole_file(name, message));
            }
            for stored in &file.documents {
                builder.add(name, stored);
            }
        }
        // Held objects last: one that was moved to another file is not a duplicate.
        for file in self.files.values() {
            for (object, place) in &file.held {
                builder.hold(object, place);
            }
        }
        builder.snapshot
    }
}

fn whole_file(name: &Arc<str>, message: String) -> Finding {
    Finding {
        file: Arc::clone(name),
        line: 1,
        kind: String::from("file"),
        namespace: String::new(),
        name: String::new(),
        level: crate::finding::Level::Refused,
        field: String::new(),
        message,
        effect: String::new(),
    }
}

/// Reads what changed; documents with the text they had before are taken over unread.
fn read_documents(text: &str, old: &File) -> Vec<Stored> {
    let mut known: HashMap<u64, Vec<&Stored>> = HashMap::new();
    for stored in &old.documents {
        known.entry(stored.hash).or_default().push(stored);
    }
    let mut documents = Vec::new();
    for document in split(text) {
        let hash = hash(document.text);
        let offset = document.offset;
        match known.get(&hash) {
            Some(same) => {
                // The items of one list share its text; a text that is there twice is read twice.
                let one = same.iter().filter(|stored| stored.offset == same[0].offset);
                let again = |stored: &&Stored| Stored {
                    hash,
                    offset,
                    content: stored.content.clone(),
                };
                documents.extend(one.map(again));
            }
            None => {
                documents.extend(
                    object::read(document.text)
                        .into_iter()
                        .map(|content| Stored {
                            hash,
                            offset,
                            content,
                        }),
                )
            }
        }
    }
    documents
}

/// The objects of an earlier reading that stay in force because a document turned bad: the one of
/// the same name, or all that are missing where it cannot be told which it was.
fn hold(name: &Arc<str>, old: &File, documents: &[Stored]) -> Vec<(AnyObject, Place)> {
    let refusals: Vec<&Refusal> = documents
        .iter()
        .filter_map(|stored| match &stored.content {
            Document::Refused(refusal) => Some(&**refusal),
            _ => None,
        })
        .collect();
    if refusals.is_empty() {
        return Vec::new();
    }
    let present: HashSet<Key<'_>> = documents
        .iter()
        .filter_map(|stored| match &stored.content {
            Document::Object { object, .. } => Some(key(object)),
            _ => None,
        })
        .collect();
    let stays = |object: &AnyObject| {
        let (kind, namespace, object_name) = key(object);
        refusals.iter().any(|refusal| match refusal.known {
            _ if refusal.malformed => true,
            None => refusal.kind.is_empty(),
            Some(known) => {
                known == kind
                    && (refusal.name.is_empty() || refusal.name == object_name)
                    && (refusal.name.is_empty() || refusal.namespace == namespace)
            }
        })
    };
    let before = old
        .documents
        .iter()
        .filter_map(|stored| match &stored.content {
            Document::Object { object, lines, .. } => {
                Some((object.clone(), place(name, stored.offset, lines)))
            }
            _ => None,
        });
    before
        .chain(old.held.iter().cloned())
        .filter(|(object, _)| !present.contains(&key(object)) && stays(object))
        .collect()
}

fn place(file: &Arc<str>, offset: u32, lines: &Arc<Lines>) -> Place {
    Place {
        file: Arc::clone(file),
        offset,
        lines: Arc::clone(lines),
    }
}

/// Where an object of some name was met first.
#[derive(Clone, Copy)]
struct Seen<'a> {
    file: &'a Arc<str>,
    offset: u32,
    lines: &'a Arc<Lines>,
}

struct Builder<'a> {
    snapshot: Snapshot,
    seen: FastMap<Key<'a>, Seen<'a>>,
}

impl<'a> Builder<'a> {
    fn add(&mut self, file: &'a Arc<str>, stored: &'a Stored) {
        match &stored.content {
            Document::Foreign => self.snapshot.foreign += 1,
            Document::Refused(refusal) => {
                self.refuse(&place(file, stored.offset, &refusal.lines), refusal)
            }
            Document::Object {
                object,
                lines,
                warnings,
            } => {
                let offset = stored.offset;
                self.accept(
                    object,
                    Seen {
                        file,
                        offset,
                        lines,
                    },
                    warnings,
                );
            }
        }
    }

    fn accept(&mut self, object: &'a AnyObject, at: Seen<'a>, warnings: &[Problem]) {
        let key = key(object);
        let place = place(at.file, at.offset, at.lines);
        if let Some(first) = self.seen.get(&key) {
            let line = self::place(first.file, first.offset, first.lines).line_of("metadata.name");
            let at = format!("{}:{line}", first.file);
            let (kind, namespace, name) = key;
            let message = format!(
                "{name:?} is the name of another {kind}, at {at}, which stays in force; rename or remove one of them"
            );
            let problem = Problem::refused("metadata.name", message);
            self.deny_duplicate(object, &place, &problem.message);
            self.snapshot
                .findings
                .push(problem.of(kind, namespace, name, &place));
            return;
        }
        let (kind, namespace, name) = key;
        for warning in warnings {
            self.snapshot
                .findings
                .push(warning.clone().of(kind, namespace, name, &place));
        }
        self.snapshot.push(object.clone(), place);
        self.seen.insert(key, at);
    }

    /// A second policy of one name is refused like any other: what it selects is denied.
    fn deny_duplicate(&mut self, object: &AnyObject, place: &Place, reason: &str) {
        let (kind, selector, dry_run) = match object {
            AnyObject::AuthorizationPolicy(policy) => {
                let dry_run = policy.metadata.annotation("istio.io/dry-run") == Some("true");
                (Kind::AuthorizationPolicy, &policy.spec.selector, dry_run)
            }
            AnyObject::PeerAuthentication(policy) => {
                (Kind::PeerAuthentication, &policy.spec.selector, false)
            }
            _ => return,
        };
        if dry_run {
            return;
        }
        let meta = object.meta();
        self.snapshot.refused_policies.push(RefusedPolicy {
            kind,
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            selector: selector
                .as_ref()
                .map(|s| s.match_labels.clone())
                .filter(|l| !l.is_empty()),
            services: Vec::new(),
            reason: reason.into(),
            place: place.clone(),
        });
    }

    fn refuse(&mut self, place: &Place, refusal: &Refusal) {
        let name = object::or_unknown(&refusal.name);
        let policy = refusal.known.filter(|kind| is_policy(*kind));
        let effect = match policy {
            Some(_) if refusal.dry_run => "",
            Some(Kind::PeerAuthentication) => {
                "until it is mended, what it selects accepts no plain text"
            }
            Some(_) => "until it is mended, connections to what it selects are denied",
            None => "",
        };
        for problem in &refusal.problems {
            let mut finding = Finding {
                file: Arc::clone(&place.file),
                line: place.line_of(&problem.field),
                kind: refusal.kind.clone(),
                namespace: refusal.namespace.clone(),
                name: name.clone(),
                level: problem.level,
                field: problem.field.clone(),
                message: problem.message.clone(),
                effect: String::new(),
            };
            if problem.level == crate::finding::Level::Refused {
                effect.clone_into(&mut finding.effect);
            }
            self.snapshot.findings.push(finding);
        }
        let Some(kind) = policy.filter(|_| !refusal.dry_run) else {
            return;
        };
        let reason = refusal
            .problems
            .first()
            .map_or("", |problem| &problem.message);
        self.snapshot.refused_policies.push(RefusedPolicy {
            kind,
            namespace: refusal.namespace.clone(),
            name,
            selector: refusal.selector.clone(),
            services: refusal.services.clone(),
            reason: reason.into(),
            place: place.clone(),
        });
    }

    /// An object whose document turned bad. A policy stays too, besides the refusal that denies:
    /// the refused text may have been readable in part only and name another scope.
    fn hold(&mut self, object: &'a AnyObject, place: &'a Place) {
        let key = key(object);
        if self.seen.contains_key(&key) {
            return;
        }
        for finding in &mut self.snapshot.findings {
            let refused = finding.level == crate::finding::Level::Refused;
            if finding.file == place.file && refused && finding.effect.is_empty() {
                finding.effect = String::from("what was in force before stays in force");
            }
        }
        self.snapshot.push(object.clone(), place.clone());
        let Place {
            file,
            offset,
            lines,
        } = place;
        self.seen.insert(
            key,
            Seen {
                file,
                offset: *offset,
                lines,
            },
        );
    }
}

fn is_policy(kind: Kind) -> bool {
    matches!(kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication)
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
