//! YAML documents as trees that remember their lines. Knows no object kinds.

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use crate::limits::{MAX_YAML_DEPTH, MAX_YAML_NODES};

/// A value and the line it starts on, counted from 1 within the text it was read from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Line of its first character.
    pub(crate) line: u32,
    /// What it is.
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A scalar as written; `plain` when without quotes, so that it may be a number or a boolean.
    Scalar {
        /// The text.
        text: Box<str>,
        /// Without quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Fields in their order.
    Mapping(Vec<(Key, Node)>),
}

/// A field's name and its line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    /// Line of the name.
    pub(crate) line: u32,
    /// The name.
    pub(crate) name: Box<str>,
}

/// Why a text is not a tree.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct SyntaxError {
    /// Line within the text.
    pub(crate) line: u32,
    /// What is wrong there.
    pub(crate) reason: String,
}

impl Node {
    /// The field `name` of a mapping.
    pub(crate) fn field(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(fields) => fields
                .iter()
                .find(|(key, _)| &*key.name == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The node at the end of a path of field names.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.field(name))
    }

    /// The text of a scalar that is not null.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Whether it is `null`, `~` or left out.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads one document; `None` when it holds nothing but comments.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    Reader {
        parser,
        anchors: Vec::new(),
        nodes: 0,
    }
    .document()
}

type Events<'a> = Parser<'a, granit_parser::StrInput<'a>>;

struct Reader<'a> {
    parser: Events<'a>,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Option<Node>, SyntaxError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) => {
                    if root.is_some() {
                        return Err(refuse(
                            span,
                            "a second document starts without a line `---`",
                        ));
                    }
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => Err(SyntaxError {
                line: line_of(error.marker().line()),
                reason: error.info(),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        self.nodes += 1;
        if self.nodes > MAX_YAML_NODES {
            return Err(refuse(
                span,
                "the document has too many values; split it into several",
            ));
        }
        if depth > MAX_YAML_DEPTH {
            return Err(refuse(span, "values are nested too deep"));
        }
        let line = line_of(span.start.line());
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (
                    Value::Scalar {
                        text: text.into(),
                        plain,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, span, depth),
            _ => return Err(refuse(span, "this is not a value")),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let found = self.anchors.iter().rev().find(|(id, _)| *id == anchor);
        let Some((_, node)) = found else {
            return Err(refuse(span, "this alias has no anchor before it"));
        };
        let (size, height) = extent(node);
        if depth + height > MAX_YAML_DEPTH {
            return Err(refuse(span, "aliases nest values too deep"));
        }
        self.nodes = self.nodes.saturating_add(size);
        if self.nodes > MAX_YAML_NODES {
            return Err(refuse(span, "aliases expand to too many values"));
        }
        let mut node = node.clone();
        node.line = line_of(span.start.line());
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut fields: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(Value::Mapping(fields)),
                Event::Scalar(text, ..) => Box::<str>::from(text),
                _ => return Err(refuse(span, "the name of a field must be a text")),
            };
            if &*name == "<<" {
                return Err(refuse(
                    span,
                    "merge keys (<<) are not read; write the fields out",
                ));
            }
            if let Some((first, _)) = fields.iter().find(|(key, _)| key.name == name) {
                let reason = format!("the field {name} is there already, on line {}", first.line);
                return Err(refuse(span, &reason));
            }
            let key = Key {
                line: line_of(span.start.line()),
                name,
            };
            let (event, span) = self.next()?;
            fields.push((key, self.node(event, span, depth + 1)?));
        }
    }
}

/// Number of nodes and levels.
fn extent(node: &Node) -> (usize, usize) {
    let below = |children: &mut dyn Iterator<Item = &Node>| {
        children.map(extent).fold((1, 1), |(size, height), (s, h)| {
            (size + s, height.max(h + 1))
        })
    };
    match &node.value {
        Value::Scalar { .. } => (1, 1),
        Value::Sequence(items) => below(&mut items.iter()),
        Value::Mapping(fields) => below(&mut fields.iter().map(|(_, node)| node)),
    }
}

fn refuse(span: Span, reason: &str) -> SyntaxError {
    SyntaxError {
        line: line_of(span.start.line()),
        reason: reason.to_owned(),
    }
}

fn line_of(line: usize) -> u32 {
    u32::try_from(line.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Node {
        parse(text).unwrap().unwrap()
    }

    #[test]
    fn lines_are_those_of_the_text() {
        let node = read("# first\nkind: Pod\nspec:\n  ports:\n  - a\n  - {b: 1}\n");
        assert_eq!(node.field("kind").unwrap().line, 2);
        let ports = node.at(&["spec", "ports"]).unwrap();
        let Value::Sequence(items) = &ports.value else {
            panic!("{ports:?}")
        };
        assert_eq!((items[0].line, items[1].line), (5, 6));
        assert_eq!(items[1].field("b").unwrap().text(), Some("1"));
    }

    #[test]
    fn json_is_read_too() {
        let node = read("{\"kind\": \"Pod\",\n \"metadata\": {\"name\": \"a\"}}");
        assert_eq!(node.at(&["metadata", "name"]).unwrap().line, 2);
    }

    #[test]
    fn what_is_refused_says_why_and_where() {
        for (text, line, part) in [
            (
                "a: 1\nb: 2\na: 3\n",
                3,
                "the field a is there already, on line 1",
            ),
            ("x: &x {a: 1}\ny:\n  <<: *x\n", 3, "merge keys"),
            ("a: [1, 2\nb: 3\n", 2, ""),
            ("a: *nothing\n", 1, ""),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.reason.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn aliases_expand_within_a_budget() {
        let node = read("a: &a [1, 2]\nb: *a\n");
        assert_eq!(
            node.field("a").unwrap().value,
            node.field("b").unwrap().value
        );
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            let inner = vec![format!("*a{}", i - 1); 10].join(",");
            text += &format!("a{i}: &a{i} [{inner}]\n");
        }
        assert!(parse(&text).unwrap_err().reason.contains("too many"));
    }

    #[test]
    fn deep_nesting_ends_in_an_error() {
        let text = "[".repeat(100_000);
        assert!(parse(&text).is_err());
    }

    #[test]
    fn comments_alone_are_nothing() {
        assert_eq!(parse("# nothing\n\n").unwrap(), None);
    }
}
