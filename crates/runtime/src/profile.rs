//! CPU profiles in the format of `pprof`, gzipped.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use prost::Message;
use tokio::sync::Semaphore;

use crate::http::{Request, Response};
use crate::limits;

static RUNNING: Semaphore = Semaphore::const_new(limits::PROFILES);

/// `GET /debug/pprof/profile`.
pub(crate) async fn cpu(request: Request) -> Response {
    let (seconds, frequency) = match (
        request.number("seconds", 10, 1..=300),
        request.number("frequency", 100, 1..=1000),
    ) {
        (Ok(seconds), Ok(frequency)) => (seconds, frequency),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    let Ok(_running) = RUNNING.try_acquire() else {
        return Response::text("a profile is being taken: try again after it\n").status(429);
    };
    let report = match sample(Duration::from_secs(seconds), frequency).await {
        Ok(report) => report,
        Err(error) => return Response::text(format!("profiling failed: {error}\n")).status(500),
    };
    match encode(&report, Duration::from_secs(seconds), frequency) {
        Ok(body) => Response::new("application/octet-stream", body),
        Err(error) => Response::text(format!("profile not encoded: {error}\n")).status(500),
    }
}

/// `GET /debug/pprof/heap` where the allocator keeps no profile.
pub(crate) fn heap_missing() -> Response {
    Response::text(
        "this build's allocator keeps no heap profile; resident memory is at \
         /stats/prometheus on the metrics port, as process_resident_memory_bytes\n",
    )
    .status(501)
}

async fn sample(time: Duration, frequency: u64) -> pprof::Result<pprof::Report> {
    let frequency = i32::try_from(frequency).unwrap_or(100);
    // Samples inside these would unwind while their locks are held.
    let guard = pprof::ProfilerGuardBuilder::default()
        .frequency(frequency)
        .blocklist(&["libc", "libgcc", "pthread", "vdso"])
        .build()?;
    tokio::time::sleep(time).await;
    guard.report().build()
}

/// `perftools.profiles.Profile`, as far as it is used. Field numbers are the format's.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// The tables a profile is made of, filled once per distinct entry.
#[derive(Default)]
struct Tables {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<(u64, u32), u64>,
}

impl Tables {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(at) = self.strings.get(text) {
            return *at;
        }
        let at = i64::try_from(self.profile.string_table.len()).unwrap_or(0);
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), at);
        at
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (self.string(name), self.string(file));
        let next = self.profile.function.len() as u64 + 1;
        let id = *self.functions.entry(key).or_insert(next);
        if id == next {
            self.profile.function.push(Function {
                id,
                name: key.0,
                filename: key.1,
            });
        }
        id
    }

    fn location(&mut self, symbol: &pprof::Symbol) -> u64 {
        let function = self.function(&symbol.name(), &symbol.filename());
        let line = symbol.lineno();
        let next = self.profile.location.len() as u64 + 1;
        let id = *self.locations.entry((function, line)).or_insert(next);
        if id == next {
            let line = vec![Line {
                function_id: function,
                line: line.into(),
            }];
            self.profile.location.push(Location { id, line });
        }
        id
    }
}

fn encode(report: &pprof::Report, time: Duration, frequency: u64) -> std::io::Result<Vec<u8>> {
    let mut tables = Tables::default();
    // The format wants the empty string first.
    tables.string("");
    let samples = ValueType {
        r#type: tables.string("samples"),
        unit: tables.string("count"),
    };
    let cpu = ValueType {
        r#type: tables.string("cpu"),
        unit: tables.string("nanoseconds"),
    };
    let period = i64::try_from(1_000_000_000 / frequency.max(1)).unwrap_or(0);
    for (frames, count) in &report.data {
        let symbols = frames.frames.iter().flatten();
        let location_id = symbols.map(|symbol| tables.location(symbol)).collect();
        let count = i64::try_from(*count).unwrap_or(0);
        let value = vec![count, count.saturating_mul(period)];
        tables.profile.sample.push(Sample { location_id, value });
    }
    let mut profile = tables.profile;
    profile.sample_type = vec![samples, cpu.clone()];
    profile.duration_nanos = i64::try_from(time.as_nanos()).unwrap_or(0);
    profile.period_type = Some(cpu);
    profile.period = period;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&profile.encode_to_vec())?;
    gzip.finish()
}
