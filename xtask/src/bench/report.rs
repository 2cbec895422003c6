//! What is shown and written.
#![expect(clippy::print_stdout, reason = "a report goes to standard output")]

use serde::Serialize;

use super::bars::{self, Better};
use super::control::Control;
use super::rounds::{Case, Measured, Summary};
use super::stage::Memory;

/// Everything measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) columns: Vec<Column>,
    pub(crate) control: Vec<Control>,
}

/// Everything under one congestion control.
#[derive(Debug, Serialize)]
pub(crate) struct Column {
    pub(crate) congestion_control: String,
    pub(crate) cases: Vec<Measured>,
    pub(crate) memory: Option<Memory>,
}

/// A line while it runs.
pub(crate) fn progress(measured: &Measured) {
    println!("  {}", line(measured));
}

fn line(measured: &Measured) -> String {
    let direct = describe(measured.case, &measured.direct);
    let meshed = measured.meshed.as_ref().map(|m| describe(measured.case, m));
    let ratio = measured.ratio().map(|r| format!("   ratio {r:.2}"));
    format!(
        "{:<28} direct {direct:<34} {}{}",
        measured.case.title(),
        meshed
            .map(|m| format!("meshed {m:<34}"))
            .unwrap_or_default(),
        ratio.unwrap_or_default()
    )
}

fn describe(case: Case, summary: &Summary) -> String {
    match case {
        Case::Bulk1 | Case::Bulk4 => format!("{:.2} Gb/s", summary.rate * 8.0 / 1e9),
        _ => format!(
            "{:.0}/s (p50 {:.0} us, p99 {:.0} us)",
            summary.rate, summary.p50_us, summary.p99_us
        ),
    }
}

impl Report {
    /// Prints the tables.
    pub(crate) fn print(&self) {
        for column in &self.columns {
            println!("\nCongestion control: {}", column.congestion_control);
            for measured in &column.cases {
                println!("  {}", line(measured));
            }
            if let Some(memory) = &column.memory {
                print_memory(memory);
            }
            print_bars(column);
        }
        for control in &self.control {
            println!(
                "\nController, {} workloads, {} clients: {:.0} MiB resident; change to client p50 \
                 {:.0} ms, p99 {:.0} ms; first full push to all {:.0} ms",
                control.workloads,
                control.clients,
                control.resident as f64 / f64::from(1 << 20),
                control.change_p50_ms,
                control.change_p99_ms,
                control.first_push_ms,
            );
        }
    }
}

fn print_memory(memory: &Memory) {
    let mebibytes = |(a, b): (u64, u64)| {
        let one = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!("{:.1} and {:.1} MiB", one(a), one(b))
    };
    println!("  agents resident: idle {}", mebibytes(memory.idle));
    println!(
        "  agents resident: after load {}",
        mebibytes(memory.after_load)
    );
    let (client, server) = memory.per_idle_connection;
    println!(
        "  per idle tunnelled connection: {:.1} and {:.1} KiB",
        client / 1024.0,
        server / 1024.0
    );
}

fn print_bars(column: &Column) {
    let bars = bars::of(column);
    if bars.is_empty() {
        return;
    }
    println!("  {:<42} {:>9} {:>9}", "figure", "measured", "bar");
    for bar in bars {
        let sign = if bar.better == Better::Higher {
            ">="
        } else {
            "<="
        };
        let mark = if bar.met() { "met" } else { "missed" };
        println!(
            "  {:<42} {:>9.2} {sign}{:>7.2}  {mark}",
            bar.title, bar.value, bar.bar
        );
    }
}
