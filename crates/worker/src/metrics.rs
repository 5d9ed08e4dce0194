//! The worker's metrics, written from the totals at each scrape (docs/worker-metrics.md).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::engine::Engine;
use super::process;

/// Builds the registry.
pub(super) fn registry(engine: Arc<Engine>, source: String, topic: String) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Series { engine, source, topic, started: process::start_time() }));
    registry
}

#[derive(Debug)]
struct Series {
    engine: Arc<Engine>,
    source: String,
    topic: String,
    /// Unix time; `None` without /proc.
    started: Option<f64>,
}

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshot = self.engine.snapshot();
        let source = [("source", self.source.as_str())];
        let mut counter = |name: &str, help: &str, value: u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(family.encode_family(&source)?)
        };
        counter("sluice_worker_records_processed", "Records processed", snapshot.processed)?;
        if let Some(in_time) = snapshot.in_time {
            counter("sluice_worker_records_in_time", "Records processed within the objective's latency", in_time)?;
        }
        counter("sluice_worker_records_skipped", "Records that could not be decoded", snapshot.skipped)?;

        let busy = encoder.encode_descriptor(
            "sluice_worker_busy",
            "Time spent processing records, summed over the concurrent lanes",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        ConstCounter::new(snapshot.busy.as_secs_f64()).encode(busy)?;

        let latency = encoder.encode_descriptor(
            "sluice_worker_record_latency",
            "Time from appending a record to the end of its processing",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        histogram(latency, &snapshot)?;

        let mut next = encoder.encode_descriptor(
            "sluice_worker_next_offset",
            "Next unprocessed offset of each partition that this worker currently owns",
            None,
            MetricType::Gauge,
        )?;
        for (partition, offset) in self.engine.scheduler().next_offsets() {
            let labels = [("topic", self.topic.as_str()), ("partition", &partition.to_string())];
            ConstGauge::new(offset).encode(next.encode_family(&labels)?)?;
        }

        let concurrency = i64::try_from(self.engine.scheduler().concurrency()).unwrap_or(i64::MAX);
        let descriptor = encoder.encode_descriptor(
            "sluice_worker_concurrency",
            "Maximum number of records processed at the same time",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(concurrency).encode(descriptor)?;
        let joined = i64::from(self.engine.joined.load(Relaxed));
        let descriptor = encoder.encode_descriptor(
            "sluice_worker_joined",
            "Whether the worker is a member of its consumer group",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(joined).encode(descriptor)?;

        if let Some(started) = self.started {
            let descriptor = encoder.encode_descriptor(
                "process_start_time",
                "Unix time at which the process started",
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?;
            ConstGauge::new(started).encode(descriptor)?;
        }
        if let Some(cpu) = process::cpu_seconds() {
            let descriptor = encoder.encode_descriptor(
                "process_cpu",
                "User and system CPU time used",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?;
            ConstCounter::new(cpu).encode(descriptor)?;
        }
        if let Some(bytes) = process::resident_bytes() {
            let descriptor = encoder.encode_descriptor(
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                MetricType::Gauge,
            )?;
            ConstGauge::new(bytes).encode(descriptor)?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds stay exact in an f64 for 285,000 years")]
fn histogram(mut encoder: MetricEncoder<'_>, snapshot: &super::totals::Snapshot) -> Result<(), std::fmt::Error> {
    let buckets: Vec<(f64, u64)> = snapshot
        .latency_histogram
        .iter()
        .map(|(bound, count)| (bound.map_or(f64::INFINITY, |bound| bound as f64 / 1000.0), *count))
        .collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    encoder.encode_histogram::<NoLabelSet>(snapshot.latency_sum.as_secs_f64(), count, &buckets, None)
}
