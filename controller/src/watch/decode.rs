//! Typed objects from trees: a serde deserializer whose errors name the line, the path of the
//! field, the value found and the form accepted. Knows no object kinds.

use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};

use crate::limits::MAX_SHOWN_VALUE;
use crate::watch::yaml::{Key, Node, Value};

/// Why a tree is not the object it claims to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DecodeError {
    /// Line within the document; 0 until known.
    pub(crate) line: u32,
    /// Field path, outermost segment last while it is being built.
    segments: Vec<Segment>,
    /// What is wrong, in words that follow the field's path.
    pub(crate) reason: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Field(String),
    Index(usize),
}

impl DecodeError {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            line: 0,
            segments: Vec::new(),
            reason: reason.into(),
        }
    }

    /// The field's path, such as `spec.rules[0].action`.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.segments.iter().rev() {
            match segment {
                Segment::Field(name) => push_field(&mut path, name),
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    fn at(mut self, line: u32) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    fn within(mut self, segment: Segment) -> Self {
        self.segments.push(segment);
        self
    }
}

/// Appends a field's name to a path; names with dots or slashes are quoted in brackets.
pub(crate) fn push_field(path: &mut String, name: &str) {
    if name.contains(['.', '/', '[', ' ']) {
        path.push_str(&format!("[{name:?}]"));
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path(), self.reason)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!(
            "is {}; expected {}",
            describe(found),
            form(expected)
        ))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!(
            "is {}; expected {}",
            describe(found),
            form(expected)
        ))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut reason = String::from("is not a field here");
        match closest(field, expected) {
            Some(near) => reason += &format!("; did you mean {near}?"),
            None => reason += &format!("; the fields are {}", expected.join(", ")),
        }
        Self::new(reason)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!(
            "is {}; expected {}",
            shown(variant),
            alternatives(expected)
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("is missing").within(Segment::Field(field.to_owned()))
    }
}

/// A value as messages show it: quoted, escaped and cut to a readable length.
pub(crate) fn shown(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN_VALUE) {
        Some((end, _)) => format!("{:?}...", &value[..end]),
        None => format!("{value:?}"),
    }
}

/// `A, B or C`.
pub(crate) fn alternatives(values: &[&str]) -> String {
    match values {
        [] => String::from("nothing"),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// serde's name of a type in the words of someone who writes YAML.
fn form(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u16" => String::from("a whole number from 0 to 65535"),
        "u8" | "u32" | "u64" => String::from("a whole number of at least 0"),
        "i32" | "i64" => String::from("a whole number"),
        "a sequence" => String::from("a list"),
        "a map" => String::from("a set of fields"),
        "a string" => String::from("a text"),
        _ if text.starts_with("struct ") => String::from("a set of fields"),
        _ => text,
    }
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) => shown(text),
        Unexpected::Bool(value) => format!("the boolean {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Unit | Unexpected::Option => String::from("empty"),
        Unexpected::Seq => String::from("a list"),
        Unexpected::Map => String::from("a set of fields"),
        other => other.to_string(),
    }
}

/// The expected name a user most likely meant, if it is near.
pub(crate) fn closest<'a>(name: &str, expected: &[&'a str]) -> Option<&'a str> {
    let near = |other: &&str| {
        let distance = distance(&name.to_lowercase(), &other.to_lowercase());
        (distance <= 2.min(other.len() / 2)).then_some(distance)
    };
    expected
        .iter()
        .filter_map(|e| near(e).map(|d| (d, *e)))
        .min()
        .map(|(_, e)| e)
}

/// Edit distance, for names of field length.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Reads an object of type `T` from a tree.
pub(crate) fn decode<'de, T: de::Deserialize<'de>>(node: &'de Node) -> Result<T, DecodeError> {
    T::deserialize(node).map_err(|error| error.at(node.line))
}

enum Resolved<'a> {
    Null,
    Bool(bool),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

