//! Matches members of a consumer group with the job's pods, and finds the members that are not workers of the job.
//! Pure.
//!
//! A wrong match is worse than none: two members that are taken for one worker look like a single owner of all their
//! partitions. So a member gets the name of a pod only if the evidence matches one pod and no other member. Every other
//! member keeps the unique id that its group has assigned. Client ids are not unique: by default all workers have the
//! same.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use sluice_signals::{Owner, SourceSample};

use crate::observe::live::PodFacts;

/// Pods by name and by address.
pub(crate) struct PodIndex<'a> {
    pods: &'a [PodFacts],
    by_name: HashMap<&'a str, [usize; 1]>,
    /// Several pods share an address on the host's network.
    by_address: HashMap<IpAddr, Vec<usize>>,
}

impl<'a> PodIndex<'a> {
    pub(crate) fn new(pods: &'a [PodFacts]) -> Self {
        let mut by_address = HashMap::<IpAddr, Vec<usize>>::new();
        for (index, pod) in pods.iter().enumerate() {
            if let Some(address) = pod.ip.as_deref().and_then(address) {
                by_address.entry(address).or_default().push(index);
            }
        }
        let by_name = pods.iter().enumerate().map(|(index, pod)| (pod.name.as_str(), [index])).collect();
        Self { pods, by_name, by_address }
    }

    fn by_instance(&self, member: &Owner) -> Option<&[usize]> {
        self.by_name.get(member.instance_id.as_deref()?).map(<[usize; 1]>::as_slice)
    }

    fn by_client(&self, member: &Owner) -> Option<&[usize]> {
        self.by_name.get(member.client_id.as_str()).map(<[usize; 1]>::as_slice)
    }

    fn by_address(&self, member: &Owner) -> Option<&[usize]> {
        self.by_address.get(&address(&member.host)?).map(Vec::as_slice)
    }
}

/// Parses an address. Java writes IPv6 addresses in another form than Kubernetes.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The members of one group.
#[derive(Debug, Default)]
pub(crate) struct Members<'a> {
    /// Name of the pod, by the member's id in its group.
    pods: HashMap<&'a str, &'a str>,
    pub(crate) counts: MemberCounts,
    /// Members that are not workers of the job, with their ids in the group.
    pub(crate) strangers: Vec<(&'a str, &'a Owner)>,
}

/// Numbers of members of a group. Unknown if no member matches a pod, as behind an address translation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemberCounts {
    /// Members that are workers of the job.
    pub(crate) ours: Option<u32>,
    /// Workers of the job that own no partition.
    pub(crate) idle: Option<u32>,
    /// Members that are not workers of the job.
    pub(crate) strangers: Option<u32>,
}

/// The pod that a member matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PodMatch {
    /// The member matches no pod.
    None,
    /// The member matches several pods, or a pod that other members match too, such as several consumers in one
    /// process.
    Shared,
    /// The member, and no other, matches the pod with this index.
    Pod(usize),
}

impl<'a> Members<'a> {
    pub(crate) fn new(sample: &'a SourceSample, pod_index: &PodIndex<'a>) -> Self {
        let described = sample.group.iter().flat_map(|group| &group.members);
        let owners = sample.partitions.iter().filter_map(|partition| partition.owner.as_ref());
        let mut seen = HashSet::new();
        let members: Vec<&Owner> = described.chain(owners).filter(|member| seen.insert(own_name(member))).collect();
        let matches = pod_matches(&members, pod_index);
        let pod = |found: &PodMatch| match found {
            PodMatch::Pod(index) => pod_index.pods.get(*index).map(|pod| pod.name.as_str()),
            PodMatch::None | PodMatch::Shared => None,
        };
        let named = members.iter().zip(&matches).filter_map(|(member, found)| Some((own_name(member), pod(found)?)));
        let pods = named.collect();
        let counts = if sample.group.is_some() { counts(&members, &matches) } else { MemberCounts::default() };
        let unmatched =
            members.iter().zip(&matches).filter(|(_, found)| **found == PodMatch::None && counts.strangers > Some(0));
        let strangers = unmatched.map(|(member, _)| (own_name(member), *member)).collect();
        Self { pods, counts, strangers }
    }

