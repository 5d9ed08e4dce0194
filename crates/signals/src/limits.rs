//! Limits on what sources and workers may cost the operator: they belong to users, and may be hostile. A source that
//! exceeds a limit affects only its own job. The job's failure message names the limit, and the source is read less
//! often until it is within the limit again.
//!
//! What a broker sends is limited on the connection (`tunnel.rs`), because krafka follows up to 10,000 pages of one
//! answer and cannot be told to stop. There is a limit in bytes for each round of a cluster, and a limit on the
//! estimated memory of all running rounds. What the hub keeps of the answers is limited for each namespace and for the
//! process.

use std::sync::Arc;

use super::sample::{Owner, PartitionSample, SourceSample, WorkerSample};

/// Maximum number of partitions of a topic that is read: the maximum number of workers of a job.
pub const MAX_PARTITIONS: usize = 10_000;

/// Maximum number of members of a consumer group that is read.
pub(super) const MAX_MEMBERS: usize = 10_000;

/// Maximum length of a group member's ids and address together, in bytes.
pub(super) const MAX_MEMBER_BYTES: usize = 1 << 10;

/// Returns the maximum number of partitions that one round reads, over all its topics: the size of the largest topic,
/// and 256 more for each topic.
pub(super) fn max_partitions_per_round(topics: usize) -> usize {
    MAX_PARTITIONS.saturating_add(topics.saturating_mul(256))
}

/// Returns how many bytes brokers may send in one round with this many questions. A topic of 10,000 partitions that
/// 10,000 members read takes about 5 MiB (44 bytes to name a partition, 27 for each of five offsets, 300 for a member);
/// a topic of 100 partitions takes 100 KiB.
pub(super) fn max_bytes_per_round(questions: usize) -> u64 {
    (8 << 20) + (64 << 10) * u64::try_from(questions).unwrap_or(u64::MAX >> 20)
}

/// Returns how many bytes brokers are expected to send at most for these questions and partitions. A client that
/// received more in a round may still hold it, because krafka keeps what it receives about all topics, and is dropped.
pub(super) fn expected_bytes(questions: usize, partitions: usize) -> u64 {
    let of = |number: usize, each: u64| u64::try_from(number).unwrap_or(u64::MAX).saturating_mul(each);
    (256 << 10) + of(questions, 16 << 10) + of(partitions, 512)
}

/// Memory that one byte of an answer may take once it is decoded, in bytes.
pub(super) const BYTES_PER_BYTE_SENT: u64 = 10;

/// Memory that a partition takes while the round that reads it runs, in bytes.
pub(super) const BYTES_PER_PARTITION_ASKED: u64 = 2 << 10;

/// Memory that each round may use without waiting for other rounds, in bytes: 256 partitions, or 50 KiB of answers.
pub(super) const FREE_BYTES_PER_ROUND: u64 = 512 << 10;

/// Memory that a round takes from the reserve for each further question, in bytes: about 32 partitions with their
/// members. Without it, a cluster that many jobs share would wait for the answers of others.
const RESERVED_BYTES_PER_QUESTION: u64 = 128 << 10;

/// Most memory that one round takes from the reserve, in bytes.
const MAX_RESERVED_BYTES: u64 = 8 << 20;

/// Returns the memory that a round with this many questions takes from the reserve, in bytes.
pub(super) fn reserve_for_questions(questions: usize) -> u64 {
    let further = u64::try_from(questions.saturating_sub(1)).unwrap_or(u64::MAX);
    RESERVED_BYTES_PER_QUESTION.saturating_mul(further).min(MAX_RESERVED_BYTES)
}

/// Memory from which a round counts as large, in bytes: 1.6 MiB of answers, or 8,000 partitions. If a large round is
/// not answered in time, its size is taken as the cause.
pub(super) const LARGE_ROUND_BYTES: u64 = 16 << 20;

/// Memory that each job may keep regardless of the other jobs, in bytes: about 500 partitions.
pub(super) const FREE_BYTES_PER_JOB: usize = 1 << 20;

/// Memory of a partition of a job without its strings, in bytes. The decision core uses half of it.
const BYTES_PER_PARTITION_KEPT: usize = 2 << 10;

/// The limits of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Estimated memory of all running rounds, in bytes. Each round may use another 512 KiB. A quarter is reserved for
    /// rounds with several questions: 128 KiB for each further one, at most 8 MiB for a round.
    pub in_flight_bytes: usize,
    /// Estimated memory of what all clients keep about the topics of their clusters, in bytes. A client that does not
    /// fit connects again for each round.
    pub topic_list_bytes: usize,
    /// Estimated memory of the samples of all jobs, in bytes, without the first MiB of each job.
    pub kept_bytes: usize,
    /// The same for the jobs of one namespace, in bytes.
    pub kept_bytes_per_namespace: usize,
    /// Number of clusters that are sampled.
    pub clusters: usize,
    /// Number of clusters that are sampled for the jobs of one namespace.
    pub clusters_per_namespace: usize,
    /// Number of connections to brokers.
    pub connections: usize,
    /// Number of connections to the brokers of one cluster.
    pub connections_per_cluster: usize,
}

