//! A broker in this process: krafka's `FakeBroker`, which speaks Kafka's protocol on loopback, and what keeps it in order.
//!
//! It was made for tests of some seconds, and forgets nothing. [`tidy`] makes it forget, as a broker does, what nobody asks
//! for any more: records that were processed, members that fell silent, and its notes of every request.

mod describe;

use std::sync::Arc;
use std::time::Duration;

use krafka::testing::{ApiKey, ClusterState, FakeBroker, GroupState, PartitionState};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::describe::Names;
use super::Failure;
use sluice_base::clock::Clock;

/// The number of the only broker.
const NODE: i32 = 0;
/// Seldom enough to cost nothing, often enough that hardly two heartbeats of a member come in between.
const TIDY: Duration = Duration::from_millis(200);
/// A member that was silent for so long is gone: six of its heartbeats. (The broker's own patience is 45 s.)
const SESSION: Duration = Duration::from_secs(6);

/// A broker that runs. It ends when it is dropped.
pub(super) struct Broker {
    broker: Arc<FakeBroker>,
    /// Dropped with us, which ends it.
    _tidying: JoinSet<()>,
}

impl Broker {
    pub(super) async fn start(clock: Clock) -> Result<Self, Failure> {
        let broker = FakeBroker::start().await.map_err(|error| format!("failed to start the broker: {error}"))?;
        let broker = Arc::new(broker);
        let mut tidying = JoinSet::new();
        tidying.spawn(keep_tidy(Arc::clone(&broker), clock));
        Ok(Self { broker, _tidying: tidying })
    }

    /// Where it is: host:port.
    pub(super) fn address(&self) -> String {
        self.broker.bootstrap_servers()
    }

    /// Ends every connection and takes no new ones. What it holds is kept.
    pub(super) fn go_away(&self) {
        self.broker.crash(NODE);
    }

    /// Takes connections again.
    pub(super) fn come_back(&self) {
        self.broker.restart(NODE);
    }

    /// Appends a batch that cannot be decoded. Whether it did: there must be a batch that has not been processed yet.
    pub(super) fn poison(&self) -> bool {
        self.broker.with_state(|state| {
            let mut partitions = state.topics.values_mut().flat_map(|topic| &mut topic.partitions);
            partitions.any(append_undecodable)
        })
    }
}

/// A copy of the partition's last batch, but for its last byte, which the checksum covers.
fn append_undecodable(partition: &mut PartitionState) -> bool {
    let Some(batch) = partition.log.last() else { return false };
    let (Some(start), Some(end)) = (start_of(batch), end_of(batch)) else { return false };
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
    let mut ticks = interval(TIDY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut names = Names::default();
    loop {
        ticks.tick().await;
        tidy(&broker, &mut names, clock.monotonic());
    }
}

/// Once.
fn tidy(broker: &FakeBroker, names: &mut Names, now: Instant) {
    let beats = broker.requests().into_iter().filter(|request| request.api_key == ApiKey::ConsumerGroupHeartbeat);
    let callers: Vec<String> = beats.filter_map(|request| request.client_id).collect();
    broker.clear_requests();
    broker.with_state(|state| {
        let beats = std::mem::take(&mut state.consumer_group_heartbeats);
        let members: Vec<String> = beats.into_iter().map(|beat| beat.member_id).collect();
        names.learn(&members, &callers);
        state.list_offsets_lookups.clear();
        state.leave_group_members.clear();
        for group in state.groups.values_mut() {
            let_go_of_the_silent(group, now);
            names.fill(group);
        }
        names.keep(&state.groups);
        forget_processed(state);
    });
}

fn let_go_of_the_silent(group: &mut GroupState, now: Instant) {
    let before = group.consumer_members.len();
    let is_heard = |last: Option<Instant>| last.is_none_or(|last| now.saturating_duration_since(last) < SESSION);
    group.consumer_members.retain(|_, member| is_heard(member.last_heartbeat));
    if group.consumer_members.len() < before {
        // By the epoch the others see that the partitions are to be shared out anew.
        group.group_epoch += 1;
    }
}

/// Drops the batches that every group has committed to their end. A partition that no group has committed in is kept whole.
fn forget_processed(state: &mut ClusterState) {
    let ClusterState { topics, groups, .. } = state;
    for (name, topic) in topics {
        for (number, partition) in (0..).zip(&mut topic.partitions) {
            let at = (name.clone(), number);
            let commits = groups.values().filter_map(|group| group.offsets.get(&at).map(|commit| commit.offset));
            if let Some(least) = commits.min() {
                forget_before(partition, least);
            }
        }
    }
}

fn forget_before(partition: &mut PartitionState, offset: i64) {
    let done = partition.log.iter().take_while(|batch| end_of(batch).is_some_and(|end| end <= offset)).count();
    partition.log.drain(..done);
    partition.log_start_offset =
        partition.log.first().and_then(|batch| start_of(batch)).unwrap_or(partition.next_offset);
}

/// The offset of a batch's first record.
fn start_of(batch: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(*batch.first_chunk()?))
}

