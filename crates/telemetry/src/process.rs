//! The process as the kernel sees it, read at each scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Collects `process_*`.
#[derive(Debug)]
pub(crate) struct ProcessCollector {
    started: f64,
}

impl ProcessCollector {
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            started: now.unwrap_or_default().as_secs_f64(),
        }
    }
}

/// Ticks per second of `/proc/*/stat`: fixed at 100 in the kernel's interface to user space.
const TICKS: f64 = 100.0;
/// Page size of `/proc/*/statm`; every supported target uses 4 KiB pages.
const PAGE: u64 = 4096;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(
            &mut encoder,
            "process_open_fds",
            "Open descriptors",
            count_fds(),
        )?;
        gauge(
            &mut encoder,
            "process_max_fds",
            "Limit of open descriptors",
            max_fds(),
        )?;
        let [total, resident] = memory();
        gauge(
            &mut encoder,
            "process_virtual_memory_bytes",
            "Virtual memory",
            total,
        )?;
        gauge(
            &mut encoder,
            "process_resident_memory_bytes",
            "Resident memory",
            resident,
        )?;
        let started = ConstGauge::new(self.started);
        let kind = started.metric_type();
        started.encode(encoder.encode_descriptor(
            "process_start_time_seconds",
            "Start in Unix time",
            None,
            kind,
        )?)?;
        let cpu = ConstCounter::new(cpu_seconds());
        let kind = cpu.metric_type();
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", "CPU time", None, kind)?)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let kind = gauge.metric_type();
    gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)
}

fn count_fds() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

fn max_fds() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|l| l.starts_with("Max open files"));
    line.and_then(|l| l.split_whitespace().nth(3)?.parse().ok())
        .unwrap_or(0)
}

/// Bytes of virtual and of resident memory.
fn memory() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split_whitespace().map(|n| n.parse().unwrap_or(0u64));
    std::array::from_fn(|_| pages.next().unwrap_or(0) * PAGE)
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command name, in parentheses, may hold anything; fields are counted after it.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_files_are_understood() {
        assert!(count_fds() > 2);
        assert!(max_fds() > 2);
        assert!(memory().iter().all(|b| *b > 1_000_000), "{:?}", memory());
        let burn = std::time::Instant::now();
        while cpu_seconds() == 0.0 {
            assert!(burn.elapsed().as_secs() < 20, "no CPU time was read");
        }
    }
}
