//! The operator's own metrics. Labels are bounded: fixed words, and one set for each job, removed with it.

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

/// A job, as labels.
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

/// Every metric of the operator. Cheap to clone; all clones count together.
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
    /// Those with gauges: a family cannot be asked.
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
            (&self.target, "sluice_job_target_seconds", "The objective's latency"),
            (&self.latency, "sluice_job_latency_seconds", "The objective's percentile of latency over the last minute"),
            (&self.time_lag, "sluice_job_time_lag_seconds", "Age of the oldest unprocessed record"),
            (&self.lag, "sluice_job_lag_records", "Records appended and not yet processed"),
            (&self.arrival_rate, "sluice_job_arrival_rate", "Records appended per second"),
            (
                &self.attainment,
                "sluice_job_attainment_ratio",
                "Share of records that met the latency over the objective's window",
            ),
            (&self.replicas, "sluice_job_replicas", "Workers that exist"),
            (&self.ready, "sluice_job_ready_replicas", "Workers that are ready"),
            (&self.desired, "sluice_job_desired_replicas", "Workers wanted"),
            (&self.sample_age, "sluice_job_sample_age_seconds", "Age of the oldest sample that decisions rest on"),
            (&self.capacity, "sluice_job_worker_capacity", "Records per second that one worker can process"),
        ]
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        // 50 us to 1.6 s, and 1 ms to 32 s: a decision is pure arithmetic, a reconcile may write.
        let decision_seconds = Histogram::new((0..16).map(|step| 0.000_05 * f64::from(1 << step)));
        let reconcile_seconds = Histogram::new((0..16).map(|step| 0.001 * f64::from(1 << step)));
        let decisions = Family::<DecisionLabels, Counter>::default();
        let reconcile_errors = Family::<CategoryLabel, Counter>::default();
        let source_errors = Family::<CategoryLabel, Counter>::default();
        let api_writes = Family::<WriteLabels, Counter>::default();
        let jobs = JobGauges::default();
        registry.register("sluice_decisions", "Decisions, by action and reason", decisions.clone());
        registry.register("sluice_decision_seconds", "Time that one decision took", decision_seconds.clone());
        registry.register("sluice_reconcile_seconds", "Time that one reconcile took", reconcile_seconds.clone());
        registry.register("sluice_reconcile_errors", "Reconciles that failed, by category", reconcile_errors.clone());
        registry.register(
            "sluice_source_errors",
            "Failures of sources and workers, by category",
            source_errors.clone(),
        );
        registry.register(
            "sluice_api_writes",
            "Writes to the API server, by verb (create, apply, scale, mark, processing, status) and result",
            api_writes.clone(),
        );
        let (kept_bytes, clusters, scraped) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register(
            "sluice_source_kept_bytes",
            "What the samples of all jobs take, as estimated; at most half of --source-memory and 1 MiB for each job",
            kept_bytes.clone(),
        );
        registry.register("sluice_source_clusters", "Kafka clusters that are read", clusters.clone());
        registry.register("sluice_source_workers", "Workers whose metrics are read", scraped.clone());
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

/// What is shown of one job.
#[derive(Debug, Clone, Copy, Default)]
pub struct JobNumbers {
    /// The objective's latency, in seconds.
    pub target: f64,
    /// Workers that exist.
    pub replicas: u32,
    /// Workers that are ready.
    pub ready: u32,
}

impl Metrics {
    /// Counts one write to the API server.
    pub(crate) fn api_write(&self, verb: &'static str, result: &'static str) {
        self.0.api_writes.get_or_create(&WriteLabels { verb, result }).inc();
    }

    /// Counts one decision and the time that it took.
    pub(crate) fn decision(&self, action: Action, reason: Reason, seconds: f64) {
        let action = match action {
            Action::Up => "Up",
            Action::Down => "Down",
            Action::Hold => "Hold",
        };
        self.0.decisions.get_or_create(&DecisionLabels { action, reason: reason.as_str() }).inc();
        self.0.decision_seconds.observe(seconds);
    }

    /// Notes how long a reconcile took.
    pub(crate) fn reconcile(&self, seconds: f64) {
        self.0.reconcile_seconds.observe(seconds);
    }

    /// Counts a reconcile that failed.
    pub(crate) fn reconcile_error(&self, category: &'static str) {
        self.0.reconcile_errors.get_or_create(&CategoryLabel { category }).inc();
    }

    /// Counts a failure of a source or a worker.
    pub(crate) fn source_error(&self, category: &'static str) {
        self.0.source_errors.get_or_create(&CategoryLabel { category }).inc();
    }

    /// Shows what sources and workers cost.
    pub fn sources(&self, stats: &HubStats) {
        let show = |gauge: &Gauge, number: usize| _ = gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        show(&self.0.kept_bytes, stats.kept_bytes);
        show(&self.0.clusters, stats.clusters);
        show(&self.0.scraped, stats.workers);
    }

    /// Shows the newest numbers of a job; an unknown number is removed rather than shown as zero.
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

    /// Every job that has gauges.
    pub(crate) fn jobs(&self) -> Vec<JobKey> {
        self.shown().iter().cloned().collect()
    }

    fn shown(&self) -> MutexGuard<'_, BTreeSet<JobKey>> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a job that is gone.
    pub(crate) fn forget(&self, key: &JobKey) {
        let mut shown = self.shown();
        shown.remove(key);
        let labels = JobLabels::from(key);
        for (gauge, _, _) in self.0.jobs.all() {
            gauge.remove(&labels);
        }
    }

    /// The page, in the OpenMetrics text format.
    pub fn encode(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry).ok().map(|()| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_a_job_with_gauges_is_named_until_it_is_forgotten() {
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
