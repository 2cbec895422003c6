//! What needs the syntax: the length of functions, and where unsafe code is.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{File, Finding};

/// Where functions should stop.
const MAX_LINES: usize = 100;

/// Functions that may be longer, by file and name, and why.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Where unsafe code may be.
const UNSAFE_HOMES: &[&str] = &["crates/net/", "ebpf/"];

/// Checks one file.
pub(crate) fn check(file: &File) -> Vec<Finding> {
    let parsed = match syn::parse_file(&file.text) {
        Ok(parsed) => parsed,
        Err(error) => return vec![file.finding(0, format!("cannot be parsed: {error}"))],
    };
    let allowed = UNSAFE_HOMES.iter().any(|home| file.path.starts_with(home));
    let mut visitor = Visitor {
        file,
        unsafe_allowed: allowed,
        findings: Vec::new(),
    };
    visitor.visit_file(&parsed);
    visitor.findings
}

struct Visitor<'a> {
    file: &'a File,
    unsafe_allowed: bool,
    findings: Vec<Finding>,
}

impl Visitor<'_> {
    fn function(&mut self, name: &syn::Ident, block: &syn::Block) {
        let (start, end) = (block.span().start().line, block.span().end().line);
        let lines = end.saturating_sub(start) + 1;
        let excused = self.file.is_test()
            || LONG_FUNCTIONS
                .iter()
                .any(|(path, function, _)| *path == self.file.path && name == function);
        if lines > MAX_LINES && !excused {
            let what = format!("function {name} has {lines} lines; stop at {MAX_LINES}");
            self.findings.push(self.file.finding(start, what));
        }
    }

    fn unsafe_at(&mut self, span: Span) {
        if !self.unsafe_allowed {
            let what = "unsafe code lives in crates/net and ebpf only";
            self.findings
                .push(self.file.finding(span.start().line, what));
        }
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = signature.unsafety {
            self.unsafe_at(token.span);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_at(block.unsafe_token.span);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = item.unsafety {
            self.unsafe_at(token.span);
        }
        visit::visit_item_impl(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&File {
            path: path.into(),
            text: text.into(),
        })
        .len()
    }

    #[test]
    fn each_rule_can_fail() {
        let long = format!("fn a() {{{}}}", "\n".repeat(MAX_LINES + 1));
        assert_eq!(found("crates/a/src/b.rs", &long), 1);
        assert_eq!(found("crates/a/src/b.rs", "fn a() { unsafe { b() } }"), 1);
        assert_eq!(found("crates/a/src/b.rs", "unsafe impl Send for A {}"), 1);
        assert_eq!(found("crates/net/src/b.rs", "fn a() { unsafe { b() } }"), 0);
        assert_eq!(found("crates/a/src/b.rs", "fn {"), 1);
    }
}
