//! Turns the answers of a round into the sample of one topic and group. Pure.
//!
//! Architecture invariant: unknown is not zero. An offset that could not be read is `None`, and `problem` has the
//! reason.

use std::collections::HashMap;

use krafka::admin::{ConsumerGroupDescription, ConsumerGroupMember, TopicDescription, TopicPartition};
use krafka::error::{ErrorCode, KrafkaError};

use super::TOO_SLOW;
use super::errors;
use super::round::{Reply, RoundAnswers, is_topic_name};
use super::timestamp_type;
use crate::limits;
use crate::sample::{GroupSample, Owner, PartitionSample, SourceSample};
use crate::source::{GroupTopic, SourceError};

/// State that Kafka reports for a group that does not exist.
const DEAD: &str = "Dead";

/// Offset that Kafka reports for a partition in which the group has not committed.
const NO_COMMIT: i64 = -1;

/// Returns the sample for one request; an error if nothing is known about the topic.
pub(super) fn sample_from(
    request: &GroupTopic,
    round: &RoundAnswers,
    cluster: &str,
) -> Result<SourceSample, SourceError> {
    if let Some(partitions) = round.too_large.get(&request.topic) {
        return Err(too_many_partitions(&request.topic, *partitions, cluster));
    }
    if round.not_reached.contains(&request.topic) {
        return Err(SourceError::NotReached { cluster: cluster.to_owned() });
    }
    if round.has_no_room {
        return Err(SourceError::RoundTooLarge { cluster: cluster.to_owned(), detail: TOO_SLOW.to_owned() });
    }
    let topic = topic(request, round, cluster)?;
    if !round.committed.contains_key(&request.group) {
        return Err(SourceError::NotReached { cluster: cluster.to_owned() });
    }
    let group = round.groups.get(&request.group);
    if let Some(Ok(group)) = group {
        check_group_limits(group, &request.group, cluster)?;
    }
    let owners = group.and_then(|reply| reply.as_ref().ok()).map(|group| owners(group, topic)).unwrap_or_default();
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|each| partition(each.partition, each.leader.is_some(), request, round, &owners))
        .collect();
    if partitions.iter().all(|partition| partition.end.is_none()) {
        return Err(no_end_offset(request, topic, round, cluster));
    }
    Ok(SourceSample {
        at: round.at,
        partitions,
        group: group.and_then(group_sample),
        producer_time: timestamp_type::set_by_producers(&round.kept.timestamp_types, topic),
    })
}

fn too_many_partitions(topic: &str, partitions: usize, cluster: &str) -> SourceError {
    let detail = format!(
        "topic {topic} has {partitions} partitions, more than the limit of {}; use a topic with fewer partitions",
        limits::MAX_PARTITIONS
    );
    SourceError::LimitExceeded { cluster: cluster.to_owned(), detail }
}

/// Returns an error if the group has too many members, or a member with too long ids.
fn check_group_limits(group: &ConsumerGroupDescription, name: &str, cluster: &str) -> Result<(), SourceError> {
    let exceeded = |detail: String| Err(SourceError::LimitExceeded { cluster: cluster.to_owned(), detail });
    let members = group.members.len();
    if members > limits::MAX_MEMBERS {
        let most = limits::MAX_MEMBERS;
        return exceeded(format!(
            "group {name} has {members} members, more than the limit of {most}; use a group with fewer members"
        ));
    }
    let size = |member: &ConsumerGroupMember| {
        let instance = member.instance_id.as_ref().map_or(0, String::len);
        member.member_id.len() + member.client_id.len() + member.client_host.len() + instance
    };
    let largest = group.members.iter().map(size).max().unwrap_or(0);
    if largest > limits::MAX_MEMBER_BYTES {
        let most = limits::MAX_MEMBER_BYTES;
        return exceeded(format!(
            "a member of group {name} has ids of {largest} bytes, more than the limit of {most}; set a shorter client.id"
        ));
    }
    Ok(())
}

fn topic<'a>(
    request: &GroupTopic,
    round: &'a RoundAnswers,
    cluster: &str,
) -> Result<&'a TopicDescription, SourceError> {
    match round.topics.get(&request.topic) {
        Some(Ok(topic)) => Ok(topic),
        Some(Err(error)) => Err(errors::from_topic_error(error, &request.topic, cluster)),
        None if is_topic_name(&request.topic) => Err(SourceError::Protocol {
            cluster: cluster.to_owned(),
            detail: format!("the answer lacks topic {}", request.topic),
        }),
        None => Err(SourceError::TopicMissing { topic: request.topic.clone(), cluster: cluster.to_owned() }),
    }
}

