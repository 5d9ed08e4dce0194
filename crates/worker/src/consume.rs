//! The consuming loop: polls, queues and commits, and retries while the broker is unavailable.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, Consumer, ConsumerRecord, PartitionAssignmentStrategy};
use krafka::error::{ErrorCode, ProtocolErrorKind};
use krafka::{CloseOptions, GroupMembershipOperation, Kafka, KrafkaError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::membership::{CommitOutcome, PartitionListener, commit};
use super::scheduler::Item;
use super::{GroupProtocol, KafkaSettings, LeaveOnStop, Start};

/// Length of a poll. Rebalances are applied between polls, so it is part of every handover.
const POLL: Duration = Duration::from_millis(100);
/// Length of a poll while a partition is paused: its queue may have room again long before a poll for the others ends.
const POLL_WHILE_PAUSED: Duration = Duration::from_millis(20);
const MAX_RECORDS_PER_POLL: i32 = 1000;
/// Limits on what is fetched ahead. A single record may exceed them; Kafka then sends it alone.
const MAX_BYTES_PER_FETCH: i32 = 4 * 1024 * 1024;
const MAX_BYTES_PER_PARTITION: i32 = 256 * 1024;
/// Members of a classic group learn of a rebalance with a heartbeat, so the interval is short. With KIP-848 the broker
/// sets the interval.
const HEARTBEAT: Duration = Duration::from_millis(500);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits between attempts while the broker is unavailable.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Time after which a lasting error is logged again.
const REPEAT_LOG_AFTER: Duration = Duration::from_mins(1);
/// Time that a running turn of the loop may take after the worker is stopped.
const LAST_TURN_TIME: Duration = Duration::from_secs(1);
/// Part of the drain time that is reserved for the last commit and for leaving the group.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// Consumes until stopped, then drains.
pub(super) struct ConsumeLoop<'a> {
    pub(super) settings: &'a KafkaSettings,
    pub(super) name: &'a str,
    pub(super) commit_interval: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) engine: Arc<Engine>,
}

/// How the life of a consumer ended.
enum ConsumerEnd {
    Stopped,
    /// A new consumer is needed because of this error.
    Broken(KrafkaError),
    /// The broker does not support the group protocol.
    NoGroupProtocol,
}

