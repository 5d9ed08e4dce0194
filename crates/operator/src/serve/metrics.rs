//! The operator's own metrics. Labels are bounded: fixed values, and one set for each job, which is removed with the
//! job.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use sluice_policy::{Action, Decision, Reason};
use sluice_signals::{HubStats, JobKey};

/// The labels of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    namespace: String,
    name: String,
}

impl From<&JobKey> for JobLabels {
    fn from(key: &JobKey) -> Self {
        Self { namespace: key.namespace.clone(), name: key.name.clone() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    action: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    verb: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CategoryLabel {
    category: &'static str,
}

type JobGauge = Family<JobLabels, Gauge<f64, AtomicU64>>;

/// The metrics of the operator. Cheap to clone; all clones share the values.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    decision_seconds: Histogram,
    reconcile_seconds: Histogram,
    reconcile_errors: Family<CategoryLabel, Counter>,
    source_errors: Family<CategoryLabel, Counter>,
    api_writes: Family<WriteLabels, Counter>,
    kept_bytes: Gauge,
    clusters: Gauge,
    scraped: Gauge,
    jobs: JobGauges,
    /// Jobs that have gauges, because a family cannot list its labels.
    shown: Mutex<BTreeSet<JobKey>>,
}

#[derive(Debug, Default)]
struct JobGauges {
    target: JobGauge,
    latency: JobGauge,
    time_lag: JobGauge,
    lag: JobGauge,
    arrival_rate: JobGauge,
    attainment: JobGauge,
    replicas: JobGauge,
    ready: JobGauge,
    desired: JobGauge,
    sample_age: JobGauge,
    capacity: JobGauge,
}

impl JobGauges {
    fn all(&self) -> [(&JobGauge, &'static str, &'static str); 11] {
        [
            (&self.target, "sluice_job_target_seconds", "Latency objective of the job, in seconds"),
            (
                &self.latency,
                "sluice_job_latency_seconds",
                "Latency at the objective's percentile over the last minute, in seconds",
            ),
            (&self.time_lag, "sluice_job_time_lag_seconds", "Age of the oldest unprocessed record, in seconds"),
            (&self.lag, "sluice_job_lag_records", "Number of records that are appended and not yet processed"),
            (&self.arrival_rate, "sluice_job_arrival_rate", "Arrival rate, in records per second"),
            (
                &self.attainment,
                "sluice_job_attainment_ratio",
                "Share of records that met the latency over the objective's window",
            ),
            (&self.replicas, "sluice_job_replicas", "Number of workers that exist"),
            (&self.ready, "sluice_job_ready_replicas", "Number of workers that are ready"),
            (&self.desired, "sluice_job_desired_replicas", "Replica count that Sluice wants"),
            (
                &self.sample_age,
                "sluice_job_sample_age_seconds",
                "Age of the oldest sample that the decision is based on, in seconds",
            ),
            (&self.capacity, "sluice_job_worker_capacity", "Estimated capacity of one worker, in records per second"),
        ]
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        // Buckets from 50 us to 1.6 s for decisions, which are pure arithmetic, and from 1 ms to 32 s for reconciles,
        // which may write.
        let decision_seconds = Histogram::new((0..16).map(|step| 0.000_05 * f64::from(1 << step)));
        let reconcile_seconds = Histogram::new((0..16).map(|step| 0.001 * f64::from(1 << step)));
        let decisions = Family::<DecisionLabels, Counter>::default();
        let reconcile_errors = Family::<CategoryLabel, Counter>::default();
        let source_errors = Family::<CategoryLabel, Counter>::default();
        let api_writes = Family::<WriteLabels, Counter>::default();
        let jobs = JobGauges::default();
        registry.register("sluice_decisions", "Number of decisions, by action and reason", decisions.clone());
        registry.register("sluice_decision_seconds", "Duration of a decision, in seconds", decision_seconds.clone());
        registry.register("sluice_reconcile_seconds", "Duration of a reconcile, in seconds", reconcile_seconds.clone());
        registry.register(
            "sluice_reconcile_errors",
            "Number of failed requests and reconciles, by category",
            reconcile_errors.clone(),
        );
        registry.register(
            "sluice_source_errors",
            "Number of failed reads of sources, by category",
            source_errors.clone(),
        );
        registry.register(
            "sluice_api_writes",
            "Number of writes to the API server, by verb (create, apply, scale, mark, processing, status) and result",
            api_writes.clone(),
        );
        let (kept_bytes, clusters, scraped) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register(
            "sluice_source_kept_bytes",
            "Estimated size of the samples of all jobs; at most half of --source-memory, and 1 MiB for each job",
            kept_bytes.clone(),
        );
        registry.register("sluice_source_clusters", "Number of Kafka clusters that are read", clusters.clone());
        registry.register("sluice_source_workers", "Number of workers whose metrics are read", scraped.clone());
        for (gauge, name, help) in jobs.all() {
            registry.register(name, help, gauge.clone());
        }
        Self(Arc::new(Families {
            registry,
            decisions,
            decision_seconds,
            reconcile_seconds,
            reconcile_errors,
            source_errors,
            api_writes,
            kept_bytes,
            clusters,
            scraped,
            jobs,
            shown: Mutex::default(),
        }))
    }
}

/// Numbers of a job for its gauges.
#[derive(Debug, Clone, Copy, Default)]
pub struct JobNumbers {
    /// Latency objective, seconds.
    pub target: f64,
    /// Number of workers that exist.
    pub replicas: u32,
    /// Number of workers that are ready.
    pub ready: u32,
}

impl Metrics {
    /// Counts one write to the API server.
    pub(crate) fn api_write(&self, verb: &'static str, result: &'static str) {
        self.0.api_writes.get_or_create(&WriteLabels { verb, result }).inc();
    }

    /// Counts a decision and records its duration.
    pub(crate) fn decision(&self, action: Action, reason: Reason, seconds: f64) {
        let action = match action {
            Action::Up => "Up",
            Action::Down => "Down",
            Action::Hold => "Hold",
        };
        self.0.decisions.get_or_create(&DecisionLabels { action, reason: reason.as_str() }).inc();
        self.0.decision_seconds.observe(seconds);
    }

    /// Records the duration of a reconcile.
    pub(crate) fn reconcile(&self, seconds: f64) {
        self.0.reconcile_seconds.observe(seconds);
    }

    /// Counts a failed request or reconcile.
    pub(crate) fn reconcile_error(&self, category: &'static str) {
        self.0.reconcile_errors.get_or_create(&CategoryLabel { category }).inc();
    }

    /// Counts a failed read of a source.
    pub(crate) fn source_error(&self, category: &'static str) {
        self.0.source_errors.get_or_create(&CategoryLabel { category }).inc();
    }

    /// Sets the gauges of sources and workers.
    pub fn sources(&self, stats: &HubStats) {
        let set = |gauge: &Gauge, number: usize| _ = gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        set(&self.0.kept_bytes, stats.kept_bytes);
        set(&self.0.clusters, stats.clusters);
        set(&self.0.scraped, stats.workers);
    }

    /// Sets the gauges of a job. The gauge of an unknown number is removed rather than set to 0.
    pub(crate) fn job(&self, key: &JobKey, numbers: JobNumbers, decision: &Decision) {
        let mut shown = self.shown();
        if !shown.contains(key) {
            shown.insert(key.clone());
        }
        let labels = JobLabels::from(key);
        let jobs = &self.0.jobs;
        let explain = &decision.explain;
        let known: [(&JobGauge, Option<f64>); 11] = [
            (&jobs.target, Some(numbers.target)),
            (&jobs.latency, explain.latency_seconds),
            (&jobs.time_lag, explain.time_lag_seconds),
            (&jobs.lag, explain.lag),
            (&jobs.arrival_rate, explain.arrival_rate),
            (&jobs.attainment, explain.attainment),
            (&jobs.replicas, Some(f64::from(numbers.replicas))),
            (&jobs.ready, Some(f64::from(numbers.ready))),
            (&jobs.desired, decision.desired.map(f64::from)),
            (&jobs.sample_age, explain.sample_age_seconds),
            (&jobs.capacity, explain.model.capacity_per_worker),
        ];
        for (gauge, value) in known {
            match value {
                Some(value) => {
                    gauge.get_or_create(&labels).set(value);
                }
                None => {
                    gauge.remove(&labels);
                }
            }
        }
    }

    /// Returns the jobs that have gauges.
    pub(crate) fn jobs(&self) -> Vec<JobKey> {
        self.shown().iter().cloned().collect()
    }

    fn shown(&self) -> MutexGuard<'_, BTreeSet<JobKey>> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the gauges of a job.
    pub(crate) fn forget(&self, key: &JobKey) {
        let mut shown = self.shown();
        shown.remove(key);
        let labels = JobLabels::from(key);
        for (gauge, _, _) in self.0.jobs.all() {
            gauge.remove(&labels);
        }
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub fn encode(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry).ok().map(|()| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catalogue: D.
    #[test]
    fn gauges_of_a_job_exist_until_it_is_forgotten() {
        let metrics = Metrics::default();
        let key = |name: &str| JobKey { namespace: "team".to_owned(), name: name.to_owned() };
        let decision = Decision::default();
        for name in ["a", "b", "a"] {
            metrics.job(&key(name), JobNumbers::default(), &decision);
        }
        assert_eq!(metrics.jobs(), [key("a"), key("b")]);
        metrics.forget(&key("a"));
        assert_eq!(metrics.jobs(), [key("b")]);
        assert!(!metrics.encode().unwrap().contains("name=\"a\""));
    }
}
