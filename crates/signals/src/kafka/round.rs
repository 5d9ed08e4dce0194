//! One round: reads everything that is due from a cluster, for all jobs, in as few requests as krafka allows.
//!
//! ```text
//! topics ─► ends, high watermarks, starts, timestamp types ─► newest timestamps ─► due ends
//! committed offsets
//! groups
//! ```
//!
//! The three rows run concurrently, so that committed offsets are never newer than the ends. The first row sends one
//! request of each kind to each leader, for the partitions of all jobs. The second sends one request for each group, and
//! the third one for each coordinator.
//!
//! The newest timestamp is requested before the due end, because krafka takes "there is no record that new" for an
//! error worth retrying, and retries it until its timeout (`OffsetNotAvailable`). A partition that has been quiet for
//! longer than the objective would stall every round. So a look-up by timestamp is sent only if the newest record is
//! known to be that new, and the newest timestamp is requested only if the end has moved since the last request.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{join, join4};
use krafka::admin::{
    AdminClient, ConsumerGroupDescription, DescribeConsumerGroupsOptions, DescribeTopicsOptions,
    ListConsumerGroupOffsetsOptions, ListOffsetsOptions, ListedOffset, OffsetSpec, TopicDescription, TopicPartition,
};
use krafka::error::{ErrorCode, KrafkaError};
use tokio::time::Instant;

use super::timestamp_type::{self, TimestampTypes};
use crate::limits;
use crate::source::GroupTopic;
use crate::tunnel;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;

/// krafka's first pause between two attempts of one call.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Time limit of a look-up by timestamp when it is unknown whether there is such a record. That happens only with
/// brokers without `MaxTimestamp` (and with krafka's fake broker). The limit is longer than an answer takes, and short
/// compared to the shortest interval.
const UNCERTAIN_LOOK_UP_TIMEOUT: Duration = Duration::from_millis(150);

/// Number of groups whose committed offsets are fetched concurrently.
const GROUPS_AT_ONCE: usize = 32;

/// krafka's answer for one item.
pub(super) type Reply<T> = Result<T, KrafkaError>;

/// A group's committed offsets. An offset that is `None` or absent means that the group has not committed there.
pub(super) type Committed = HashMap<TopicPartition, Reply<Option<i64>>>;

/// The end offset and the newest timestamp of a partition, by topic id and partition number. The timestamp is valid
/// until the end moves.
pub(super) type Newest = HashMap<([u8; 16], i32), (i64, i64)>;

/// What a round learned that the next round reuses.
#[derive(Default)]
pub(super) struct RoundCache {
    pub(super) newest: Newest,
    pub(super) timestamp_types: TimestampTypes,
}

/// The answers of a round. An absent entry was not requested, or its call failed as a whole.
#[derive(Default)]
pub(super) struct RoundAnswers {
    /// Whether a broker answered anything.
    pub(super) answered: bool,
    /// When the ends were requested.
    pub(super) at: Seconds,
    pub(super) topics: HashMap<String, Reply<TopicDescription>>,
    pub(super) ends: HashMap<TopicPartition, Reply<i64>>,
    pub(super) high_watermarks: HashMap<TopicPartition, Reply<i64>>,
    pub(super) starts: HashMap<TopicPartition, Reply<i64>>,
    /// Due ends by latency.
    pub(super) due: HashMap<Duration, HashMap<TopicPartition, i64>>,
    /// By group: the offsets of the partitions in which it has committed.
    pub(super) committed: HashMap<String, Reply<Committed>>,
    pub(super) groups: HashMap<String, Reply<ConsumerGroupDescription>>,
    /// Topics with too many partitions, with the number of partitions.
    pub(super) too_large: HashMap<String, usize>,
    /// Topics that did not fit into this round. They come first in the next round.
    pub(super) not_reached: HashSet<String>,
    /// Whether the other running rounds left too little memory for the partitions.
    pub(super) has_no_room: bool,
    /// What is known after the round. A round without answers keeps what was known before.
    pub(super) kept: Arc<RoundCache>,
}