/// The offset behind a batch's last record. Kafka's record batch has the last record's distance from the first at byte 23.
fn end_of(batch: &[u8]) -> Option<i64> {
    let delta = i32::from_be_bytes(*batch.get(23..)?.first_chunk()?);
    Some(start_of(batch)? + i64::from(delta) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use krafka::testing::CommittedOffset;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn what_is_committed_is_forgotten_and_nothing_else() {
        let broker = FakeBroker::start().await.unwrap();
        broker.create_topic("orders", 2);
        let kafka = broker.kafka().connect().await.unwrap();
        let producer = kafka.producer().build().await.unwrap();
        for record in 0..5 {
            // Waited for one by one, so each is a batch of its own.
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
        let seen = || {
            broker.with_state(|state| {
                let partition = &state.topics["orders"].partitions[0];
                (partition.log.len(), partition.log_start_offset, partition.next_offset)
            })
        };
        let mut names = Names::default();
        let now = Clock::system().monotonic();
        tidy(&broker, &mut names, now);
        assert_eq!(seen(), (5, 0, 5), "nobody has committed yet");
        assert!(broker.requests().is_empty());
        commit(3);
        tidy(&broker, &mut names, now);
        assert_eq!(seen(), (2, 3, 5));
        commit(5);
        tidy(&broker, &mut names, now);
        assert_eq!(seen(), (0, 5, 5), "the count of all records stays");
    }

    #[tokio::test]
    async fn a_broker_that_is_away_ends_its_connections_and_takes_none_until_it_is_back() {
        let broker = Broker::start(Clock::system()).await.unwrap();
        let connect = async || tokio::net::TcpStream::connect(broker.address()).await.unwrap();
        let mut before = connect().await;
        while broker.broker.open_connections() == 0 {
            tokio::task::yield_now().await;
        }
        broker.go_away();
        assert!(before.read_u8().await.is_err(), "nothing comes but the end");
        assert!(connect().await.read_u8().await.is_err());
        broker.come_back();
        assert!(broker.broker.kafka().connect().await.is_ok());
    }

    #[tokio::test]
    async fn a_poisoned_batch_has_offsets_of_its_own_and_a_wrong_checksum() {
        let broker = Broker::start(Clock::system()).await.unwrap();
        broker.broker.create_topic("orders", 1);
        assert!(!broker.poison(), "there is nothing to copy yet");
        let kafka = broker.broker.kafka().connect().await.unwrap();
        let producer = kafka.producer().build().await.unwrap();
        let _ = producer.send(krafka::Record::new("orders", "1").partition(0)).await.unwrap();
        assert!(broker.poison());
        assert_eq!(broker.broker.next_offset("orders", 0), Some(2));
        let _ = producer.send(krafka::Record::new("orders", "2").partition(0)).await.unwrap();
        assert_eq!(broker.broker.next_offset("orders", 0), Some(3));
        assert!(broker.broker.all_records("orders").is_err());
    }

    #[test]
    fn who_is_silent_loses_the_partitions() {
        let now = Clock::system().monotonic();
        let mut group = GroupState::default();
        for (name, last) in [("silent", now), ("heard", now + SESSION)] {
            group.consumer_members.entry(name.to_owned()).or_default().last_heartbeat = Some(last);
        }
        let_go_of_the_silent(&mut group, now + SESSION);
        assert_eq!(group.consumer_members.keys().collect::<Vec<_>>(), ["heard"]);
        assert_eq!(group.group_epoch, 1);
        let_go_of_the_silent(&mut group, now + SESSION);
        assert_eq!(group.group_epoch, 1, "nobody has gone");
    }
}