impl ConsumeLoop<'_> {
    /// Returns after the drain. Errors of the broker do not end it earlier.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        let mut protocol = self.settings.group_protocol;
        let mut retries = RetryState::new();
        while !stop.is_cancelled() {
            let begin = self.engine.clock.monotonic();
            let end = self.run_consumer(protocol, stop).await;
            if begin.elapsed() > REPEAT_LOG_AFTER {
                retries = RetryState::new();
            }
            match end {
                ConsumerEnd::Stopped => return,
                ConsumerEnd::NoGroupProtocol => {
                    tracing::warn!(
                        group = self.settings.group,
                        "broker lacks KIP-848; using the classic group protocol"
                    );
                    protocol = GroupProtocol::Classic;
                }
                ConsumerEnd::Broken(error) => {
                    retries.log_error(self.engine.clock.monotonic(), &error);
                    stop.run_until_cancelled(tokio::time::sleep(retries.wait())).await;
                }
            }
        }
    }

    /// Runs one consumer from connecting to leaving the group.
    async fn run_consumer(&self, protocol: GroupProtocol, stop: &CancellationToken) -> ConsumerEnd {
        let membership = PartitionListener::new(Arc::clone(&self.engine), self.settings.topic.clone());
        let connecting = self.connect(protocol, Arc::clone(&membership));
        let consumer = match stop.run_until_cancelled(connecting).await {
            None => return ConsumerEnd::Stopped,
            Some(Err(error)) => return ConsumerEnd::Broken(error),
            Some(Ok(consumer)) => Arc::new(consumer),
        };
        membership.set_consumer(&consumer);
        let end = match stop.run_until_cancelled(consumer.subscribe([&self.settings.topic])).await {
            None => ConsumerEnd::Stopped,
            Some(Err(error)) => ConsumerEnd::Broken(error),
            // A turn of the loop that waits for the broker is cut short; polling is cancel safe.
            Some(Ok(())) => tokio::select! {
                end = self.poll_until_stopped(&consumer, stop) => end,
                () = async { stop.cancelled().await; tokio::time::sleep(LAST_TURN_TIME).await } => ConsumerEnd::Stopped,
            },
        };
        match &end {
            ConsumerEnd::Stopped => self.drain(&consumer, &membership).await,
            ConsumerEnd::Broken(_) | ConsumerEnd::NoGroupProtocol => {
                self.close(&consumer, LEAVE_TIME).await;
                // Partitions that `close` could not report as revoked are not owned any more either.
                let owned = self.engine.scheduler().owned_partitions();
                self.engine.scheduler().remove(&owned);
            }
        }
        end
    }

    async fn connect(
        &self,
        protocol: GroupProtocol,
        membership: Arc<PartitionListener>,
    ) -> Result<Consumer, KrafkaError> {
        let kafka = Kafka::builder(&self.settings.bootstrap_servers)
            // The operator maps group members to pods by the pods' names.
            .client_id(self.name)
            .request_timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .connect()
            .await?;
        let mut builder = kafka
            .consumer(&self.settings.group)
            .enable_auto_commit(false)
            .auto_offset_reset(match self.settings.start {
                Start::Earliest => AutoOffsetReset::Earliest,
                Start::Latest => AutoOffsetReset::Latest,
            })
            .max_poll_records(MAX_RECORDS_PER_POLL)
            .max_buffered_records(MAX_RECORDS_PER_POLL)
            .fetch_max_bytes(MAX_BYTES_PER_FETCH)
            .max_partition_fetch_bytes(MAX_BYTES_PER_PARTITION)
            .session_timeout(self.settings.session_timeout)
            .heartbeat_interval(HEARTBEAT)
            .metrics_push(false)
            .rebalance_listener(membership);
        builder = match protocol {
            GroupProtocol::Consumer => builder.group_protocol(krafka::consumer::GroupProtocol::Consumer),
            // Range comes first, although it stops every member for the rebalance. Under cooperative-sticky krafka
            // 0.28.1 keeps sending heartbeats while it joins. The broker answers them after the join with "illegal
            // generation", and krafka treats its partitions as lost and joins again. A group of four members never
            // became stable (Kafka 4.1.1).
            GroupProtocol::Classic => {
                builder.group_protocol(krafka::consumer::GroupProtocol::Classic).partition_assignment_strategies([
                    PartitionAssignmentStrategy::Range,
                    PartitionAssignmentStrategy::CooperativeSticky,
                ])
            }
        };
        if self.settings.static_membership {
            builder = builder.group_instance_id(self.name);
        }
        builder.build().await
    }

    async fn poll_until_stopped(&self, consumer: &Consumer, stop: &CancellationToken) -> ConsumerEnd {
        let mut retries = RetryState::new();
        let mut commit_at = self.engine.clock.monotonic() + self.commit_interval;
        while !stop.is_cancelled() {
            let poll = if self.pause_full_partitions(consumer).await { POLL_WHILE_PAUSED } else { POLL };
            match consumer.poll(poll).await {
                Ok(records) => {
                    retries.reset();
                    self.record_progress(consumer).await;
                    self.queue_records(consumer, records).await;
                }
                Err(KrafkaError::Wakeup) => {}
                Err(error) if lacks_group_protocol(&error) => return ConsumerEnd::NoGroupProtocol,
                Err(error) => match undecodable_record(&error) {
                    Some((partition, offset)) => self.skip_record(consumer, partition, offset, &error).await,
                    None if error.is_retriable() => {
                        retries.log_error(self.engine.clock.monotonic(), &error);
                        stop.run_until_cancelled(tokio::time::sleep(retries.wait())).await;
                    }
                    None => return ConsumerEnd::Broken(error),
                },
            }
            if self.engine.clock.monotonic() >= commit_at {
                let offsets = self.engine.scheduler().uncommitted();
                self.commit(consumer, &offsets).await;
                commit_at = self.engine.clock.monotonic() + self.commit_interval;
            }
        }
        ConsumerEnd::Stopped
    }

    /// Pauses partitions whose queue is full, and resumes those with room again. Returns whether any partition is
    /// paused.
    async fn pause_full_partitions(&self, consumer: &Consumer) -> bool {
        let full = self.engine.scheduler().full_partitions();
        // Read each time rather than remembered, because a partition that was lost and assigned again is not paused any
        // more.
        let paused: BTreeSet<i32> = consumer.paused_partitions().await.into_iter().map(|(_, id)| id).collect();
        let topic = &self.settings.topic;
        let resume: Vec<i32> = paused.difference(&full).copied().collect();
        if !resume.is_empty() {
            consumer.resume(topic, &resume).await;
        }
        let pause: Vec<i32> = full.difference(&paused).copied().collect();
        if !pause.is_empty() {
            consumer.pause(topic, &pause).await;
        }
        !full.is_empty()
    }

    /// Records that the loop has turned, that the worker is a member, and the positions of new partitions.
    async fn record_progress(&self, consumer: &Consumer) {
        *self.engine.last_turn.lock() = Some(self.engine.clock.monotonic());
        if !self.engine.joined.load(Relaxed)
            && consumer.group_metadata().await.is_some_and(|group| group.is_fenceable())
        {
            self.engine.joined.store(true, Relaxed);
            tracing::info!(group = self.settings.group, "joined the group");
        }
        let unknown = self.engine.scheduler().without_position();
        for partition in unknown {
            // Only after the consumer has resolved the position: `position` would ask the broker and delay the loop.
            if consumer.fetch_position(&self.settings.topic, partition).await.is_some()
                && let Some(offset) = consumer.position(&self.settings.topic, partition).await
            {
                self.engine.scheduler().start_at(partition, offset);
            }
        }
    }

    /// Queues the polled records. With at-most-once delivery, commits them first.
    async fn queue_records(&self, consumer: &Consumer, records: Vec<ConsumerRecord>) {
        if self.engine.commits_first() && !records.is_empty() {
            let mut last = std::collections::BTreeMap::new();
            for record in &records {
                last.insert(record.partition, record.offset + 1);
            }
            let offsets: Vec<(i32, i64)> = last.into_iter().collect();
            if !self.commit(consumer, &offsets).await {
                // The records are not committed, so they must not be processed: read them again from the start of this
                // poll.
                let mut first = std::collections::BTreeMap::new();
                for record in &records {
                    first.entry(record.partition).or_insert(record.offset);
                }
                for (partition, offset) in first {
                    // This only fails for a partition that is no longer owned; its next owner reads the records.
                    let _ = consumer.seek(&self.settings.topic, partition, offset).await;
                }
                return;
            }
        }
        let items = records.into_iter().map(|r| (r.partition, Item { offset: r.offset, appended: r.timestamp }));
        self.engine.push(items);
    }

    async fn commit(&self, consumer: &Consumer, offsets: &[(i32, i64)]) -> bool {
        match commit(consumer, &self.settings.topic, offsets).await {
            CommitOutcome::Committed => {
                self.engine.scheduler().committed(offsets);
                true
            }
            CommitOutcome::Rebalanced => {
                tracing::debug!("group is rebalancing; committing later");
                false
            }
            CommitOutcome::Failed(error) => {
                tracing::warn!(%error, "failed to commit; retrying with the next commit");
                false
            }
        }
    }

    /// Skips a record that cannot be decoded, so that the partition makes progress.
    async fn skip_record(&self, consumer: &Consumer, partition: i32, offset: i64, error: &KrafkaError) {
        tracing::error!(partition, offset, %error, "skipping an undecodable record");
        self.engine.totals.record_skipped();
        if let Err(error) = consumer.seek(&self.settings.topic, partition, offset + 1).await {
            tracing::debug!(partition, %error, "partition of undecodable record is no longer owned");
        }
    }

    /// Finishes the records in work, commits, and leaves the group.
    async fn drain(&self, consumer: &Consumer, membership: &PartitionListener) {
        let begin = self.engine.clock.monotonic();
        let owned = self.engine.scheduler().owned_partitions();
        tracing::info!(partitions = ?owned, "draining");
        let patience = self.drain_timeout.saturating_sub(LEAVE_TIME);
        let handed_over = membership.hand_over(&owned, patience);
        if tokio::time::timeout(self.drain_timeout, handed_over).await.is_err() {
            tracing::warn!("last commit timed out; records may be processed twice");
        }
        self.close(consumer, self.drain_timeout.saturating_sub(begin.elapsed()).max(LEAVE_TIME)).await;
        tracing::info!(seconds = begin.elapsed().as_secs_f64(), "drained");
    }

    async fn close(&self, consumer: &Consumer, patience: Duration) {
        let membership = match self.settings.leave_on_stop {
            // This applies to static members, too: krafka sends LeaveGroup with the instance id, or KIP-848's epoch -1.
            LeaveOnStop::Always => GroupMembershipOperation::LeaveGroup,
            // A static member stays (KIP-848's epoch -2). A dynamic member cannot return, and leaves.
            LeaveOnStop::Never => GroupMembershipOperation::Default,
        };
        let options = CloseOptions::new().timeout(patience).group_membership_operation(membership);
        if let Err(error) = consumer.close_with(options).await {
            tracing::warn!(%error, "failed to leave; partitions move after session timeout");
        }
    }
}

