//! How long files and functions may be.

use anyhow::{Context, Result};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::Finding;
use super::repository::{File, Repository};

/// Lines of a file of production code.
const FILE_LINES: usize = 600;
/// Lines of a function of production code, with its signature.
const FUNCTION_LINES: usize = 100;

/// Functions that may be longer, as `path:function`, each with the reason beside it.
const LONG_FUNCTIONS: &[&str] = &[];

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in repository.rust().filter(|f| !f.is_test()) {
        let lines = production_lines(file);
        if lines > FILE_LINES {
            findings.push(Finding::new(
                &file.path,
                format!("{lines} lines before its tests, {FILE_LINES} is the limit: split it"),
            ));
        }
        findings.extend(long_functions(file)?);
    }
    Ok(findings)
}

/// Lines before an inline test module.
fn production_lines(file: &File) -> usize {
    file.text
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .count()
}

fn long_functions(file: &File) -> Result<Vec<Finding>> {
    let syntax = syn::parse_file(&file.text).with_context(|| file.path.clone())?;
    let mut visitor = Functions {
        path: &file.path,
        findings: Vec::new(),
    };
    visitor.visit_file(&syntax);
    Ok(visitor.findings)
}

struct Functions<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &str, span: Span) {
        let lines = span.end().line - span.start().line + 1;
        let place = format!("{}:{name}", self.path);
        if lines > FUNCTION_LINES && !LONG_FUNCTIONS.contains(&place.as_str()) {
            let problem = format!("{lines} lines, {FUNCTION_LINES} is the limit: name its phases");
            self.findings.push(Finding::new(place, problem));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let for_tests = module.attrs.iter().any(|a| {
            a.path().is_ident("cfg")
                && a.parse_args::<syn::Path>()
                    .is_ok_and(|p| p.is_ident("test"))
        });
        if !for_tests {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig.ident.to_string(), function.span());
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig.ident.to_string(), function.span());
        syn::visit::visit_impl_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_found_and_one_in_tests_is_not() {
        let body = "    let _ = 1;\n".repeat(FUNCTION_LINES);
        let text =
            format!("fn long() {{\n{body}}}\n#[cfg(test)]\nmod tests {{ fn t() {{\n{body}}} }}\n");
        let found = long_functions(&File {
            path: "a.rs".to_owned(),
            text,
        })
        .unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].place, "a.rs:long");
    }
}
