//! The reference page of environment variables, made from the table they are read by.

use std::fmt::Write as _;

use super::variables::{PREFIXES, SECTIONS};

/// The page as Markdown: `docs/reference/ztunnel-environment.md`.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Environment variables of the node agent\n\n\
         Generated from the table in `ztunnel/src/config/variables.rs`. Values are read once, at start. A value that\n\
         is not understood, a contradiction, or an unknown name that starts with `AMBIT_` stops the start, with every error\n\
         listed. Durations are written `10s`, `5m`, `1h30m`; a bare number is seconds. The effective configuration is\n\
         served at `/config` on the admin port, without secrets.\n",
    );
    for section in SECTIONS {
        row(&mut page, format_args!("\n## {}\n", section.title));
        row(
            &mut page,
            format_args!("| Variable | Form | Default | Meaning |\n|---|---|---|---|"),
        );
        for variable in section.variables {
            row(
                &mut page,
                format_args!(
                    "| `{}` | {} | {} | {} |",
                    variable.name,
                    variable.form,
                    if variable.default.is_empty() {
                        "–"
                    } else {
                        variable.default
                    },
                    variable.meaning
                ),
            );
        }
    }
    row(
        &mut page,
        format_args!("\n## Prefixes\n\n| Prefix | Meaning |\n|---|---|"),
    );
    for (prefix, meaning) in PREFIXES {
        row(&mut page, format_args!("| `{prefix}*` | {meaning} |"));
    }
    page
}

fn row(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("invariant: writing to a String does not fail");
}