/// Returns whether the broker lacks KIP-848: before Kafka 3.7 it does not know the request, and before 4.0 it may
/// reject it.
fn lacks_group_protocol(error: &KrafkaError) -> bool {
    matches!(error, KrafkaError::Broker { code: ErrorCode::UnsupportedVersion, .. })
        || error.protocol_error_kind() == Some(ProtocolErrorKind::UnknownApiVersion)
}

/// Returns the partition and the offset of an undecodable record batch.
///
/// krafka 0.28.1 reports them only in the message (`FetchFault::into_error`); a test checks the format.
fn undecodable_record(error: &KrafkaError) -> Option<(i32, i64)> {
    let KrafkaError::Protocol { message, .. } = error else { return None };
    let (topic_partition, rest) = message.strip_prefix("undecodable record batch at ")?.split_once(" offset ")?;
    let partition = topic_partition.rsplit_once('-')?.1.parse().ok()?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((partition, digits.parse().ok()?))
}

/// A back-off, and a limit on repeated log lines.
struct RetryState {
    wait: Duration,
    last: Option<(String, Instant)>,
}

impl RetryState {
    fn new() -> Self {
        Self { wait: FIRST_WAIT, last: None }
    }

    fn log_error(&mut self, now: Instant, error: &KrafkaError) {
        let text = error.to_string();
        let repeated =
            self.last.as_ref().is_some_and(|(last, at)| *last == text && now.duration_since(*at) < REPEAT_LOG_AFTER);
        if !repeated {
            tracing::warn!(error = text, "failed to consume; retrying");
            self.last = Some((text, now));
        }
    }

    fn wait(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }

    fn reset(&mut self) {
        if self.last.take().is_some() {
            tracing::info!("consuming again");
        }
        self.wait = FIRST_WAIT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecodable_record_is_parsed_from_krafkas_message() {
        let error =
            |message: &str| KrafkaError::Protocol { kind: ProtocolErrorKind::CrcMismatch, message: message.to_owned() };
        let words = "undecodable record batch at my-orders-11 offset 4711; the partition cannot advance past it";
        assert_eq!(undecodable_record(&error(words)), Some((11, 4711)));
        let words = "undecodable record batch at t-3 offset 17 (2 partitions affected in this poll); the partition";
        assert_eq!(undecodable_record(&error(words)), Some((3, 17)));
        assert_eq!(undecodable_record(&error("truncated frame")), None);
    }

    #[test]
    fn waits_grow_to_a_limit() {
        let mut retries = RetryState::new();
        let waits: Vec<u128> = (0..7).map(|_| retries.wait().as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        retries.reset();
        assert_eq!(retries.wait(), FIRST_WAIT);
    }
}
