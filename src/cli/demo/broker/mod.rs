//! A broker in this process: krafka's `FakeBroker`, which implements Kafka's protocol on loopback.
//!
//! It is meant for tests of some seconds and keeps everything. [`tidy`] removes what a real broker would remove too:
//! processed records, group members without heartbeats, and the log of requests.

mod describe;

use std::sync::Arc;
use std::time::Duration;

use krafka::testing::{ApiKey, ClusterState, FakeBroker, GroupState, PartitionState};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::describe::ClientIds;
use super::Failure;
use sluice_base::clock::Clock;

/// The id of the only broker.
const NODE: i32 = 0;
/// Interval of [`tidy`]: its cost is negligible, and a member rarely sends two heartbeats in between.
const TIDY_INTERVAL: Duration = Duration::from_millis(200);
/// A member is removed after this time without a heartbeat: six heartbeat intervals. (The broker's own timeout is 45
/// s.)
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// A running broker. Dropping it stops it.
pub(super) struct Broker {
    broker: Arc<FakeBroker>,
    /// The task that runs [`tidy`]; dropping it ends the task.
    _tidying: JoinSet<()>,
}

impl Broker {
    /// Starts a broker on a free port of loopback.
    pub(super) async fn start(clock: Clock) -> Result<Self, Failure> {
        let broker = FakeBroker::start().await.map_err(|error| format!("failed to start the broker: {error}"))?;
        let broker = Arc::new(broker);
        let mut tidying = JoinSet::new();
        tidying.spawn(keep_tidy(Arc::clone(&broker), clock));
        Ok(Self { broker, _tidying: tidying })
    }

    /// Returns the bootstrap address, host:port.
    pub(super) fn address(&self) -> String {
        self.broker.bootstrap_servers()
    }

    /// Closes every connection and accepts no new ones. The stored records are kept.
    pub(super) fn stop_serving(&self) {
        self.broker.crash(NODE);
    }

    /// Accepts connections again.
    pub(super) fn resume_serving(&self) {
        self.broker.restart(NODE);
    }

    /// Appends a batch that cannot be decoded, as a corrupted copy of a stored batch. Returns false if no batch is
    /// stored.
    pub(super) fn append_corrupt_batch(&self) -> bool {
        self.broker.with_state(|state| {
            let mut partitions = state.topics.values_mut().flat_map(|topic| &mut topic.partitions);
            partitions.any(append_corrupt_copy)
        })
    }
}

/// Appends a copy of the partition's last batch in which the last byte, which the checksum covers, is changed.
fn append_corrupt_copy(partition: &mut PartitionState) -> bool {
    let Some(batch) = partition.log.last() else { return false };
    let (Some(start), Some(end)) = (start_offset(batch), end_offset(batch)) else { return false };
    let mut copy = batch.to_vec();
    let (Some(offset), next) = (copy.first_chunk_mut(), partition.next_offset) else { return false };
    *offset = next.to_be_bytes();
    if let Some(last) = copy.last_mut() {
        *last ^= 1;
    }
    partition.log.push(copy.into());
    partition.next_offset += end - start;
    true
}

async fn keep_tidy(broker: Arc<FakeBroker>, clock: Clock) {
    let mut ticks = interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client_ids = ClientIds::default();
    loop {
        ticks.tick().await;
        tidy(&broker, &mut client_ids, clock.monotonic());
    }
}

/// Removes processed records, silent members and logged requests from the broker's state.
fn tidy(broker: &FakeBroker, client_ids: &mut ClientIds, now: Instant) {
    let beats = broker.requests().into_iter().filter(|request| request.api_key == ApiKey::ConsumerGroupHeartbeat);
    let callers: Vec<String> = beats.filter_map(|request| request.client_id).collect();
    broker.clear_requests();
    broker.with_state(|state| {
        let beats = std::mem::take(&mut state.consumer_group_heartbeats);
        let members: Vec<String> = beats.into_iter().map(|beat| beat.member_id).collect();
        client_ids.record_heartbeats(&members, &callers);
        state.list_offsets_lookups.clear();
        state.leave_group_members.clear();
        for group in state.groups.values_mut() {
            remove_silent_members(group, now);
            client_ids.write_description(group);
        }
        client_ids.retain_members_of(&state.groups);
        drop_processed_batches(state);
    });
}

/// Removes members that sent no heartbeat for [`SESSION_TIMEOUT`].
fn remove_silent_members(group: &mut GroupState, now: Instant) {
    let before = group.consumer_members.len();
    let is_alive =
        |last: Option<Instant>| last.is_none_or(|last| now.saturating_duration_since(last) < SESSION_TIMEOUT);
    group.consumer_members.retain(|_, member| is_alive(member.last_heartbeat));
    if group.consumer_members.len() < before {
        // A new epoch makes the other members rebalance.
        group.group_epoch += 1;
    }
}

