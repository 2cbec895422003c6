//! The tokio runtimes of the process. Workers are numbered across runtimes, in the order in which
//! they were shown to [`crate::Metrics::watch_runtime`].

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::runtime::Handle;

use crate::labels;

#[derive(Clone, Debug, Default)]
pub(crate) struct RuntimeCollector {
    handles: Arc<Mutex<Vec<Handle>>>,
}

impl RuntimeCollector {
    pub(crate) fn watch(&self, handle: Handle) {
        self.handles.lock().push(handle);
    }
}

impl Collector for RuntimeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all: Vec<_> = self.handles.lock().iter().map(Handle::metrics).collect();
        let sum = |of: fn(&tokio::runtime::RuntimeMetrics) -> usize| all.iter().map(of).sum();
        let workers = sum(tokio::runtime::RuntimeMetrics::num_workers);
        gauge(&mut encoder, "tokio_num_workers", "Worker threads", workers)?;
        let tasks = sum(tokio::runtime::RuntimeMetrics::num_alive_tasks);
        gauge(&mut encoder, "tokio_num_alive_tasks", "Tasks alive", tasks)?;
        let depth = sum(tokio::runtime::RuntimeMetrics::global_queue_depth);
        gauge(
            &mut encoder,
            "tokio_global_queue_depth",
            "Tasks queued globally",
            depth,
        )?;
        let each = all
            .iter()
            .flat_map(|m| (0..m.num_workers()).map(move |w| (m, w)));
        let each: Vec<_> = each.enumerate().collect();
        let mut family = encoder.encode_descriptor(
            "tokio_worker_total_busy_duration_seconds",
            "Time a worker was busy",
            None,
            MetricType::Counter,
        )?;
        for (n, (metrics, worker)) in &each {
            let busy = metrics.worker_total_busy_duration(*worker).as_secs_f64();
            ConstCounter::new(busy).encode(family.encode_family(&[(labels::WORKER, *n)])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "tokio_worker_park_count",
            "Times a worker went to sleep",
            None,
            MetricType::Counter,
        )?;
        for (n, (metrics, worker)) in &each {
            let parks = metrics.worker_park_count(*worker);
            ConstCounter::new(parks).encode(family.encode_family(&[(labels::WORKER, *n)])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "tokio_worker_park_unpark_count",
            "Times a worker went to sleep or woke up",
            None,
            MetricType::Counter,
        )?;
        for (n, (metrics, worker)) in &each {
            let parks = metrics.worker_park_unpark_count(*worker);
            ConstCounter::new(parks).encode(family.encode_family(&[(labels::WORKER, *n)])?)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: usize,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let kind = gauge.metric_type();
    gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)
}
