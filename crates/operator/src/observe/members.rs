//! Which worker is behind which member of a consumer group, and who in the group is no worker of the job. Pure.
//!
//! A wrong guess is worse than none: two members that are taken for one worker look like one owner that has everything. So a
//! member is named by a pod only where the evidence leads to one pod and from no other member; every other member keeps the id
//! that the group has given it, which no other has. Client ids are no names: by default all workers have the same.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use sluice_signals::{Owner, SourceSample};

use crate::observe::live::PodFacts;

/// Pods, by what can lead to them.
pub(crate) struct Places<'a> {
    pods: &'a [PodFacts],
    by_name: HashMap<&'a str, [usize; 1]>,
    /// Several pods have one address on the host's network.
    by_address: HashMap<IpAddr, Vec<usize>>,
}

impl<'a> Places<'a> {
    pub(crate) fn of(pods: &'a [PodFacts]) -> Self {
        let mut by_address = HashMap::<IpAddr, Vec<usize>>::new();
        for (place, pod) in pods.iter().enumerate() {
            if let Some(address) = pod.ip.as_deref().and_then(address) {
                by_address.entry(address).or_default().push(place);
            }
        }
        let by_name = pods.iter().enumerate().map(|(place, pod)| (pod.name.as_str(), [place])).collect();
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

/// Java writes an IPv6 address in another form than Kubernetes.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The members of one group.
#[derive(Debug, Default)]
pub(crate) struct Members<'a> {
    /// The pod's name, by what the member is called in its group.
    pods: HashMap<&'a str, &'a str>,
    pub(crate) counts: Counts,
    /// Who is no worker of the job, by what it is called in its group.
    pub(crate) strangers: Vec<(&'a str, &'a Owner)>,
}

/// How many members there are; unknown where nothing leads from any of them to a pod, as behind an address translation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Workers of the job.
    pub(crate) ours: Option<u32>,
    /// Of these, those that own no partition.
    pub(crate) idle: Option<u32>,
    /// The others.
    pub(crate) strangers: Option<u32>,
}

/// What leads from a member to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// Nothing.
    None,
    /// To a pod to which the same leads from other members, as from several consumers in one process; or to several pods.
    Shared,
    /// To this pod, and from no other member.
    Pod(usize),
}

impl<'a> Members<'a> {
    pub(crate) fn of(sample: &'a SourceSample, places: &Places<'a>) -> Self {
        let described = sample.group.iter().flat_map(|group| &group.members);
        let owners = sample.partitions.iter().filter_map(|partition| partition.owner.as_ref());
        let mut seen = HashSet::new();
        let members: Vec<&Owner> = described.chain(owners).filter(|member| seen.insert(own_name(member))).collect();
        let leads = leads(&members, places);
        let pod = |lead: &Lead| match lead {
            Lead::Pod(place) => places.pods.get(*place).map(|pod| pod.name.as_str()),
            Lead::None | Lead::Shared => None,
        };
        let named = members.iter().zip(&leads).filter_map(|(member, lead)| Some((own_name(member), pod(lead)?)));
        let pods = named.collect();
        let counts = if sample.group.is_some() { counts(&members, &leads) } else { Counts::default() };
        let lost = members.iter().zip(&leads).filter(|(_, lead)| **lead == Lead::None && counts.strangers > Some(0));
        let strangers = lost.map(|(member, _)| (own_name(member), *member)).collect();
        Self { pods, counts, strangers }
    }

