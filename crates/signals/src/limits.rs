//! How much the sources and workers of strangers may cost the operator. What exceeds a limit costs its own job, which is told
//! the name of the limit and is asked more rarely for a while.
//!
//! What a broker sends is bounded on the connection (`tunnel.rs`), for krafka follows up to 10,000 pages of one answer and
//! cannot be told to stop: bytes for each round of a cluster, and an estimate of what all rounds that are under way hold in
//! memory. What is kept of it is bounded in the hub, by namespace and for the process.

use std::sync::Arc;

use super::sample::{Owner, PartitionSample, SourceSample, WorkerSample};

/// Most partitions of one topic that are read: as many as a job can have workers.
pub const MOST_PARTITIONS: usize = 10_000;

/// Most members of a group that are read.
pub(super) const MOST_MEMBERS: usize = 10_000;

/// The ids and the address of one member of a group together, in bytes.
pub(super) const LARGEST_MEMBER: usize = 1 << 10;

/// Most partitions that one round asks for, in all topics together: as many as the largest topic has, and some for each topic.
pub(super) fn most_partitions_of_a_round(topics: usize) -> usize {
    MOST_PARTITIONS.saturating_add(topics.saturating_mul(256))
}

/// Bytes that brokers may send in one round with so many questions. A topic of 10,000 partitions that 10,000 members read is
/// some 5 MiB (44 bytes a partition to name it, 27 for each of five offsets, 300 a member); one of 100 is 100 KiB.
pub(super) fn bytes_of_a_round(questions: usize) -> u64 {
    (8 << 20) + (64 << 10) * u64::try_from(questions).unwrap_or(u64::MAX >> 20)
}

/// Bytes that questions and partitions explain. A client that was sent more in a round may still hold it (krafka keeps what it
/// is told of all topics), and is thrown away.
pub(super) fn bytes_explained(questions: usize, partitions: usize) -> u64 {
    let of = |number: usize, each: u64| u64::try_from(number).unwrap_or(u64::MAX).saturating_mul(each);
    (256 << 10) + of(questions, 16 << 10) + of(partitions, 512)
}

/// What a byte of an answer may come to once it is decoded.
pub(super) const BYTES_PER_BYTE_SENT: u64 = 10;

/// What a partition that is asked for costs while its round is under way, in bytes.
pub(super) const BYTES_PER_PARTITION_ASKED: u64 = 2 << 10;

/// What a round may hold without asking the others, in bytes: 256 partitions, or 50 KiB of answers.
pub(super) const FREE_FOR_A_ROUND: u64 = 512 << 10;

/// What it may hold besides for each question, in bytes: some 32 partitions with their members. Many jobs that share a cluster do
/// not wait for others because they are many.
const FREE_FOR_A_QUESTION: u64 = 128 << 10;

/// What a round with so many questions may hold without asking the others beyond what every round may, in bytes.
pub(super) fn free_for_questions(questions: usize) -> u64 {
    FREE_FOR_A_QUESTION.saturating_mul(u64::try_from(questions.saturating_sub(1)).unwrap_or(u64::MAX))
}

/// What a round has drawn that is taken for the reason when it is not answered in time, in bytes: 1.6 MiB of answers, or 8,000
/// partitions.
pub(super) const LARGE_ROUND: u64 = 16 << 20;

/// What a job may keep however much the others keep, in bytes: some 500 partitions.
pub(super) const FREE_FOR_A_JOB: usize = 1 << 20;

/// What a partition of a job costs beside its texts, in bytes: half of it is the decision core's.
const BYTES_PER_PARTITION_KEPT: usize = 2 << 10;

/// The limits of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What all rounds that are under way may hold in memory, as estimated, in bytes; each round has half a MiB
    /// besides, and an eighth for each further question.
    pub in_flight_bytes: usize,
    /// What all clients may keep of the topics of their clusters, as estimated, in bytes. A client for which there is no room is
    /// connected again for each round.
    pub topic_list_bytes: usize,
    /// What is kept of all jobs beyond a MiB of each, as estimated, in bytes.
    pub kept_bytes: usize,
    /// The same of the jobs of one namespace.
    pub kept_bytes_per_namespace: usize,
    /// Clusters that are sampled.
    pub clusters: usize,
    /// Clusters that are sampled for the jobs of one namespace.
    pub clusters_per_namespace: usize,
    /// Connections to brokers.
    pub connections: usize,
    /// Connections to the brokers of one cluster.
    pub connections_per_cluster: usize,
}

