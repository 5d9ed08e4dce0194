//! Handles partitions that the group assigns and revokes, and commits.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use krafka::KrafkaError;
use krafka::consumer::{Consumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition};
use krafka::error::ErrorCode;

use super::engine::Engine;

/// How long records in work may delay a rebalance. Records of a slower worker are processed twice.
const REVOKE_PATIENCE: Duration = Duration::from_secs(10);

const LAST_COMMIT_RETRIES: u32 = 2;
const LAST_COMMIT_WAIT: Duration = Duration::from_millis(100);

/// The outcome of a commit.
#[derive(Debug)]
pub(super) enum CommitOutcome {
    /// The broker has accepted it, or there was nothing to commit.
    Committed,
    /// The group has rebalanced. The partitions' next owners process what was not committed, so this is not an error.
    Rebalanced,
    /// The commit failed, and is retried with the next one.
    Failed(KrafkaError),
}

/// Commits the next offsets of these partitions.
pub(super) async fn commit(consumer: &Consumer, topic: &str, offsets: &[(i32, i64)]) -> CommitOutcome {
    if offsets.is_empty() {
        return CommitOutcome::Committed;
    }
    let request = offsets
        .iter()
        .map(|(partition, offset)| (TopicPartition::new(topic, *partition), OffsetAndMetadata::new(*offset)));
    match consumer.commit_offsets(request).await {
        Ok(()) => CommitOutcome::Committed,
        Err(KrafkaError::Broker {
            code:
                ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::RebalanceInProgress
                | ErrorCode::FencedMemberEpoch
                | ErrorCode::StaleMemberEpoch
                | ErrorCode::FencedInstanceId,
            ..
        }) => CommitOutcome::Rebalanced,
        Err(error) => CommitOutcome::Failed(error),
    }
}

/// Listens to the consumer for assigned and revoked partitions. krafka awaits these calls inside `poll` and `close`.
pub(super) struct PartitionListener {
    engine: Arc<Engine>,
    topic: String,
    /// Set right after the consumer is built, because each of the two needs the other. Weak, or neither would be
    /// dropped.
    consumer: OnceLock<Weak<Consumer>>,
}

impl PartitionListener {
    pub(super) fn new(engine: Arc<Engine>, topic: String) -> Arc<Self> {
        Arc::new(Self { engine, topic, consumer: OnceLock::new() })
    }

    pub(super) fn set_consumer(&self, consumer: &Arc<Consumer>) {
        // A second call would be a bug without consequences: the first consumer remains.
        let _ = self.consumer.set(Arc::downgrade(consumer));
    }

    fn ids(&self, partitions: &[TopicPartition]) -> BTreeSet<i32> {
        partitions.iter().filter(|p| p.topic == self.topic).map(TopicPartition::partition).collect()
    }

    /// Commits for the last time. A heartbeat may have just advanced the member's epoch, which krafka learns a moment
    /// later, so the commit is retried. For partitions that already have another owner the broker rejects it again,
    /// which does no harm.
    async fn last_commit(&self, consumer: &Consumer, offsets: &[(i32, i64)]) -> CommitOutcome {
        for _ in 0..LAST_COMMIT_RETRIES {
            match commit(consumer, &self.topic, offsets).await {
                CommitOutcome::Rebalanced => tokio::time::sleep(LAST_COMMIT_WAIT).await,
                outcome => return outcome,
            }
        }
        commit(consumer, &self.topic, offsets).await
    }

    /// Finishes the records in work of these partitions, commits, and removes the partitions.
    pub(super) async fn hand_over(&self, partitions: &BTreeSet<i32>, patience: Duration) {
        // The drain hands partitions over before `close` reports them as revoked.
        let partitions = &(partitions & &self.engine.scheduler().owned_partitions());
        if partitions.is_empty() {
            return;
        }
        let settled = self.engine.finish_partitions(partitions, patience).await;
        let mut offsets = self.engine.scheduler().uncommitted();
        offsets.retain(|(partition, _)| partitions.contains(partition));
        let consumer = self.consumer.get().and_then(Weak::upgrade);
        let committed = match &consumer {
            Some(consumer) => self.last_commit(consumer, &offsets).await,
            None => CommitOutcome::Committed,
        };
        let dropped = self.engine.scheduler().remove(partitions);
        if !settled && self.engine.commits_first() {
            tracing::warn!(?partitions, dropped, "handover timed out; queued records are lost (AtMostOnce)");
        } else if !settled {
            tracing::warn!(?partitions, "handover timed out; unfinished records are processed again");
        }
        match committed {
            CommitOutcome::Committed => {}
            CommitOutcome::Rebalanced => {
                tracing::warn!(?partitions, "rebalance preceded last commit; records may be processed twice");
            }
            CommitOutcome::Failed(error) => {
                tracing::warn!(?partitions, %error, "failed last commit; records may be processed twice");
            }
        }
        tracing::info!(?partitions, "partitions handed over");
    }
}

impl ConsumerRebalanceListener for PartitionListener {
    async fn on_partitions_assigned(&self, partitions: &[TopicPartition]) {
        let ids = self.ids(partitions);
        if !ids.is_empty() {
            tracing::info!(partitions = ?ids, "partitions received");
            let mut scheduler = self.engine.scheduler();
            for id in ids {
                scheduler.assign(id);
            }
        }
    }

    async fn on_partitions_revoked(&self, partitions: &[TopicPartition]) {
        self.hand_over(&self.ids(partitions), REVOKE_PATIENCE).await;
    }

    async fn on_partitions_lost(&self, partitions: &[TopicPartition]) {
        let ids = self.ids(partitions);
        // Nothing is committed: the next owners may have advanced further.
        self.engine.scheduler().remove(&ids);
        tracing::warn!(partitions = ?ids, "partitions lost; the group continued without this worker");
    }
}
