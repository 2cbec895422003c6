//! The project's own bars, as ratios to direct or as costs; the report shows which are met.

use super::report::Column;
use super::rounds::{Case, Measured};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One figure and what it should reach.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) title: &'static str,
    pub(crate) value: f64,
    pub(crate) bar: f64,
    pub(crate) better: Better,
}

impl Bar {
    pub(crate) fn met(&self) -> bool {
        match self.better {
            Better::Higher => self.value >= self.bar,
            Better::Lower => self.value <= self.bar,
        }
    }
}

/// The figures of a column with their bars. The bars for bulk depend on congestion control.
pub(crate) fn of(column: &Column) -> Vec<Bar> {
    let cubic = column.congestion_control == "cubic";
    let pick = |other: f64, under_cubic: f64| if cubic { under_cubic } else { other };
    let mut bars = Vec::new();
    for (case, title, bar) in [
        (Case::Bulk1, "bulk 1 stream, ratio", pick(0.40, 0.36)),
        (Case::Bulk4, "bulk 4 streams, ratio", pick(0.30, 0.22)),
        (Case::Requests1, "requests 1 connection, ratio", 0.55),
        (Case::Requests64, "requests 64 connections, ratio", 0.42),
        (Case::Connections, "new connections, ratio", 0.35),
    ] {
        if let Some(value) = find(column, case).and_then(Measured::ratio) {
            bars.push(Bar {
                title,
                value,
                bar,
                better: Better::Higher,
            });
        }
    }
    for (case, title, scale, bar) in [
        (
            Case::Bulk1,
            "CPU s per GB, both agents",
            1e9,
            pick(0.90, 0.75),
        ),
        (
            Case::Requests64,
            "CPU s per 1M requests, 64 connections",
            1e6,
            28.0,
        ),
        (Case::Connections, "CPU us per new connection", 1e6, 170.0),
    ] {
        if let Some(meshed) = find(column, case).and_then(|m| m.meshed.as_ref()) {
            bars.push(Bar {
                title,
                value: meshed.cpu_per_unit * scale,
                bar,
                better: Better::Lower,
            });
        }
    }
    if let Some(memory) = &column.memory {
        let mebibytes = memory.after_load.0.max(memory.after_load.1) as f64 / f64::from(1 << 20);
        let per_idle = memory
            .per_idle_connection
            .0
            .max(memory.per_idle_connection.1)
            / 1024.0;
        let lower = |title, value, bar| Bar {
            title,
            value,
            bar,
            better: Better::Lower,
        };
        bars.push(lower(
            "MiB resident after load, larger agent",
            mebibytes,
            15.0,
        ));
        bars.push(lower(
            "KiB per idle connection, larger agent",
            per_idle,
            5.0,
        ));
    }
    bars
}

fn find(column: &Column, case: Case) -> Option<&Measured> {
    column.cases.iter().find(|measured| measured.case == case)
}
