//! A file's text cut into its documents, so that one malformed document leaves the others
//! readable and an unchanged one is recognised without being parsed. Knows no YAML beyond the
//! markers that stand at the start of a line.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Document<'a> {
    /// Its text, without the markers.
    pub(crate) text: &'a str,
    /// Lines of the file before it.
    pub(crate) offset: u32,
}

/// Splits at lines that start with `---`, which YAML reserves at the start of a line everywhere,
/// even inside block texts. Documents of nothing but blank lines and comments are left out.
pub(crate) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut offset, mut position) = (0, 0, 0);
    for (index, line) in (0u32..).zip(text.split_inclusive('\n')) {
        if is_marker(line) {
            push(&mut documents, &text[start..position], offset);
            // What follows the marker on its line (`--- {kind: Pod}`) belongs to the document.
            // Without any, the text starts on the next line: it is the same wherever it stands.
            let blank = line[3..].trim().is_empty();
            start = position + if blank { line.len() } else { 3 };
            offset = index + u32::from(blank);
        }
        position += line.len();
    }
    push(&mut documents, &text[start..], offset);
    documents
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn push<'a>(documents: &mut Vec<Document<'a>>, text: &'a str, offset: u32) {
    let blank = text.lines().all(|line| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with('#') || line.trim_end() == "..."
    });
    if !blank {
        documents.push(Document { text, offset });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_place() {
        let text = "# head\n---\na: 1\n--- {b: 2}\n---\n# nothing\n---\r\nc: |\n  ---\n  x\n";
        let found: Vec<_> = split(text).iter().map(|d| (d.text, d.offset)).collect();
        assert_eq!(
            found,
            [("a: 1\n", 2), (" {b: 2}\n", 3), ("c: |\n  ---\n  x\n", 7)]
        );
    }

    #[test]
    fn a_longer_dash_line_is_no_marker() {
        assert_eq!(split("a: 1\n----\nb: 2\n").len(), 1);
        assert_eq!(split("").len(), 0);
        assert_eq!(split("\u{feff}a: 1").len(), 1);
    }
}