/// Drops the batches that every group has committed in full. A partition without any commit is kept whole.
fn drop_processed_batches(state: &mut ClusterState) {
    let ClusterState { topics, groups, .. } = state;
    for (name, topic) in topics {
        for (number, partition) in (0..).zip(&mut topic.partitions) {
            let at = (name.clone(), number);
            let commits = groups.values().filter_map(|group| group.offsets.get(&at).map(|commit| commit.offset));
            if let Some(lowest) = commits.min() {
                drop_batches_before(partition, lowest);
            }
        }
    }
}

fn drop_batches_before(partition: &mut PartitionState, offset: i64) {
    let done = partition.log.iter().take_while(|batch| end_offset(batch).is_some_and(|end| end <= offset)).count();
    partition.log.drain(..done);
    partition.log_start_offset =
        partition.log.first().and_then(|batch| start_offset(batch)).unwrap_or(partition.next_offset);
}

/// Returns the offset of a batch's first record.
fn start_offset(batch: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(*batch.first_chunk()?))
}

/// Returns the offset after a batch's last record. In Kafka's record batch format, byte 23 begins the last record's
/// offset delta to the first.
fn end_offset(batch: &[u8]) -> Option<i64> {
    let delta = i32::from_be_bytes(*batch.get(23..)?.first_chunk()?);
    Some(start_offset(batch)? + i64::from(delta) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use krafka::testing::CommittedOffset;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn tidy_drops_only_committed_batches() {
        let broker = FakeBroker::start().await.unwrap();
        broker.create_topic("orders", 2);
        let kafka = broker.kafka().connect().await.unwrap();
        let producer = kafka.producer().build().await.unwrap();
        for record in 0..5 {
            // Each send is awaited, so each record is a batch of its own.
            let record = krafka::Record::new("orders", format!("{record}")).partition(0);
            let _ = producer.send(record).await.unwrap();
        }
        let commit = |offset: i64| {
            broker.with_state(|state| {
                let group = state.groups.entry("enricher".to_owned()).or_default();
                let commit = CommittedOffset { offset, leader_epoch: -1, metadata: None };
                group.offsets.insert(("orders".to_owned(), 0), commit);
            });
        };
        let state = || {
            broker.with_state(|state| {
                let partition = &state.topics["orders"].partitions[0];
                (partition.log.len(), partition.log_start_offset, partition.next_offset)
            })
        };
        let mut client_ids = ClientIds::default();
        let now = Clock::system().monotonic();
        tidy(&broker, &mut client_ids, now);
        assert_eq!(state(), (5, 0, 5), "no group has committed yet");
        assert!(broker.requests().is_empty());
        commit(3);
        tidy(&broker, &mut client_ids, now);
        assert_eq!(state(), (2, 3, 5));
        commit(5);
        tidy(&broker, &mut client_ids, now);
        assert_eq!(state(), (0, 5, 5), "the next offset does not change");
    }

    #[tokio::test]
    async fn a_stopped_broker_closes_and_refuses_connections() {
        let broker = Broker::start(Clock::system()).await.unwrap();
        let connect = async || tokio::net::TcpStream::connect(broker.address()).await.unwrap();
        let mut before = connect().await;
        while broker.broker.open_connections() == 0 {
            tokio::task::yield_now().await;
        }
        broker.stop_serving();
        assert!(before.read_u8().await.is_err(), "the connection is closed");
        assert!(connect().await.read_u8().await.is_err());
        broker.resume_serving();
        assert!(broker.broker.kafka().connect().await.is_ok());
    }

    #[tokio::test]
    async fn a_corrupt_batch_has_its_own_offsets_and_a_bad_checksum() {
        let broker = Broker::start(Clock::system()).await.unwrap();
        broker.broker.create_topic("orders", 1);
        assert!(!broker.append_corrupt_batch(), "there is no batch to copy yet");
        let kafka = broker.broker.kafka().connect().await.unwrap();
        let producer = kafka.producer().build().await.unwrap();
        let _ = producer.send(krafka::Record::new("orders", "1").partition(0)).await.unwrap();
        assert!(broker.append_corrupt_batch());
        assert_eq!(broker.broker.next_offset("orders", 0), Some(2));
        let _ = producer.send(krafka::Record::new("orders", "2").partition(0)).await.unwrap();
        assert_eq!(broker.broker.next_offset("orders", 0), Some(3));
        assert!(broker.broker.all_records("orders").is_err());
    }

    #[test]
    fn a_member_without_heartbeats_is_removed() {
        let now = Clock::system().monotonic();
        let mut group = GroupState::default();
        for (name, last) in [("silent", now), ("alive", now + SESSION_TIMEOUT)] {
            group.consumer_members.entry(name.to_owned()).or_default().last_heartbeat = Some(last);
        }
        remove_silent_members(&mut group, now + SESSION_TIMEOUT);
        assert_eq!(group.consumer_members.keys().collect::<Vec<_>>(), ["alive"]);
        assert_eq!(group.group_epoch, 1);
        remove_silent_members(&mut group, now + SESSION_TIMEOUT);
        assert_eq!(group.group_epoch, 1, "no member was removed");
    }
}
