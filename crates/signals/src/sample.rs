//! The hub's input, which is what to sample, and its output, the samples.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluice_api::v1alpha1::Kafka;
use sluice_base::units::Seconds;

/// A job, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// Namespace of the `StreamJob`.
    pub namespace: String,
    /// Name of the `StreamJob`.
    pub name: String,
}

impl fmt::Display for JobKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// What to sample for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSpec {
    /// Latency of the objective: determines how often the job is sampled, and which records are due.
    pub latency: Duration,
    /// Sources of the job.
    pub sources: Vec<SourceSpec>,
    /// Metrics pages of the job's workers; empty if they have none.
    pub workers: Vec<WorkerEndpoint>,
}

/// One source to sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// Name of the source in the job.
    pub name: String,
    /// The topic and the consumer group.
    pub kafka: Kafka,
}

/// The metrics page of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerEndpoint {
    /// Name of the pod.
    pub id: String,
    /// Uid of the pod: another pod of the same name is another worker.
    pub uid: String,
    /// Address and port of the page.
    pub address: SocketAddr,
    /// HTTP path of the page.
    pub path: String,
}

/// The newest samples of a job. Each of them has its own time.
#[derive(Debug, Clone, Default)]
pub struct JobSamples {
    /// One reading for each source of the watch, in its order.
    pub sources: Vec<SourceReading>,
    /// One reading for each worker of the watch, in its order.
    pub workers: Vec<WorkerReading>,
}

/// The newest sample of one source.
#[derive(Debug, Clone)]
pub struct SourceReading {
    /// Name of the source in the job.
    pub name: String,
    /// The newest successful sample, at least of some partitions.
    pub sample: Option<Arc<SourceSample>>,
    /// Why the newest attempt failed; `None` if it succeeded, or if no attempt has ended yet.
    pub failure: Option<Failure>,
}

/// Why a source or worker could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// When the newest failed attempt ended.
    pub at: Seconds,
    /// When the first failed attempt after the last success ended.
    pub since: Seconds,
    /// Category of the failure.
    pub category: Category,
    /// What failed, where, and the fix; at most 300 characters.
    pub message: String,
}

/// The category of a failure. Each is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// The address does not answer, or not in time.
    Unreachable,
    /// Access is denied: authentication or authorization failed.
    Unauthorised,
    /// Sluice's egress policy denies the connection.
    DestinationRefused,
    /// A limit of the job, the namespace or the process is exceeded. The message names the limit.
    LimitExceeded,
    /// The topic does not exist.
    TopicMissing,
    /// The answer cannot be understood.
    Protocol,
}

impl Category {
    /// Returns the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unauthorised => "unauthorised",
            Self::DestinationRefused => "destination_refused",
            Self::LimitExceeded => "limit_exceeded",
            Self::TopicMissing => "topic_missing",
            Self::Protocol => "protocol",
        }
    }
}

/// One sample of a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceSample {
    /// When the end offsets were read.
    pub at: Seconds,
    /// Every partition of the topic, ordered by number. Values that are unknown are `None`.
    pub partitions: Vec<PartitionSample>,
    /// The consumer group; `None` if it could not be read.
    pub group: Option<GroupSample>,
    /// Whether the topic's timestamps are set by producers rather than on appending; `None` if unknown. Due ends are
    /// known only if this is `false`.
    pub producer_time: Option<bool>,
}

impl SourceSample {
    /// Returns whether the group, and the end and the committed offset of every partition, are known.
    pub(super) fn is_complete(&self) -> bool {
        let known = |each: &PartitionSample| each.end.is_some() && each.committed.is_some();
        self.group.is_some() && self.partitions.iter().all(known)
    }
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionSample {
    /// Topic and partition number, as `topic/number`.
    pub id: String,
    /// Log-start offset.
    pub start: Option<i64>,
    /// Log-end offset.
    pub end: Option<i64>,
    /// The group's committed offset; `Some(-1)` if the group has not committed, `None` if unknown.
    pub committed: Option<i64>,
    /// High watermark: greater than `end` while a transaction is open.
    pub high_watermark: Option<i64>,
    /// End offset at the objective's latency before `SourceSample::at`; also `None` where timestamps are not known to
    /// be append times.
    pub due_end: Option<i64>,
    /// The group member that owns the partition.
    pub owner: Option<Owner>,
    /// Why a value is unknown, such as a missing leader.
    pub problem: Option<String>,
}

/// A member of a consumer group, with everything that can identify its pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Id that the group has assigned; unique in the group.
    pub member_id: String,
    /// Client id. The reference worker uses its pod's name.
    pub client_id: String,
    /// Static membership id, if there is one.
    pub instance_id: Option<String>,
    /// Address from which the member connects, without Kafka's leading slash.
    pub host: String,
    /// Number of partitions that the member owns in all topics; `None` if unknown, as during a rebalance of a classic
    /// group.
    pub partitions: Option<usize>,
}

/// A consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupSample {
    /// `Stable`, `PreparingRebalance`, `Empty`, `Dead`, …; `Dead` if the group does not exist.
    pub state: String,
    /// Assignor, if the group reports one.
    pub assignor: Option<String>,
    /// Members, with or without partitions.
    pub members: Vec<Owner>,
}

/// The newest sample of one worker.
#[derive(Debug, Clone)]
pub struct WorkerReading {
    /// Name of the pod.
    pub id: String,
    /// Uid of the pod.
    pub uid: String,
    /// The newest successful sample.
    pub sample: Option<Arc<WorkerSample>>,
    /// Why the newest attempt failed; `None` if it succeeded.
    pub failure: Option<Failure>,
}

/// One sample of a worker's metrics page (docs/worker-metrics.md).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkerSample {
    /// When the page was read.
    pub at: Seconds,
    /// When the process started, if the page has it.
    pub started_at: Option<Seconds>,
    /// `sluice_worker_records_processed_total`, summed over all sources.
    pub processed: Option<f64>,
    /// `sluice_worker_records_in_time_total`, summed over all sources.
    pub in_time: Option<f64>,
    /// `sluice_worker_busy_seconds_total`.
    pub busy_seconds: Option<f64>,
    /// `process_cpu_seconds_total`.
    pub cpu_seconds: Option<f64>,
    /// `sluice_worker_concurrency`.
    pub concurrency: Option<u32>,
    /// Next unprocessed offset of each partition that the worker owns, by `topic/number`.
    pub positions: Vec<(String, i64)>,
}