impl Default for Limits {
    /// Returns the limits of a process with 256 MiB for sources and workers, and 16,384 open files.
    fn default() -> Self {
        Self::for_process(256 << 20, None)
    }
}

impl Limits {
    /// Returns the limits of a process with this much memory for sources and workers, and this many open files (16,384
    /// if `None`).
    pub fn for_process(memory_bytes: usize, files: Option<usize>) -> Self {
        let in_flight_bytes = memory_bytes / 2;
        // A connection to a broker takes two files on the operator's side of the tunnel, and one on krafka's.
        let connections = (files.unwrap_or(16_384) / 8).clamp(64, 16_384);
        Self {
            in_flight_bytes,
            topic_list_bytes: memory_bytes / 4,
            kept_bytes: memory_bytes - in_flight_bytes,
            kept_bytes_per_namespace: (memory_bytes / 4).max(FREE_BYTES_PER_JOB),
            clusters: connections.min(4_096),
            clusters_per_namespace: 64,
            connections,
            connections_per_cluster: 128.min(connections / 4).max(16),
        }
    }
}

/// Returns the limit on open files of this process, if the system reports it.
pub fn max_open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Estimates the memory that it takes to keep a value.
pub(super) trait EstimateMemory {
    fn kept_bytes(&self) -> usize;
}

impl EstimateMemory for SourceSample {
    fn kept_bytes(&self) -> usize {
        let members = self.group.iter().flat_map(|group| &group.members).map(owner_bytes);
        self.partitions.iter().map(partition_bytes).chain(members).sum()
    }
}

impl EstimateMemory for WorkerSample {
    fn kept_bytes(&self) -> usize {
        size_of::<Self>() + self.positions.iter().map(|(id, _)| size_of::<(String, i64)>() + id.len()).sum::<usize>()
    }
}

impl<T: EstimateMemory> EstimateMemory for Arc<T> {
    fn kept_bytes(&self) -> usize {
        self.as_ref().kept_bytes()
    }
}

fn partition_bytes(partition: &PartitionSample) -> usize {
    let texts = partition.id.len() + partition.problem.as_ref().map_or(0, String::len);
    BYTES_PER_PARTITION_KEPT + texts + partition.owner.as_ref().map_or(0, owner_bytes)
}

fn owner_bytes(owner: &Owner) -> usize {
    let texts = [&owner.member_id, &owner.client_id, &owner.host].map(String::len).iter().sum::<usize>();
    size_of::<Owner>() + texts + owner.instance_id.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_memory_and_open_files() {
        let limits = Limits::default();
        assert_eq!((limits.in_flight_bytes, limits.kept_bytes), (128 << 20, 128 << 20));
        assert_eq!((limits.kept_bytes_per_namespace, limits.clusters), (64 << 20, 2_048));
        let small = Limits::for_process(0, Some(0));
        assert_eq!((small.kept_bytes_per_namespace, small.clusters, small.connections_per_cluster), (1 << 20, 64, 16));
        assert!(Limits::for_process(usize::MAX, Some(usize::MAX)).connections <= 16_384);
        assert!(max_open_files().is_none_or(|files| files > 0));
    }

    #[test]
    fn largest_topic_fits_a_round_and_a_namespace() {
        let partition = PartitionSample { id: "orders/9999".to_owned(), ..PartitionSample::default() };
        let sample = SourceSample { partitions: vec![partition; MAX_PARTITIONS], ..SourceSample::default() };
        assert!(sample.kept_bytes() < Limits::default().kept_bytes_per_namespace);
        assert!(MAX_PARTITIONS <= max_partitions_per_round(1));
        let asked = u64::try_from(MAX_PARTITIONS).unwrap();
        assert!((44 + 5 * 27 + 30) * asked + 300 * asked < max_bytes_per_round(1));
    }

    #[test]
    fn memory_estimate_includes_strings() {
        let text = "x".repeat(1_000);
        let owner = Owner { client_id: text.clone(), ..Owner::default() };
        let of = |partition: PartitionSample| {
            SourceSample { partitions: vec![partition], ..SourceSample::default() }.kept_bytes()
        };
        let bare = of(PartitionSample::default());
        assert!(of(PartitionSample { owner: Some(owner), ..PartitionSample::default() }) >= bare + 1_000);
        assert!(of(PartitionSample { problem: Some(text.clone()), ..PartitionSample::default() }) >= bare + 1_000);
        let page = WorkerSample { positions: vec![(text, 1)], ..WorkerSample::default() };
        assert!(page.kept_bytes() > 1_000);
    }
}
