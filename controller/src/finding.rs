//! What is wrong with an object, in a form that serves a reader at a terminal and a program alike.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::api::Kind;

/// Where an object was read.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// File, relative to the directory.
    pub file: Arc<str>,
    /// Lines of the file before the object's document.
    pub offset: u32,
    /// Lines of its fields.
    pub lines: Arc<Lines>,
}

impl Place {
    /// The line in the file of a field, or of the nearest field around it that is written.
    #[must_use]
    pub fn line_of(&self, path: &str) -> u32 {
        self.offset + self.lines.find(path)
    }
}

/// The lines of an object's fields, by a hash of their path: a few bytes per field, so that ten
/// thousand objects can keep theirs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    first: u32,
    by_path: Box<[(u32, u32)]>,
}

impl Lines {
    /// From the first line and pairs of path and line.
    pub(crate) fn new(first: u32, fields: impl Iterator<Item = (String, u32)>) -> Self {
        let mut by_path: Vec<_> = fields.map(|(path, line)| (hash(&path), line)).collect();
        by_path.sort_unstable();
        Self {
            first,
            by_path: by_path.into(),
        }
    }

    fn find(&self, path: &str) -> u32 {
        let mut path = path;
        while !path.is_empty() {
            let hash = hash(path);
            if let Ok(index) = self.by_path.binary_search_by_key(&hash, |(path, _)| *path) {
                return self.by_path[index].1;
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
        self.first
    }
}

/// FNV-1a. Two fields of one object with one hash would show one of their lines for the other.
fn hash(path: &str) -> u32 {
    path.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The object is in force; somebody should know this about it.
    Warning,
    /// The object, or the part that is named, is not in force.
    Refused,
}

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// File, relative to the directory.
    pub file: Arc<str>,
    /// Line in it.
    pub line: u32,
    /// Its kind, as far as it could be read.
    pub kind: String,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its name, as far as it could be read.
    pub name: String,
    /// How bad it is.
    pub level: Level,
    /// Path of the field; empty for the object as a whole.
    pub field: String,
    /// What is wrong, with the value, the form accepted and what to do.
    pub message: String,
    /// What it means for the traffic, where that is not obvious.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub effect: String,
}

/// A problem inside one object, before it is known where the object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// Path of the field.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// One that refuses the object.
    pub fn refused(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level: Level::Refused,
            field: field.into(),
            message: message.into(),
        }
    }

    /// One to know about.
    pub fn warning(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            field: field.into(),
            message: message.into(),
        }
    }

    /// Places it.
    #[must_use]
    pub fn of(self, kind: Kind, namespace: &str, name: &str, place: &Place) -> Finding {
        Finding {
            file: Arc::clone(&place.file),
            line: place.line_of(&self.field),
            kind: kind.as_str().to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            level: self.level,
            field: self.field,
            message: self.message,
            effect: String::new(),
        }
    }
}

impl Finding {
    /// The object as people name it: `Kind namespace/name`.
    #[must_use]
    pub fn object(&self) -> String {
        let kind = if self.kind.is_empty() {
            "object"
        } else {
            &self.kind
        };
        match (self.namespace.is_empty(), self.name.is_empty()) {
            (_, true) => kind.to_owned(),
            (true, false) => format!("{kind} {}", self.name),
            (false, false) => format!("{kind} {}/{}", self.namespace, self.name),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: ", self.file, self.line, self.object())?;
        if self.level == Level::Warning {
            f.write_str("warning: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{} ", self.field)?;
        }
        f.write_str(&self.message)?;
        if !self.effect.is_empty() {
            write!(f, " ({})", self.effect)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_not_written_has_the_line_of_the_one_around_it() {
        let fields = [("spec", 3), ("spec.rules", 4), ("spec.rules[0]", 5)];
        let lines = Lines::new(1, fields.iter().map(|(p, l)| ((*p).to_owned(), *l)));
        for (path, line) in [
            ("spec.rules[0].to", 5),
            ("spec.rules[1]", 4),
            ("metadata.name", 1),
            ("", 1),
        ] {
            assert_eq!(lines.find(path), line, "{path}");
        }
    }
}
