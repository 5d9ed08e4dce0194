//! Descriptions of groups: the fake broker describes only groups of the classic protocol, and stores no client ids for
//! members of the new one. Without client ids the operator could not map members to pods.

use std::collections::HashMap;

use axum::body::Bytes;
use krafka::testing::{ClassicGroupState, ConsumerGroupMemberState, GroupMember, GroupState};

/// The client id of each group member, where known.
#[derive(Debug, Default)]
pub(super) struct ClientIds(HashMap<String, String>);

impl ClientIds {
    /// Records which client sent the heartbeat of which member. Both lists are from the same period, in order of
    /// arrival. A single heartbeat is unambiguous; with several, the two orders can differ, so a known client id is not
    /// replaced.
    pub(super) fn record_heartbeats(&mut self, members: &[String], callers: &[String]) {
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

    /// Removes members that are no longer in any group.
    pub(super) fn retain_members_of(&mut self, groups: &HashMap<String, GroupState>) {
        self.0.retain(|member, _| groups.values().any(|group| group.consumer_members.contains_key(member)));
    }

    /// Copies the group's members into the fields of the classic protocol, from which the broker answers descriptions.
    pub(super) fn write_description(&self, group: &mut GroupState) {
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

/// Encodes the member's assignment as the classic protocol does: a version, the topics with their partitions, no user
/// data.
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

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_single_heartbeat_determines_the_client_id() {
        let mut client_ids = ClientIds::default();
        client_ids.record_heartbeats(&strings(&["m1", "m2"]), &strings(&["pod-2", "pod-1"]));
        client_ids.record_heartbeats(&strings(&["m1"]), &strings(&["pod-1"]));
        client_ids.record_heartbeats(&strings(&["m1", "m2"]), &strings(&["pod-2", "pod-1"]));
        client_ids.record_heartbeats(&strings(&["m2"]), &strings(&["pod-2"]));
        client_ids.record_heartbeats(&strings(&["m2"]), &strings(&[]));
        assert_eq!(client_ids.0, [("m1", "pod-1"), ("m2", "pod-2")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        client_ids.retain_members_of(&HashMap::new());
        assert!(client_ids.0.is_empty());
    }

    #[tokio::test]
    async fn a_described_group_shows_clients_and_partitions() {
        let broker = krafka::testing::FakeBroker::start().await.unwrap();
        broker.create_topic("orders", 3);
        let mut client_ids = ClientIds::default();
        client_ids.record_heartbeats(&strings(&["m1"]), &strings(&["pod-1"]));
        broker.with_state(|state| {
            let group = state.groups.entry("enricher".to_owned()).or_default();
            let member = group.consumer_members.entry("m1".to_owned()).or_default();
            member.owned.insert("orders".to_owned(), vec![0, 2]);
            client_ids.write_description(group);
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