impl RoundAnswers {
    /// Removes topics with too many partitions, and topics that do not fit into one round with the topics before them.
    /// The requests are ordered by how long they have waited, so each topic gets its turn. The partitions that a broker
    /// lists cost nothing yet; each one that is read does.
    fn remove_oversized_topics(&mut self, requests: &[GroupTopic]) {
        let mut left = limits::max_partitions_per_round(self.topics.len());
        let mut seen = HashSet::new();
        for name in requests.iter().map(|request| &request.topic).filter(|name| seen.insert(*name)) {
            let Some(Ok(topic)) = self.topics.get(name) else { continue };
            let partitions = topic.partitions.len();
            if partitions > limits::MAX_PARTITIONS {
                self.too_large.insert(name.clone(), partitions);
            } else if partitions > left {
                self.not_reached.insert(name.clone());
            } else {
                left -= partitions;
                continue;
            }
            self.topics.remove(name);
        }
    }
}

/// Sends the requests. Takes at most `deadline`, and then returns the answers so far.
pub(super) async fn gather(
    client: &AdminClient,
    clock: &Clock,
    requests: &[GroupTopic],
    deadline: Duration,
    known: Arc<RoundCache>,
    byte_budget: Option<&tunnel::RoundBudget<'_>>,
) -> RoundAnswers {
    let time_budget = TimeBudget { clock, until: clock.monotonic() + deadline };
    // In the order of the requests: the one that has waited longest comes first.
    let mut seen = HashSet::new();
    let groups: Vec<&str> =
        requests.iter().map(|request| request.group.as_str()).filter(|group| seen.insert(*group)).collect();
    let log = gather_log(client, &time_budget, requests, known, byte_budget);
    let membership =
        join(committed_offsets(client, &groups, &time_budget), describe_groups(client, &groups, &time_budget));
    let (mut round, (committed, groups)) = join(log, membership).await;
    round.answered |= committed.values().any(is_answer) || groups.values().any(is_answer);
    round.committed = committed;
    round.groups = groups;
    round
}

/// Reads topics, ends, high watermarks, starts and due ends.
async fn gather_log(
    client: &AdminClient,
    time_budget: &TimeBudget<'_>,
    requests: &[GroupTopic],
    known: Arc<RoundCache>,
    byte_budget: Option<&tunnel::RoundBudget<'_>>,
) -> RoundAnswers {
    // krafka fails the whole call for one invalid name. `answer.rs` reports the names that are left out here.
    let names: BTreeSet<&str> =
        requests.iter().map(|request| request.topic.as_str()).filter(|topic| is_topic_name(topic)).collect();
    let options = DescribeTopicsOptions::default().timeout(time_budget.share(0.4));
    let topics = match client.describe_topics(&names, options).await {
        Ok(topics) => topics,
        Err(error) => names.iter().map(|name| ((*name).to_owned(), Err(error.clone()))).collect(),
    };
    let answered = topics.values().any(is_answer);
    let mut round = RoundAnswers { answered, topics, kept: Arc::clone(&known), ..RoundAnswers::default() };

    round.remove_oversized_topics(requests);

    // A partition without a leader would be retried until the timeout, and delay the others.
    let partitions: Vec<TopicPartition> = round
        .topics
        .values()
        .flatten()
        .flat_map(|topic| {
            let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
            led.map(|partition| TopicPartition::new(topic.name.clone(), partition.partition))
        })
        .collect();
    round.at = time_budget.clock.now();
    if partitions.is_empty() {
        return round;
    }
    if let Some(byte_budget) = byte_budget {
        let room = byte_budget.draw(
            limits::BYTES_PER_PARTITION_ASKED.saturating_mul(u64::try_from(partitions.len()).unwrap_or(u64::MAX)),
        );
        if tokio::time::timeout(time_budget.share(0.5), room).await.is_err() {
            round.has_no_room = true;
            return round;
        }
    }
    let timeout = time_budget.share(0.5);
    // The end that a reader of committed records can reach: without an open transaction, the high watermark. A
    // transaction that hangs would otherwise look like a backlog that no worker can process.
    let committed = ListOffsetsOptions::default().read_committed(true).timeout(timeout);
    let all = || ListOffsetsOptions::default().timeout(timeout);
    let now = time_budget.clock.monotonic();
    let (ends, high_watermarks, starts, timestamp_types) = join4(
        list_offsets(client, &partitions, OffsetSpec::Latest, committed),
        // While a transaction hangs, only the high watermark shows what is appended.
        list_offsets(client, &partitions, OffsetSpec::Latest, all()),
        list_offsets(client, &partitions, OffsetSpec::Earliest, all()),
        timestamp_type::refresh(client, &round.topics, &known.timestamp_types, now, timeout),
    )
    .await;
    round.ends = offsets(ends);
    round.high_watermarks = offsets(high_watermarks);
    round.starts = offsets(starts);
    let newest = due_ends(client, time_budget, requests, &mut round, &known.newest, &timestamp_types).await;
    round.kept = Arc::new(RoundCache { newest, timestamp_types });
    round
}