/// The type of a scalar without quotes, after YAML 1.2's core schema.
fn resolve(text: &str, plain: bool) -> Resolved<'_> {
    if !plain {
        return Resolved::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Resolved::Text(text);
    }
    if let Ok(value) = text.parse::<i64>() {
        return Resolved::Signed(value);
    }
    let hex = text
        .strip_prefix("0x")
        .map(|digits| i64::from_str_radix(digits, 16));
    if let Some(Ok(value)) = hex {
        return Resolved::Signed(value);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Resolved::Float(value),
        _ => Resolved::Text(text),
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.value {
            Value::Scalar { text, plain } => match resolve(text, *plain) {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(value) => visitor.visit_bool(value),
                Resolved::Signed(value) => visitor.visit_i64(value),
                Resolved::Float(value) => visitor.visit_f64(value),
                Resolved::Text(text) => visitor.visit_borrowed_str(text),
            },
            Value::Sequence(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Mapping(fields) => visitor.visit_map(Fields {
                fields: fields.iter(),
                value: None,
            }),
        };
        result.map_err(|error| error.at(self.line))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Value::Scalar { text, plain } = &self.value {
            let kind = match resolve(text, *plain) {
                Resolved::Bool(_) => Some("boolean"),
                Resolved::Signed(_) | Resolved::Float(_) => Some("number"),
                Resolved::Null | Resolved::Text(_) => None,
            };
            if let Some(kind) = kind {
                let reason = format!("is the {kind} {text}; expected a text: write \"{text}\"");
                return Err(DecodeError::new(reason).at(self.line));
            }
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let result = match self.text() {
            Some(text) => visitor.visit_enum(text.into_deserializer()),
            None => self.deserialize_any(visitor),
        };
        result.map_err(|error: DecodeError| error.at(self.line))
    }

    // A list or a set of fields that is left empty (`labels:`) counts as given without content.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.is_null() {
            return visitor.visit_seq(Items {
                items: &[],
                next: 0,
            });
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.is_null() {
            return visitor.visit_map(Fields {
                fields: [].iter(),
                value: None,
            });
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct identifier
    }
}

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.items.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        seed.deserialize(node)
            .map(Some)
            .map_err(|error| error.at(node.line).within(Segment::Index(index)))
    }
}

struct Fields<'de> {
    fields: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de (Key, Node)>,
}

impl<'de> de::MapAccess<'de> for Fields<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some(field) = self.fields.next() else {
            return Ok(None);
        };
        self.value = Some(field);
        let key = &field.0;
        seed.deserialize(de::value::BorrowedStrDeserializer::new(&key.name))
            .map(Some)
            .map_err(|error: DecodeError| {
                error
                    .at(key.line)
                    .within(Segment::Field(key.name.to_string()))
            })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let Some((key, node)) = self.value.take() else {
            return Err(DecodeError::new("invariant: a value follows its key"));
        };
        seed.deserialize(node).map_err(|error| {
            error
                .at(node.line)
                .within(Segment::Field(key.name.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::watch::yaml::parse;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Sample {
        name: String,
        #[serde(default)]
        port: Option<u16>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        #[serde(default)]
        rules: Vec<Sample>,
        #[serde(default)]
        mode: Option<Mode>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "UPPERCASE")]
    enum Mode {
        Strict,
        Permissive,
    }

    fn read(text: &str) -> Result<Sample, DecodeError> {
        decode(&parse(text).unwrap().unwrap())
    }

    #[test]
    fn values_take_the_type_that_is_asked_for() {
        let text = "name: 'true'\nport: 80\nlabels:\nmode: STRICT\nrules: [{name: a, port: ~}]\n";
        let sample = read(text).unwrap();
        assert_eq!((sample.name.as_str(), sample.port), ("true", Some(80)));
        assert!(sample.labels.is_empty());
        assert_eq!(sample.mode, Some(Mode::Strict));
        assert_eq!(
            (sample.rules[0].name.as_str(), sample.rules[0].port),
            ("a", None)
        );
    }

    #[test]
    fn errors_name_line_path_value_and_form() {
        for (text, line, message) in [
            (
                "name: a\nport: http\n",
                2,
                "port: is \"http\"; expected a whole number from 0 to 65535",
            ),
            (
                "name: a\nport: 70000\n",
                2,
                "port: is the number 70000; expected a whole number from 0 to 65535",
            ),
            (
                "name: a\nprot: 1\n",
                2,
                "prot: is not a field here; did you mean port?",
            ),
            (
                "name: a\nzzzzzzz: 1\n",
                2,
                "zzzzzzz: is not a field here; the fields are name, port, labels, rules, mode",
            ),
            (
                "name: 1\n",
                1,
                "name: is the number 1; expected a text: write \"1\"",
            ),
            (
                "name: a\nrules:\n- name: b\n- port: 1\n",
                4,
                "rules[1].name: is missing",
            ),
            (
                "name: a\nlabels:\n  app.k8s.io/x: true\n",
                3,
                "labels[\"app.k8s.io/x\"]: is the boolean true; expected a text: write \"true\"",
            ),
            (
                "name: a\nmode: LAX\n",
                2,
                "mode: is \"LAX\"; expected STRICT or PERMISSIVE",
            ),
            (
                "name: a\nrules: 7\n",
                2,
                "rules: is the number 7; expected a list",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(
                (error.line, error.to_string().as_str()),
                (line, message),
                "{text}"
            );
        }
    }
}
