//! What the decision core is told: one look at a job. The names are the contract of `sluice decide`.
//!
//! An absent field, or `null`, means unknown and never zero. The same holds for a list: a job always has a source, a
//! partition and, while pods exist, a worker, so an empty list means that the list is not known. Times are Unix seconds.
//! Each sample carries its own time, so that a cached one is not read as a rate of zero. Offsets are signed: -1 is
//! "none", and a source may report anything.

use serde::{Deserialize, Serialize};

use sluice_base::units::Seconds;

/// One look at a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observation {
    /// When this was put together.
    pub at: Seconds,
    /// Workers wanted and there.
    pub replicas: Replicas,
    /// Every source that the job's spec names, whether or not it was ever read. Empty: not known; the sources that the
    /// partitions name are then taken for all of them.
    pub sources: Vec<Source>,
    /// Partitions of all sources.
    pub partitions: Vec<Partition>,
    /// The consumer groups, one for each source that has one.
    pub groups: Vec<Group>,
    /// The workers. Empty: unknown.
    pub workers: Vec<Worker>,
    /// What stands in the way of more workers.
    pub limits: Limits,
}

/// Workers wanted and there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Replicas {
    /// What the workload asks for now (`spec.replicas` of the workload). Unknown: no decision is taken.
    pub desired: Option<u32>,
    /// Pods that exist and are not terminating.
    pub existing: Option<u32>,
    /// Pods that are ready.
    pub ready: Option<u32>,
}

/// One source that the job's spec names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Its name; absent in a job with one source.
    pub name: Option<String>,
    /// Whether its partitions were listed at least once since the watch began. Absent: they were if any is in this
    /// observation.
    pub read: Option<bool>,
    /// Where a group without a commit starts to read: at the log's start (`true`) or at its end (`false`). Absent: not
    /// known, and records before the watch are then not taken for a backlog.
    pub starts_at_earliest: Option<bool>,
}

/// One partition of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Partition {
    /// `topic/number`, unique in the job.
    pub id: String,
    /// Name of its source; absent in a job with one source.
    pub source: Option<String>,
    /// When it was sampled; absent: `Observation::at`.
    pub at: Option<Seconds>,
    /// Log-end offset (last stable offset under `read_committed`).
    pub end: Option<i64>,
    /// The group's committed offset; -1: none.
    pub committed: Option<i64>,
    /// Next unprocessed offset, if the worker says it.
    pub position: Option<i64>,
    /// End offset as of `at` minus the objective's latency: everything below it is due.
    pub due_end: Option<i64>,
    /// Log-start offset: everything below it is gone.
    pub start: Option<i64>,
    /// High watermark. Beyond `end` where a transaction is open: records that were appended and cannot be read yet.
    pub high_watermark: Option<i64>,
    /// `Worker::id` of its owner.
    pub owner: Option<String>,
}

/// State of a consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Group {
    /// Name of its source.
    pub source: Option<String>,
    /// `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead`, …, as the broker says it.
    pub state: Option<String>,
    /// `range`, `roundrobin`, `sticky`, `cooperative-sticky`, `uniform`, …
    pub assignor: Option<String>,
    /// Members that are workers of this job.
    pub members: Option<u32>,
    /// Of these, members that own no partition.
    pub idle_members: Option<u32>,
    /// Members that are not workers of this job.
    pub strangers: Option<u32>,
}

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Worker {
    /// Name of the pod.
    pub id: String,
    /// When its counters were read; absent: they were not.
    pub at: Option<Seconds>,
    /// When the pod was created.
    pub created_at: Option<Seconds>,
    /// When this incarnation of the process started; counters only grow for the same `id` and `startedAt`.
    pub started_at: Option<Seconds>,
    /// Whether the pod is ready.
    pub ready: Option<bool>,
    /// Whether it is on its way out.
    pub terminating: Option<bool>,
    /// Which pod template it was made from.
    pub template: Option<String>,
    /// Records processed.
    pub processed: Option<f64>,
    /// Records processed within the objective's latency.
    pub in_time: Option<f64>,
    /// Seconds spent working, summed over its threads, not waiting for input.
    pub busy_seconds: Option<f64>,
    /// Seconds of CPU used.
    pub cpu_seconds: Option<f64>,
    /// Records that it can process at the same time.
    pub concurrency: Option<u32>,
}

/// What stands in the way of more workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Workers that a pool or a quota allows.
    pub granted: Option<u32>,
    /// Pods that no node can take.
    pub unschedulable: Option<u32>,
    /// Pods that crash again and again.
    pub crash_looping: Option<u32>,
    /// Pods that cannot start: their image, configuration, volume or init container fails.
    pub failing: Option<u32>,
}
