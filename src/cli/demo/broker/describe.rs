//! Who is in a group, for whoever asks: the fake broker describes only groups of the classic protocol, and its members of
//! the new one do not have the names of their clients. Without them the operator could not tell which pod is which member.

use std::collections::HashMap;

use axum::body::Bytes;
use krafka::testing::{ClassicGroupState, ConsumerGroupMemberState, GroupMember, GroupState};

/// The client's name of each member, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, String>);

impl Names {
    /// Learns from the heartbeats of a moment: who they were of, and who sent them, each in the order of arrival. Where one
    /// came alone there is no doubt; of several, the order on both sides can differ, so what is known already stands.
    pub(super) fn learn(&mut self, members: &[String], callers: &[String]) {
        if members.len() != callers.len() {
            return;
        }
        let alone = members.len() == 1;
        for (member, caller) in members.iter().zip(callers) {
            if alone || !self.0.contains_key(member) {
                self.0.insert(member.clone(), caller.clone());
            }
        }
    }

    /// Forgets those that are in no group any more.
    pub(super) fn keep(&mut self, groups: &HashMap<String, GroupState>) {
        self.0.retain(|member, _| groups.values().any(|group| group.consumer_members.contains_key(member)));
    }

    /// Writes the group's members down where a description is read from.
    pub(super) fn fill(&self, group: &mut GroupState) {
        if group.consumer_members.is_empty() && group.members.is_empty() {
            group.state = ClassicGroupState::Empty;
            return;
        }
        "consumer".clone_into(&mut group.protocol_type);
        group.state = ClassicGroupState::Stable;
        group.members = group
            .consumer_members
            .iter()
            .map(|(id, member)| GroupMember {
                member_id: id.clone(),
                group_instance_id: member.instance_id.clone(),
                metadata: Bytes::new(),
                client_id: self.0.get(id).cloned().unwrap_or_default(),
                client_host: "127.0.0.1".to_owned(),
            })
            .collect();
        group.assignments =
            group.consumer_members.iter().map(|(id, member)| (id.clone(), assignment(member))).collect();
        if group.members.is_empty() {
            group.state = ClassicGroupState::Empty;
        }
    }
}

/// What the member has, as the classic protocol writes it: a version, the topics each with its partitions, no user data.
fn assignment(member: &ConsumerGroupMemberState) -> Bytes {
    let length = |length: usize| i32::try_from(length).unwrap_or(0).to_be_bytes();
    let mut bytes = 0_i16.to_be_bytes().to_vec();
    bytes.extend(length(member.owned.len()));
    for (topic, partitions) in &member.owned {
        bytes.extend(i16::try_from(topic.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(topic.as_bytes());
        bytes.extend(length(partitions.len()));
        bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_heartbeat_that_came_alone_settles_it() {
        let mut names = Names::default();
        names.learn(&words(&["m1", "m2"]), &words(&["pod-2", "pod-1"]));
        names.learn(&words(&["m1"]), &words(&["pod-1"]));
        names.learn(&words(&["m1", "m2"]), &words(&["pod-2", "pod-1"]));
        names.learn(&words(&["m2"]), &words(&["pod-2"]));
        names.learn(&words(&["m2"]), &words(&[]));
        assert_eq!(names.0, [("m1", "pod-1"), ("m2", "pod-2")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        names.keep(&HashMap::new());
        assert!(names.0.is_empty());
    }

    #[tokio::test]
    async fn a_client_sees_who_has_what() {
        let broker = krafka::testing::FakeBroker::start().await.unwrap();
        broker.create_topic("orders", 3);
        let mut names = Names::default();
        names.learn(&words(&["m1"]), &words(&["pod-1"]));
        broker.with_state(|state| {
            let group = state.groups.entry("enricher".to_owned()).or_default();
            let member = group.consumer_members.entry("m1".to_owned()).or_default();
            member.owned.insert("orders".to_owned(), vec![0, 2]);
            names.fill(group);
        });
        let admin = broker.kafka().connect().await.unwrap().admin();
        let options = krafka::admin::DescribeConsumerGroupsOptions::default();
        let mut groups = admin.describe_consumer_groups(["enricher"], options).await.unwrap();
        let group = groups.remove("enricher").unwrap().unwrap();
        assert_eq!((group.state.as_str(), group.members.len()), ("Stable", 1));
        let member = &group.members[0];
        assert_eq!(member.client_id, "pod-1");
        let assigned = &member.assignment.as_ref().unwrap()[0];
        assert_eq!((assigned.topic_name.as_str(), assigned.partitions.as_slice()), ("orders", [0, 2].as_slice()));
    }
}