/// Finds the due ends for every requested latency, where timestamps are known to be append times. Returns the newest
/// timestamps.
async fn due_ends(
    client: &AdminClient,
    time_budget: &TimeBudget<'_>,
    requests: &[GroupTopic],
    round: &mut RoundAnswers,
    known: &Newest,
    timestamp_types: &TimestampTypes,
) -> Newest {
    let ids: HashMap<&str, [u8; 16]> =
        round.topics.values().flatten().map(|topic| (topic.name.as_str(), topic.topic_id)).collect();
    let id = |partition: &TopicPartition| {
        (ids.get(partition.topic.as_str()).copied().unwrap_or_default(), partition.partition)
    };
    let appended = |partition: &TopicPartition| {
        let topic = round.topics.get(&partition.topic).and_then(|topic| topic.as_ref().ok());
        topic.is_some_and(|topic| timestamp_type::set_by_producers(timestamp_types, topic) == Some(false))
    };
    // Topics with timestamps of the producers, or with unknown ones, are left out.
    let ends: HashMap<&TopicPartition, i64> = round
        .ends
        .iter()
        .filter(|(partition, _)| appended(partition))
        .filter_map(|(partition, end)| Some((partition, *end.as_ref().ok()?)))
        .collect();
    let is_empty = |partition: &TopicPartition, end: i64| {
        round.starts.get(partition).and_then(|start| start.as_ref().ok()).is_some_and(|start| *start >= end)
    };

    let moved: Vec<TopicPartition> = ends
        .iter()
        .filter(|(partition, end)| {
            !is_empty(partition, **end) && known.get(&id(partition)).is_none_or(|(seen, _)| seen != *end)
        })
        .map(|(partition, _)| (*partition).clone())
        .collect();
    // Partitions that are no longer read are forgotten.
    let mut newest: Newest =
        ends.keys().filter_map(|partition| Some((id(partition), *known.get(&id(partition))?))).collect();
    if !moved.is_empty() {
        // Uncommitted records count here: what matters is whether a look-up would find a record.
        let options = ListOffsetsOptions::default().timeout(time_budget.share(0.5));
        for (partition, reply) in list_offsets(client, &moved, OffsetSpec::MaxTimestamp, options).await {
            newest.remove(&id(&partition));
            if let (Ok(ListedOffset { timestamp: Some(timestamp), .. }), Some(end)) = (reply, ends.get(&partition)) {
                newest.insert(id(&partition), (*end, timestamp));
            }
        }
    }

    let latencies: BTreeSet<Duration> = requests.iter().map(|request| request.latency).collect();
    let look_ups = latencies.into_iter().map(|latency| {
        let (ends, newest, at) = (&ends, &newest, round.at);
        let topics: BTreeSet<&str> = requests
            .iter()
            .filter(|request| request.latency == latency)
            .map(|request| request.topic.as_str())
            .collect();
        async move {
            let cutoff = millis(at - Seconds(latency.as_secs_f64()));
            let mut due = HashMap::new();
            let (mut open, mut certain) = (Vec::new(), true);
            for (partition, end) in ends.iter().filter(|(partition, _)| topics.contains(partition.topic.as_str())) {
                match newest.get(&id(partition)) {
                    _ if is_empty(partition, *end) => _ = due.insert((*partition).clone(), *end),
                    Some((_, timestamp)) if *timestamp < cutoff => _ = due.insert((*partition).clone(), *end),
                    known => {
                        certain &= known.is_some();
                        open.push((*partition).clone());
                    }
                }
            }
            if !open.is_empty() {
                let timeout = if certain {
                    time_budget.share(0.8)
                } else {
                    UNCERTAIN_LOOK_UP_TIMEOUT.min(time_budget.share(0.8))
                };
                let options = ListOffsetsOptions::default().timeout(timeout);
                for (partition, reply) in list_offsets(client, &open, OffsetSpec::Timestamp(cutoff), options).await {
                    let Some(end) = ends.get(&partition) else { continue };
                    let found = match reply {
                        // Nothing beyond the last stable offset can be due.
                        Ok(found) => Some(found.offset.min(*end)),
                        Err(KrafkaError::Broker { code: ErrorCode::OffsetNotAvailable, .. }) => Some(*end),
                        Err(_) => None,
                    };
                    due.extend(found.map(|found| (partition, found)));
                }
            }
            (latency, due)
        }
    });
    let due: HashMap<_, _> = futures::future::join_all(look_ups).await.into_iter().collect();
    round.due = due;
    newest
}

