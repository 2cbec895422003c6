//! The cases and their repetitions: direct and meshed take turns, so that what the machine does
//! beside falls on both.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::Effort;
use super::bulk;
use super::requests;
use super::stage::{Pair, Stage};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Case {
    Bulk1,
    Bulk4,
    Requests1,
    Requests64,
    Connections,
}

pub(crate) const CASES: [Case; 5] = [
    Case::Bulk1,
    Case::Bulk4,
    Case::Requests1,
    Case::Requests64,
    Case::Connections,
];

/// Clients that open new connections.
const CLIENTS: usize = 16;

impl Case {
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Bulk1 => "bulk, 1 stream",
            Self::Bulk4 => "bulk, 4 streams",
            Self::Requests1 => "requests, 1 connection",
            Self::Requests64 => "requests, 64 connections",
            Self::Connections => "new connections, 16 clients",
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Bytes, requests or connections per second.
    pub(crate) rate: f64,
    /// Median time of one, where there is one.
    pub(crate) p50_us: f64,
    /// 99th percentile of the same.
    pub(crate) p99_us: f64,
    /// How many bytes, requests or connections.
    pub(crate) amount: f64,
    /// CPU seconds of both agents over that amount.
    pub(crate) agents_cpu: f64,
}

/// The medians of one case for one way.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) case: Case,
    pub(crate) direct: Summary,
    pub(crate) meshed: Option<Summary>,
}

/// Medians over the rounds, with the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// CPU seconds of both agents per byte, request or connection, over all rounds.
    pub(crate) cpu_per_unit: f64,
    pub(crate) rounds: Vec<Sample>,
}

impl Summary {
    fn new(rounds: Vec<Sample>) -> Self {
        let sum = |of: fn(&Sample) -> f64| rounds.iter().map(of).sum::<f64>();
        Self {
            rate: median(rounds.iter().map(|s| s.rate)),
            p50_us: median(rounds.iter().map(|s| s.p50_us)),
            p99_us: median(rounds.iter().map(|s| s.p99_us)),
            cpu_per_unit: sum(|s| s.agents_cpu) / sum(|s| s.amount).max(1.0),
            rounds,
        }
    }
}

impl Measured {
    /// Meshed over direct.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.meshed
            .as_ref()
            .map(|meshed| meshed.rate / self.direct.rate)
    }
}

/// The middle value; of an even number the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Measures every case.
pub(crate) fn measure(stage: &Stage, effort: Effort) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for case in CASES {
        let (mut direct, mut meshed) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            direct.push(sample(stage, &stage.direct, case, effort.time)?);
            if let Some(pair) = &stage.meshed {
                meshed.push(sample(stage, pair, case, effort.time)?);
            }
        }
        let meshed = stage.meshed.is_some().then(|| Summary::new(meshed));
        let measured = Measured {
            case,
            direct: Summary::new(direct),
            meshed,
        };
        super::report::progress(&measured);
        all.push(measured);
    }
    Ok(all)
}

fn sample(stage: &Stage, pair: &Pair, case: Case, time: Duration) -> Result<Sample> {
    let mut cpu = Vec::new();
    let around = || {
        cpu.push(stage.agents_cpu()?);
        Ok(())
    };
    let mut sample = match case {
        Case::Bulk1 | Case::Bulk4 => {
            let streams = if case == Case::Bulk1 { 1 } else { 4 };
            let moved = bulk::send(&pair.client, pair.bulk, &pair.sink, streams, time, around)?;
            Sample {
                rate: moved.bytes as f64 / moved.seconds,
                amount: moved.bytes as f64,
                ..Sample::default()
            }
        }
        Case::Requests1 => done(requests::ask(
            &pair.client,
            pair.requests[0],
            1,
            time,
            around,
        )?),
        Case::Requests64 => done(requests::ask(
            &pair.client,
            pair.requests[0],
            64,
            time,
            around,
        )?),
        Case::Connections => done(requests::connect(
            &pair.client,
            &pair.requests,
            CLIENTS,
            time,
            around,
        )?),
    };
    if let [before, after] = cpu[..] {
        sample.agents_cpu = after - before;
    }
    Ok(sample)
}

fn done(done: requests::Done) -> Sample {
    Sample {
        rate: done.count as f64 / done.seconds,
        p50_us: done.p50_us,
        p99_us: done.p99_us,
        amount: done.count as f64,
        agents_cpu: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, want) in [
            (vec![], 0.0),
            (vec![3.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0], 2.5),
        ] {
            assert!((median(values.into_iter()) - want).abs() < f64::EPSILON);
        }
    }
}
