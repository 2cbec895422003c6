//! The shape of a line. Text: time, level, target and message, divided by tabs, then the fields.
//! JSON: `level`, `time`, `scope`, `message`, then the fields.

use std::fmt::{self, Write as _};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// Formats events.
pub(super) struct Lines {
    pub(super) json: bool,
}

/// Formats the fields of spans.
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Visitor::default();
        fields.record(&mut visitor);
        writer.write_str(visitor.text.trim_start())
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let time = OffsetDateTime::now_utc()
            .format(TIME)
            .map_err(|_| fmt::Error)?;
        let scope = scope(meta.target());
        if self.json {
            let mut visitor = JsonVisitor::default();
            event.record(&mut visitor);
            let message = visitor.message.unwrap_or_default();
            write!(
                out,
                r#"{{"level":"{}","time":"{time}","scope":{},"message":{}{}}}"#,
                level(*meta.level()),
                json(scope),
                json(&message),
                visitor.text
            )?;
        } else {
            let mut visitor = Visitor::default();
            event.record(&mut visitor);
            let message = visitor.message.unwrap_or_default();
            write!(out, "{time}\t{}\t{scope}\t{message}", level(*meta.level()))?;
            if !visitor.text.is_empty() {
                write!(out, "\t{}", visitor.text.trim_start())?;
            }
        }
        out.write_char('\n')
    }
}

/// The target as Istio's tools show it: without the program's own name.
fn scope(target: &str) -> &str {
    target.strip_prefix("ztunnel::").unwrap_or(target)
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Without line breaks: a peer's text must not forge a second line.
fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| {
            let escape = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escape.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[derive(Default)]
struct Visitor {
    message: Option<String>,
    text: String,
}

impl Visitor {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        write!(self.text, " {}={value}", field.name()).ok();
    }
}

impl Visit for Visitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = one_line(&format!("{value:?}"));
        if field.name() == "message" {
            self.message = Some(text);
        } else {
            self.put(field, format_args!("{text}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = Some(one_line(value));
        } else {
            self.put(field, format_args!("{value:?}"));
        }
    }
}

#[derive(Default)]
struct JsonVisitor {
    message: Option<String>,
    text: String,
}

impl JsonVisitor {
    fn put(&mut self, field: &Field, value: impl Into<serde_json::Value>) {
        let value: serde_json::Value = value.into();
        if field.name() == "message" {
            self.message = Some(value.as_str().unwrap_or_default().to_owned());
        } else {
            write!(self.text, ",{}:{value}", json(field.name())).ok();
        }
    }
}

impl Visit for JsonVisitor {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_forge_a_line() {
        assert_eq!(one_line("a\nb\tc"), "a\\nb\\tc");
        assert_eq!(one_line("plain"), "plain");
    }

    #[test]
    fn targets_lose_the_program_name() {
        assert_eq!(scope("ztunnel::proxy::inbound"), "proxy::inbound");
        assert_eq!(scope("access"), "access");
    }
}