/// Returns the committed offsets by group; a group that was not reached in time is absent. A group may take half of the
/// time that is left when its turn comes, so that a coordinator that does not answer leaves time for the groups after
/// it.
async fn committed_offsets(
    client: &AdminClient,
    groups: &[&str],
    time_budget: &TimeBudget<'_>,
) -> HashMap<String, Reply<Committed>> {
    let end = time_budget.until - time_budget.share(0.1);
    let in_time = |_: &String| std::future::ready(time_budget.clock.monotonic() < end);
    let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    futures::stream::iter(groups)
        .take_while(in_time)
        .map(|group| async move {
            // All partitions of the group, because the partitions of the topics are being requested at the same time.
            let options = ListConsumerGroupOffsetsOptions::default().timeout(time_budget.share(0.5));
            let reply = match client.list_consumer_group_offsets(group.as_str(), options).await {
                Ok(offsets) => Ok(offsets
                    .into_iter()
                    .map(|(partition, reply)| (partition, reply.map(|committed| committed.offset)))
                    .collect()),
                Err(KrafkaError::Broker { code: ErrorCode::GroupIdNotFound, .. }) => Ok(HashMap::new()),
                Err(error) => Err(error),
            };
            (group, reply)
        })
        .buffer_unordered(GROUPS_AT_ONCE)
        .collect()
        .await
}

async fn describe_groups(
    client: &AdminClient,
    groups: &[&str],
    time_budget: &TimeBudget<'_>,
) -> HashMap<String, Reply<ConsumerGroupDescription>> {
    let options = DescribeConsumerGroupsOptions::default().timeout(time_budget.share(0.9));
    match client.describe_consumer_groups(groups, options).await {
        Ok(described) => described,
        Err(error) => groups.iter().map(|group| ((*group).to_owned(), Err(error.clone()))).collect(),
    }
}

async fn list_offsets(
    client: &AdminClient,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
    options: ListOffsetsOptions,
) -> HashMap<TopicPartition, Reply<ListedOffset>> {
    match client.list_offsets(partitions.iter().map(|partition| (partition.clone(), spec)), options).await {
        Ok(listed) => listed,
        Err(error) => partitions.iter().map(|partition| (partition.clone(), Err(error.clone()))).collect(),
    }
}

fn offsets(listed: HashMap<TopicPartition, Reply<ListedOffset>>) -> HashMap<TopicPartition, Reply<i64>> {
    listed.into_iter().map(|(partition, reply)| (partition, reply.map(|listed| listed.offset))).collect()
}

/// Returns whether a broker gave this answer, be it an error.
fn is_answer<T>(reply: &Reply<T>) -> bool {
    matches!(reply, Ok(_) | Err(KrafkaError::Broker { .. }))
}

/// Returns whether a topic can have this name, by Kafka's own rule.
pub(super) fn is_topic_name(name: &str) -> bool {
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.chars().all(legal)
}

#[allow(clippy::cast_possible_truncation, reason = "Unix time in milliseconds fits, and the cast saturates")]
fn millis(at: Seconds) -> i64 {
    // A negative timestamp would be read as a sentinel.
    ((at.0 * 1000.0).floor() as i64).max(0)
}

/// The time that is left for the round.
struct TimeBudget<'a> {
    clock: &'a Clock,
    until: Instant,
}

impl TimeBudget<'_> {
    /// Returns a part of the time that is left, for one step.
    fn share(&self, part: f64) -> Duration {
        self.until.saturating_duration_since(self.clock.monotonic()).mul_f64(part)
    }
}
