//! The input of the decision core: one observation of a job. The field names are API, see `docs/decide.md`.
//!
//! An absent field, or `null`, means unknown and never zero. The same holds for a list: a job always has a source, a
//! partition and, while pods exist, a worker, so an empty list means that the list is not known. Times are Unix
//! seconds. Each sample carries its own time, so that a cached sample does not look like a rate of zero. Offsets are
//! signed: -1 means none, and a source may report any number.

use serde::{Deserialize, Serialize};

use sluice_base::units::Seconds;

/// One observation of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observation {
    /// Time of the observation.
    pub at: Seconds,
    /// Workers requested and present.
    pub replicas: Replicas,
    /// Every source that the job's spec names, whether or not it was ever read. Empty: not known, and the sources that
    /// the partitions name are taken for all of them.
    pub sources: Vec<Source>,
    /// Partitions of all sources.
    pub partitions: Vec<Partition>,
    /// The consumer groups, one for each source that has one.
    pub groups: Vec<Group>,
    /// The workers. Empty: unknown.
    pub workers: Vec<Worker>,
    /// Limits on adding workers.
    pub limits: Limits,
}

/// Workers requested and present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Replicas {
    /// Requested replica count (`spec.replicas` of the workload). Unknown: no decision is made.
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
    /// Name of the source; absent in a job with one source.
    pub name: Option<String>,
    /// Whether its partitions were listed at least once since watching began. Absent: they were if this observation has
    /// any of them.
    pub read: Option<bool>,
    /// Where a group without a commit starts to read: at the start of the log (`true`) or at its end (`false`). Absent:
    /// not known, and records from before watching began are not counted as a backlog.
    pub starts_at_earliest: Option<bool>,
}

/// One partition of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Partition {
    /// `topic/number`, unique in the job.
    pub id: String,
    /// Name of the partition's source; absent in a job with one source.
    pub source: Option<String>,
    /// Time of the sample; absent: `Observation::at`.
    pub at: Option<Seconds>,
    /// Log-end offset (last stable offset under `read_committed`).
    pub end: Option<i64>,
    /// The group's committed offset; -1 if it has none.
    pub committed: Option<i64>,
    /// Next unprocessed offset, if the worker reports it.
    pub position: Option<i64>,
    /// End offset at `at` minus the objective's latency: everything below it is due.
    pub due_end: Option<i64>,
    /// Log-start offset: everything below it was deleted.
    pub start: Option<i64>,
    /// High watermark. It is beyond `end` while a transaction is open: records were appended and cannot be read yet.
    pub high_watermark: Option<i64>,
    /// `Worker::id` of the partition's owner.
    pub owner: Option<String>,
}

/// State of a consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Group {
    /// Name of the group's source.
    pub source: Option<String>,
    /// State as the broker reports it: `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead`, …
    pub state: Option<String>,
    /// `range`, `roundrobin`, `sticky`, `cooperative-sticky`, `uniform`, …
    pub assignor: Option<String>,
    /// Members that are workers of this job.
    pub members: Option<u32>,
    /// Members among these that own no partition.
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
    /// When its counters were read; absent: they were not read.
    pub at: Option<Seconds>,
    /// When the pod was created.
    pub created_at: Option<Seconds>,
    /// When this run of the process started; counters only grow for the same `id` and `startedAt`.
    pub started_at: Option<Seconds>,
    /// Whether the pod is ready.
    pub ready: Option<bool>,
    /// Whether the pod is terminating.
    pub terminating: Option<bool>,
    /// Pod template that the worker was made from.
    pub template: Option<String>,
    /// Counter of records processed.
    pub processed: Option<f64>,
    /// Counter of records processed within the objective's latency.
    pub in_time: Option<f64>,
    /// Counter of seconds spent working, summed over the worker's threads, without waiting for input.
    pub busy_seconds: Option<f64>,
    /// Counter of CPU seconds used.
    pub cpu_seconds: Option<f64>,
    /// Records that the worker can process at the same time.
    pub concurrency: Option<u32>,
}

/// Limits on adding workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Workers that a pool or a quota grants.
    pub granted: Option<u32>,
    /// Pods that no node has room for.
    pub unschedulable: Option<u32>,
    /// Pods that are crash-looping.
    pub crash_looping: Option<u32>,
    /// Pods that cannot start: their image, configuration, volume or init container fails.
    pub failing: Option<u32>,
}
