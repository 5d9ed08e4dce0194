//! What the hub is asked to watch, and what it has seen.

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
    /// Its name.
    pub name: String,
}

impl fmt::Display for JobKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// What is to be watched for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The objective's latency: sets how often is sampled, and what is due.
    pub latency: Duration,
    /// The job's sources.
    pub sources: Vec<SourceSpec>,
    /// Where its workers publish their metrics; empty: they do not.
    pub workers: Vec<WorkerEndpoint>,
}

/// One source to sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// Its name in the job.
    pub name: String,
    /// The topic and the group.
    pub kafka: Kafka,
}

/// One worker's metrics page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerEndpoint {
    /// Name of the pod.
    pub id: String,
    /// Uid of the pod: another pod of the same name is another worker.
    pub uid: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// HTTP path.
    pub path: String,
}

/// The newest that is known of a job. Everything in it has an age of its own.
#[derive(Debug, Clone, Default)]
pub struct JobSamples {
    /// One for each source of the watch, in its order.
    pub sources: Vec<SourceReading>,
    /// One for each worker of the watch.
    pub workers: Vec<WorkerReading>,
}

/// The newest of one source.
#[derive(Debug, Clone)]
pub struct SourceReading {
    /// Its name in the job.
    pub name: String,
    /// The newest sample that succeeded, at least for some partitions.
    pub sample: Option<Arc<SourceSample>>,
    /// Why the newest attempt failed; `None` when it succeeded, or when none has ended yet.
    pub failure: Option<Failure>,
}

/// Why a source or worker could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// When the newest failed attempt ended.
    pub at: Seconds,
    /// Since when no attempt has succeeded.
    pub since: Seconds,
    /// What kind of failure.
    pub category: Category,
    /// What, where and the mend, for a person; at most 300 characters.
    pub message: String,
}

/// What kind of failure. Each is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// Nothing answers at the address, or not in time.
    Unreachable,
    /// Refused: who we are, or what we may do.
    Unauthorised,
    /// Our own policy does not let us connect there.
    DestinationRefused,
    /// More than a job, a namespace or the process may cost; the message names the limit.
    LimitExceeded,
    /// The topic does not exist.
    TopicMissing,
    /// It answers, and the answer makes no sense.
    Protocol,
}

impl Category {
    /// As a metric label.
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

/// One look at a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceSample {
    /// When the end offsets were read.
    pub at: Seconds,
    /// Every partition that the topic has, in order of number; what is unknown of one is `None` there.
    pub partitions: Vec<PartitionSample>,
    /// The consumer group; `None`: it could not be read.
    pub group: Option<GroupSample>,
    /// The topic's timestamps are the producers', not the time of appending. There are due ends only where this is known to
    /// be `false`; `None`: it is not known.
    pub producer_time: Option<bool>,
}

impl SourceSample {
    /// Whether of every partition the end and the commit are known, and the group.
    pub(super) fn is_complete(&self) -> bool {
        let known = |each: &PartitionSample| each.end.is_some() && each.committed.is_some();
        self.group.is_some() && self.partitions.iter().all(known)
    }
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionSample {
    /// `topic/number`.
    pub id: String,
    /// Log-start offset.
    pub start: Option<i64>,
    /// Log-end offset.
    pub end: Option<i64>,
    /// The group's committed offset; `Some(-1)`: the group has committed none; `None`: unknown.
    pub committed: Option<i64>,
    /// High watermark: beyond `end` where a transaction is open.
    pub high_watermark: Option<i64>,
    /// End offset as of `SourceSample::at` minus the objective's latency; `None` also where timestamps are not known to be
    /// append times.
    pub due_end: Option<i64>,
    /// The member that reads it.
    pub owner: Option<Owner>,
    /// Why something of it is unknown, such as a missing leader.
    pub problem: Option<String>,
}

/// A member of a consumer group, by everything that can lead to its pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Id that the group has given it: no two members have the same.
    pub member_id: String,
    /// Client id; the reference worker uses its pod's name.
    pub client_id: String,
    /// Static membership id, if it has one.
    pub instance_id: Option<String>,
    /// Address that it connects from, without the slash that Kafka puts before it.
    pub host: String,
    /// Partitions of all topics that it owns; `None`: unknown, as during a rebalance of a classic group.
    pub partitions: Option<usize>,
}

/// A consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupSample {
    /// `Stable`, `PreparingRebalance`, `Empty`, `Dead`, …; a group that does not exist is `Dead`.
    pub state: String,
    /// Its assignor, if it says one.
    pub assignor: Option<String>,
    /// Members, with or without partitions.
    pub members: Vec<Owner>,
}

/// The newest of one worker.
#[derive(Debug, Clone)]
pub struct WorkerReading {
    /// Name of the pod.
    pub id: String,
    /// Uid of the pod.
    pub uid: String,
    /// The newest sample that succeeded.
    pub sample: Option<Arc<WorkerSample>>,
    /// Why the newest attempt failed.
    pub failure: Option<Failure>,
}

/// One look at a worker's metrics page (docs/worker-metrics.md).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkerSample {
    /// When it was read.
    pub at: Seconds,
    /// When the process started, if it says so.
    pub started_at: Option<Seconds>,
    /// `sluice_worker_records_processed_total`, all sources.
    pub processed: Option<f64>,
    /// `sluice_worker_records_in_time_total`, all sources.
    pub in_time: Option<f64>,
    /// `sluice_worker_busy_seconds_total`.
    pub busy_seconds: Option<f64>,
    /// `process_cpu_seconds_total`.
    pub cpu_seconds: Option<f64>,
    /// `sluice_worker_concurrency`.
    pub concurrency: Option<u32>,
    /// Next unprocessed offset of each partition it owns, by `topic/number`.
    pub positions: Vec<(String, i64)>,
}