/// Returns why no end offset is known.
fn no_end_offset(request: &GroupTopic, topic: &TopicDescription, round: &RoundAnswers, cluster: &str) -> SourceError {
    let mut ends = topic.partitions.iter().filter_map(|each| {
        round.ends.get(&TopicPartition::new(request.topic.clone(), each.partition)).and_then(|end| end.as_ref().err())
    });
    match ends.next() {
        Some(error) => errors::from_topic_error(error, &request.topic, cluster),
        None => SourceError::Unreachable {
            cluster: cluster.to_owned(),
            detail: format!("no partition of topic {} has a leader", request.topic),
        },
    }
}

fn partition(
    number: i32,
    has_leader: bool,
    request: &GroupTopic,
    round: &RoundAnswers,
    owners: &HashMap<i32, Owner>,
) -> PartitionSample {
    let key = TopicPartition::new(request.topic.clone(), number);
    let mut problem = None;
    if !has_leader {
        problem = Some("the partition has no leader".to_owned());
    }
    // The first problem is reported: the others mostly follow from it.
    let mut record_problem = |what: &str, error: &KrafkaError| {
        problem.get_or_insert_with(|| format!("failed to read {what}: {}", errors::describe(error)));
    };
    let mut read = |what: &str, reply: Option<&Reply<i64>>| match reply {
        Some(Ok(offset)) => Some(*offset),
        Some(Err(error)) => {
            record_problem(what, error);
            None
        }
        None => None,
    };
    let end = read("the end offset", round.ends.get(&key));
    // A failure here is not a problem: the difference that it would show is rare.
    let high_watermark = round.high_watermarks.get(&key).and_then(|reply| reply.as_ref().ok());
    let start = read("the start offset", round.starts.get(&key));
    let committed = match round.committed.get(&request.group) {
        Some(Ok(offsets)) => match offsets.get(&key) {
            Some(Ok(offset)) => Some(offset.unwrap_or(NO_COMMIT)),
            Some(Err(error)) => {
                record_problem("the committed offset", error);
                None
            }
            None => Some(NO_COMMIT),
        },
        Some(Err(error)) => {
            record_problem("the committed offsets of the group", error);
            None
        }
        None => None,
    };
    PartitionSample {
        id: format!("{}/{number}", request.topic),
        start,
        end,
        // It was requested at the same time as the end, so it may have been read a moment earlier.
        high_watermark: high_watermark.map(|high| end.map_or(*high, |end| end.max(*high))),
        committed,
        due_end: round.due.get(&request.latency).and_then(|due| due.get(&key)).copied(),
        owner: owners.get(&number).cloned(),
        problem,
    }
}

fn owners(group: &ConsumerGroupDescription, topic: &TopicDescription) -> HashMap<i32, Owner> {
    let mut owners = HashMap::new();
    let known = has_assignments(group);
    for member in &group.members {
        for assigned in member.assignment.iter().flatten().filter(|assigned| assigned.topic_name == topic.name) {
            for number in &assigned.partitions {
                owners.entry(*number).or_insert_with(|| owner(member, known));
            }
        }
    }
    owners
}

/// Returns whether the group's assignments are known. While a classic group rebalances, the broker describes its
/// members without assignments, whatever they still own.
fn has_assignments(group: &ConsumerGroupDescription) -> bool {
    !group.state.ends_with("Rebalance")
}

fn owner(member: &ConsumerGroupMember, known: bool) -> Owner {
    let assigned = member.assignment.as_ref().filter(|_| known);
    Owner {
        member_id: member.member_id.clone(),
        client_id: member.client_id.clone(),
        instance_id: member.instance_id.clone(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        partitions: assigned.map(|topics| topics.iter().map(|topic| topic.partitions.len()).sum()),
    }
}

fn group_sample(reply: &Reply<ConsumerGroupDescription>) -> Option<GroupSample> {
    match reply {
        Ok(group) => Some(GroupSample {
            state: group.state.clone(),
            assignor: group.assignor.clone().filter(|assignor| !assignor.is_empty()),
            members: group.members.iter().map(|member| owner(member, has_assignments(group))).collect(),
        }),
        Err(KrafkaError::Broker { code: ErrorCode::GroupIdNotFound, .. }) => {
            Some(GroupSample { state: DEAD.to_owned(), ..GroupSample::default() })
        }
        Err(_) => None,
    }
}