impl Default for Limits {
    /// Those of a process with 256 MiB for sources and workers, and 16,384 files.
    fn default() -> Self {
        Self::of(256 << 20, None)
    }
}

impl Limits {
    /// Those of a process that may hold so many bytes for sources and workers, and have so many files open (`None`: 16,384).
    pub fn of(memory_bytes: usize, files: Option<usize>) -> Self {
        let in_flight_bytes = memory_bytes / 2;
        // A connection to a broker has two files on our side of the tunnel, and one on krafka's.
        let connections = (files.unwrap_or(16_384) / 8).clamp(64, 16_384);
        Self {
            in_flight_bytes,
            topic_list_bytes: memory_bytes / 4,
            kept_bytes: memory_bytes - in_flight_bytes,
            kept_bytes_per_namespace: (memory_bytes / 4).max(FREE_FOR_A_JOB),
            clusters: connections.min(4_096),
            clusters_per_namespace: 64,
            connections,
            connections_per_cluster: 128.min(connections / 4).max(16),
        }
    }
}

/// How many files this process may have open, if the system says it.
pub fn files_of_this_process() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// What it costs to keep it, in bytes, as estimated.
pub(super) trait Kept {
    fn kept_bytes(&self) -> usize;
}

impl Kept for SourceSample {
    fn kept_bytes(&self) -> usize {
        let members = self.group.iter().flat_map(|group| &group.members).map(owner);
        self.partitions.iter().map(partition).chain(members).sum()
    }
}

impl Kept for WorkerSample {
    fn kept_bytes(&self) -> usize {
        size_of::<Self>() + self.positions.iter().map(|(id, _)| size_of::<(String, i64)>() + id.len()).sum::<usize>()
    }
}

impl<T: Kept> Kept for Arc<T> {
    fn kept_bytes(&self) -> usize {
        self.as_ref().kept_bytes()
    }
}

fn partition(partition: &PartitionSample) -> usize {
    let texts = partition.id.len() + partition.problem.as_ref().map_or(0, String::len);
    BYTES_PER_PARTITION_KEPT + texts + partition.owner.as_ref().map_or(0, owner)
}

fn owner(owner: &Owner) -> usize {
    let texts = [&owner.member_id, &owner.client_id, &owner.host].map(String::len).iter().sum::<usize>();
    size_of::<Owner>() + texts + owner.instance_id.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_follow_the_memory_and_the_files() {
        let limits = Limits::default();
        assert_eq!((limits.in_flight_bytes, limits.kept_bytes), (128 << 20, 128 << 20));
        assert_eq!((limits.kept_bytes_per_namespace, limits.clusters), (64 << 20, 2_048));
        let small = Limits::of(0, Some(0));
        assert_eq!((small.kept_bytes_per_namespace, small.clusters, small.connections_per_cluster), (1 << 20, 64, 16));
        assert!(Limits::of(usize::MAX, Some(usize::MAX)).connections <= 16_384);
        assert!(files_of_this_process().is_none_or(|files| files > 0));
    }

    #[test]
    fn the_largest_topic_that_is_read_fits_into_one_round_and_into_a_namespace() {
        let partition = PartitionSample { id: "orders/9999".to_owned(), ..PartitionSample::default() };
        let sample = SourceSample { partitions: vec![partition; MOST_PARTITIONS], ..SourceSample::default() };
        assert!(sample.kept_bytes() < Limits::default().kept_bytes_per_namespace);
        assert!(MOST_PARTITIONS <= most_partitions_of_a_round(1));
        let asked = u64::try_from(MOST_PARTITIONS).unwrap();
        assert!((44 + 5 * 27 + 30) * asked + 300 * asked < bytes_of_a_round(1));
    }

    #[test]
    fn what_is_kept_counts_its_texts() {
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