    /// The name of an owner of partitions: its pod's where that is known.
    pub(crate) fn name(&self, owner: &'a Owner) -> &'a str {
        let own = own_name(owner);
        self.pods.get(own).copied().unwrap_or(own)
    }
}

/// What tells a member from the others of its group.
fn own_name(member: &Owner) -> &str {
    if member.member_id.is_empty() { &member.client_id } else { &member.member_id }
}

fn leads(members: &[&Owner], places: &Places<'_>) -> Vec<Lead> {
    let mut leads = vec![Lead::None; members.len()];
    let mut taken = HashSet::new();
    // The strongest first: what follows says nothing of a pod whose member is known by then.
    for evidence in [Places::by_instance, Places::by_client, Places::by_address] {
        let mut claims = HashMap::<&[usize], Vec<usize>>::new();
        for (place, member) in members.iter().enumerate() {
            if let Some(pods) = evidence(places, member).filter(|pods| !pods.iter().all(|pod| taken.contains(pod))) {
                claims.entry(pods).or_default().push(place);
            }
        }
        for (pods, claimants) in claims {
            let found = match (pods, claimants.as_slice()) {
                ([pod], [_]) => Lead::Pod(*pod),
                _ => Lead::Shared,
            };
            for place in claimants {
                if let Some(lead @ (Lead::None | Lead::Shared)) = leads.get_mut(place) {
                    *lead = found;
                }
            }
        }
        taken.extend(leads.iter().filter_map(|lead| match lead {
            Lead::Pod(pod) => Some(*pod),
            Lead::None | Lead::Shared => None,
        }));
    }
    leads
}

fn counts(members: &[&Owner], leads: &[Lead]) -> Counts {
    let ours: Vec<&Owner> =
        members.iter().zip(leads).filter(|(_, lead)| **lead != Lead::None).map(|(member, _)| *member).collect();
    if ours.is_empty() && !members.is_empty() {
        return Counts::default();
    }
    let count = |count: usize| u32::try_from(count).ok();
    let owned: Option<Vec<usize>> = ours.iter().map(|member| member.partitions).collect();
    Counts {
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

    /// The name of each member, and the counts: ours, idle, strangers.
    fn told(pods: &[PodFacts], members: &[Owner]) -> (Vec<String>, [Option<u32>; 3]) {
        let sample = sample(members);
        let group = Members::of(&sample, &Places::of(pods));
        let Counts { ours, idle, strangers } = group.counts;
        (members.iter().map(|member| group.name(member).to_owned()).collect(), [ours, idle, strangers])
    }

    #[test]
    fn a_worker_is_known_by_static_id_by_client_id_or_by_its_address() {
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2"), pod("w-2", "fd00::3")];
        let fixed = Owner { instance_id: Some("w-0".to_owned()), ..member("m0", "enricher", "10.9.9.9", 2) };
        let members = [fixed, member("m1", "w-1", "10.9.9.9", 1), member("m2", "x", "fd00:0:0:0:0:0:0:3", 0)];
        let (names, counts) = told(&pods, &members);
        assert_eq!(names, ["w-0", "w-1", "w-2"]);
        assert_eq!(counts, [Some(3), Some(1), Some(0)]);
    }

    #[test]
    fn who_leads_to_no_pod_is_a_stranger_as_long_as_another_does() {
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2")];
        let kcat = member("m2", "rdkafka", "10.0.0.77", 1);
        let (names, counts) = told(&pods, &[member("m0", "w-0", "10.0.0.1", 3), kcat.clone()]);
        assert_eq!(names, ["w-0", "m2"]);
        assert_eq!(counts, [Some(1), Some(0), Some(1)]);
        // Alone it may be a worker whose address was translated.
        assert_eq!(told(&pods, &[kcat]).1, [None, None, None]);
        assert_eq!(told(&pods, &[]).1, [Some(0), Some(0), Some(0)]);
    }

    /// Java's client ids and a translated address: they were one owner that had everything.
    #[test]
    fn members_with_one_client_id_stay_distinct() {
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2")];
        let node = |id: &str| member(id, "consumer-orders-1", "192.168.0.5", 2);
        let (names, counts) = told(&pods, &[node("m0"), node("m1"), node("m2")]);
        assert_eq!(names, ["m0", "m1", "m2"]);
        assert_eq!(counts, [None, None, None]);
        // Without the translation each has its pod's address.
        let at = |id: &str, host: &str| member(id, "consumer-orders-1", host, 2);
        assert_eq!(told(&pods, &[at("m0", "10.0.0.1"), at("m1", "10.0.0.2")]).0, ["w-0", "w-1"]);
    }

    #[test]
    fn an_address_that_several_pods_have_names_none_of_them() {
        let pods = [pod("w-0", "192.168.0.5"), pod("w-1", "192.168.0.5"), pod("w-2", "192.168.0.6")];
        let members = ["5", "5", "6"].map(|host| member("", "", &format!("192.168.0.{host}"), 1));
        let members: Vec<Owner> =
            members.into_iter().enumerate().map(|(n, m)| Owner { member_id: format!("m{n}"), ..m }).collect();
        let (names, counts) = told(&pods, &members);
        assert_eq!(names, ["m0", "m1", "w-2"]);
        assert_eq!(counts, [Some(3), Some(0), Some(0)]);
    }

    #[test]
    fn the_node_s_address_does_not_make_the_pod_that_has_it_the_owner_of_everything() {
        let pods = [pod("w-0", "192.168.0.5"), pod("w-1", "10.0.0.2"), pod("w-2", "10.0.0.3")];
        let members = ["m0", "m1", "m2"].map(|id| member(id, "consumer-orders-1", "192.168.0.5", 4));
        assert_eq!(told(&pods, &members).0, ["m0", "m1", "m2"]);
    }

    #[test]
    fn several_consumers_in_one_pod_are_ours_and_each_is_its_own_owner() {
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2")];
        let members = [
            member("m0", "consumer-orders-1", "10.0.0.1", 1),
            member("m1", "consumer-orders-2", "10.0.0.1", 0),
            member("m2", "consumer-orders-1", "10.0.0.2", 1),
            member("m3", "rdkafka", "10.0.0.99", 1),
        ];
        let (names, counts) = told(&pods, &members);
        assert_eq!(names, ["m0", "m1", "w-1", "m3"]);
        assert_eq!(counts, [Some(3), Some(1), Some(1)]);
        // By name, too: two with the pod's client id.
        let members = [member("m0", "w-0", "10.9.9.9", 1), member("m1", "w-0", "10.9.9.9", 1)];
        assert_eq!(told(&pods, &members), (vec!["m0".to_owned(), "m1".to_owned()], [Some(2), Some(0), Some(0)]));
    }

    #[test]
    fn stronger_evidence_goes_before_weaker_and_the_weaker_decides_where_the_stronger_is_shared() {
        // On one machine: a stranger has the address of a pod whose worker is known by its name.
        let pods = [pod("w-0", "127.0.0.1")];
        let members = [member("m0", "w-0", "127.0.0.1", 1), member("m1", "kcat", "127.0.0.1", 1)];
        assert_eq!(told(&pods, &members).1, [Some(1), Some(0), Some(1)]);
        // Every pod of a StatefulSet has the first one's name as its client id.
        let pods = [pod("w-0", "10.0.0.1"), pod("w-1", "10.0.0.2")];
        let members = [member("m0", "w-0", "10.0.0.1", 1), member("m1", "w-0", "10.0.0.2", 1)];
        assert_eq!(told(&pods, &members).0, ["w-0", "w-1"]);
    }

    #[test]
    fn what_is_not_described_is_not_counted() {
        let pods = [pod("w-0", "10.0.0.1")];
        let unknown = Owner { partitions: None, ..member("m0", "w-0", "10.0.0.1", 0) };
        assert_eq!(told(&pods, &[unknown]).1, [Some(1), None, Some(0)]);
        let sample = SourceSample { group: None, ..sample(&[member("m0", "w-0", "10.0.0.1", 1)]) };
        let group = Members::of(&sample, &Places::of(&pods));
        assert_eq!(group.counts, Counts::default());
        assert_eq!(group.name(sample.partitions[0].owner.as_ref().unwrap()), "w-0");
    }
}