    /// Returns the name of an owner of partitions: its pod's name if it is known, otherwise its id.
    pub(crate) fn name(&self, owner: &'a Owner) -> &'a str {
        let own = own_name(owner);
        self.pods.get(own).copied().unwrap_or(own)
    }
}

/// Returns the id of a member, which is unique in its group.
fn own_name(member: &Owner) -> &str {
    if member.member_id.is_empty() { &member.client_id } else { &member.member_id }
}

/// Matches each member with a pod.
fn pod_matches(members: &[&Owner], pod_index: &PodIndex<'_>) -> Vec<PodMatch> {
    let mut matches = vec![PodMatch::None; members.len()];
    let mut taken = HashSet::new();
    // The strongest evidence first. Weaker evidence is ignored for a pod whose member is known by then.
    for evidence in [PodIndex::by_instance, PodIndex::by_client, PodIndex::by_address] {
        let mut claims = HashMap::<&[usize], Vec<usize>>::new();
        for (index, member) in members.iter().enumerate() {
            if let Some(pods) = evidence(pod_index, member).filter(|pods| !pods.iter().all(|pod| taken.contains(pod))) {
                claims.entry(pods).or_default().push(index);
            }
        }
        for (pods, claimants) in claims {
            let found = match (pods, claimants.as_slice()) {
                ([pod], [_]) => PodMatch::Pod(*pod),
                _ => PodMatch::Shared,
            };
            for index in claimants {
                if let Some(known @ (PodMatch::None | PodMatch::Shared)) = matches.get_mut(index) {
                    *known = found;
                }
            }
        }
        taken.extend(matches.iter().filter_map(|found| match found {
            PodMatch::Pod(pod) => Some(*pod),
            PodMatch::None | PodMatch::Shared => None,
        }));
    }
    matches
}

fn counts(members: &[&Owner], matches: &[PodMatch]) -> MemberCounts {
    let ours: Vec<&Owner> =
        members.iter().zip(matches).filter(|(_, found)| **found != PodMatch::None).map(|(member, _)| *member).collect();
    if ours.is_empty() && !members.is_empty() {
        return MemberCounts::default();
    }
    let count = |count: usize| u32::try_from(count).ok();
    let owned: Option<Vec<usize>> = ours.iter().map(|member| member.partitions).collect();
    MemberCounts {
        ours: count(ours.len()),
        idle: owned.and_then(|owned| count(owned.iter().filter(|partitions| **partitions == 0).count())),
        strangers: count(members.len() - ours.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_signals::{GroupSample, PartitionSample};

    fn pod(name: &str, ip: &str) -> PodFacts {
        PodFacts { name: name.to_owned(), ip: Some(ip.to_owned()), ..PodFacts::default() }
    }

    fn member(id: &str, client_id: &str, host: &str, partitions: usize) -> Owner {
        Owner {
            member_id: id.to_owned(),
            client_id: client_id.to_owned(),
            instance_id: None,
            host: host.to_owned(),
            partitions: Some(partitions),
        }
    }

    fn sample(members: &[Owner]) -> SourceSample {
        let partition = |owner: &Owner| PartitionSample { owner: Some(owner.clone()), ..PartitionSample::default() };
        SourceSample {
            partitions: members.iter().filter(|member| member.partitions != Some(0)).map(partition).collect(),
            group: Some(GroupSample { members: members.to_vec(), ..GroupSample::default() }),
            ..SourceSample::default()
        }
    }

    /// Returns the name of each member, and the counts: ours, idle, strangers.
    fn match_members(pods: &[PodFacts], members: &[Owner]) -> (Vec<String>, [Option<u32>; 3]) {
        let sample = sample(members);
        let group = Members::new(&sample, &PodIndex::new(pods));
        let MemberCounts { ours, idle, strangers } = group.counts;
        (members.iter().map(|member| group.name(member).to_owned()).collect(), [ours, idle, strangers])
    }

    #[test]
    fn worker_is_matched_by_static_id_client_id_or_address() {
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2"), pod("w-2", "fd00::3")];
        let fixed = Owner { instance_id: Some("w-0".to_owned()), ..member("m0", "enricher", "10.9.9.9", 2) };
        let members = [fixed, member("m1", "w-1", "10.9.9.9", 1), member("m2", "x", "fd00:0:0:0:0:0:0:3", 0)];
        let (names, counts) = match_members(&pods, &members);
        assert_eq!(names, ["w-0", "w-1", "w-2"]);
        assert_eq!(counts, [Some(3), Some(1), Some(0)]);
    }

    #[test]
    fn unmatched_member_is_a_stranger_if_another_one_matches() {
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2")];
        let kcat = member("m2", "rdkafka", "10.0.0.77", 1);
        let (names, counts) = match_members(&pods, &[member("m0", "w-0", "10.0.0.1", 3), kcat.clone()]);
        assert_eq!(names, ["w-0", "m2"]);
        assert_eq!(counts, [Some(1), Some(0), Some(1)]);
        // A single member may be a worker whose address was translated.
        assert_eq!(match_members(&pods, &[kcat]).1, [None, None, None]);
        assert_eq!(match_members(&pods, &[]).1, [Some(0), Some(0), Some(0)]);
    }

    /// With Java's client ids and a translated address, the members were taken for one owner of all partitions.
    #[test]
    fn members_with_one_client_id_stay_distinct() {
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2")];
        let node = |id: &str| member(id, "consumer-orders-1", "192.168.0.5", 2);
        let (names, counts) = match_members(&pods, &[node("m0"), node("m1"), node("m2")]);
        assert_eq!(names, ["m0", "m1", "m2"]);
        assert_eq!(counts, [None, None, None]);
        // Without the translation each member has its pod's address.
        let at = |id: &str, host: &str| member(id, "consumer-orders-1", host, 2);
        assert_eq!(match_members(&pods, &[at("m0", "10.0.0.1"), at("m1", "10.0.0.2")]).0, ["w-0", "w-1"]);
    }

    #[test]
    fn shared_pod_address_matches_no_single_pod() {
        let pods = [pod("w-0", "192.168.0.5"), pod("w-1", "192.168.0.5"), pod("w-2", "192.168.0.6")];
        let members = ["5", "5", "6"].map(|host| member("", "", &format!("192.168.0.{host}"), 1));
        let members: Vec<Owner> =
            members.into_iter().enumerate().map(|(n, m)| Owner { member_id: format!("m{n}"), ..m }).collect();
        let (names, counts) = match_members(&pods, &members);
        assert_eq!(names, ["m0", "m1", "w-2"]);
        assert_eq!(counts, [Some(3), Some(0), Some(0)]);
    }

    #[test]
    fn pod_with_the_node_s_address_does_not_own_everything() {
        let pods = [pod("w-0", "192.168.0.5"), pod("w-1", "10.0.0.2"), pod("w-2", "10.0.0.3")];
        let members = ["m0", "m1", "m2"].map(|id| member(id, "consumer-orders-1", "192.168.0.5", 4));
        assert_eq!(match_members(&pods, &members).0, ["m0", "m1", "m2"]);
    }

    #[test]
    fn several_consumers_in_one_pod_are_separate_owners() {
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2")];
        let members = [
            member("m0", "consumer-orders-1", "10.0.0.1", 1),
            member("m1", "consumer-orders-2", "10.0.0.1", 0),
            member("m2", "consumer-orders-1", "10.0.0.2", 1),
            member("m3", "rdkafka", "10.0.0.99", 1),
        ];
        let (names, counts) = match_members(&pods, &members);
        assert_eq!(names, ["m0", "m1", "w-1", "m3"]);
        assert_eq!(counts, [Some(3), Some(1), Some(1)]);
        // The same with names: two members with the pod's name as client id.
        let members = [member("m0", "w-0", "10.9.9.9", 1), member("m1", "w-0", "10.9.9.9", 1)];
        assert_eq!(
            match_members(&pods, &members),
            (vec!["m0".to_owned(), "m1".to_owned()], [Some(2), Some(0), Some(0)])
        );
    }

    #[test]
    fn weaker_evidence_decides_only_if_the_stronger_is_shared() {
        // On one machine, a stranger has the address of a pod whose worker is known by its name.
        let pods = [pod("w-0", "127.0.0.1")];
        let members = [member("m0", "w-0", "127.0.0.1", 1), member("m1", "kcat", "127.0.0.1", 1)];
        assert_eq!(match_members(&pods, &members).1, [Some(1), Some(0), Some(1)]);
        // Every pod of a StatefulSet uses the first pod's name as client id.
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2")];
        let members = [member("m0", "w-0", "10.0.0.1", 1), member("m1", "w-0", "10.0.0.2", 1)];
        assert_eq!(match_members(&pods, &members).0, ["w-0", "w-1"]);
    }

    #[test]
    fn group_that_is_not_described_has_no_counts() {
        let pods = [pod("w-0", "10.0.0.1")];
        let unknown = Owner { partitions: None, ..member("m0", "w-0", "10.0.0.1", 0) };
        assert_eq!(match_members(&pods, &[unknown]).1, [Some(1), None, Some(0)]);
        let sample = SourceSample { group: None, ..sample(&[member("m0", "w-0", "10.0.0.1", 1)]) };
        let group = Members::new(&sample, &PodIndex::new(&pods));
        assert_eq!(group.counts, MemberCounts::default());
        assert_eq!(group.name(sample.partitions[0].owner.as_ref().unwrap()), "w-0");
    }
}
