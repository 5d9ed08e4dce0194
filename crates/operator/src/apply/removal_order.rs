//! Chooses the workers that leave first on a scale-down: those whose removal moves the fewest partitions, and among
//! these the ones with the fewest waiting records. Pure.
//!
//! A `ReplicaSet` first removes pods that are not ready, then those with the lowest deletion cost. So the leaving
//! workers get a lower cost than the others, right before the replica count is written, and at no other time.

use std::cmp::Reverse;
use std::collections::HashMap;

use sluice_policy::Partition;

use crate::annotations::LEAVING_POD_COST;
use crate::observe::live::PodFacts;

/// A change of the deletion cost of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeletionMark {
    pub(crate) pod: String,
    pub(crate) uid: String,
    /// The pod should leave first; otherwise an earlier mark is removed.
    pub(crate) leaves: bool,
}

/// Returns the marks that must change so that `to` workers stay. The result is empty if the owner of any partition is
/// unknown (which does not mean that it has none), if another client sets deletion costs on the pods, or if all workers
/// leave.
pub(crate) fn marks(pods: &[PodFacts], partitions: &[Partition], to: u32) -> Vec<DeletionMark> {
    if to == 0 || pods.iter().any(|pod| pod.deletion_cost.is_some_and(|cost| cost != LEAVING_POD_COST)) {
        return Vec::new();
    }
    let mut active: Vec<&PodFacts> = pods.iter().filter(|pod| !pod.terminating).collect();
    let Some(burdens) = burdens(pods, partitions) else { return Vec::new() };
    let created = |pod: &PodFacts| pod.created_at.map_or(0, |at| at.0.to_bits());
    active.sort_by_key(|pod| {
        let burden = burdens.get(pod.name.as_str()).copied().unwrap_or_default();
        (pod.ready, burden, Reverse(created(pod)))
    });
    let stay = usize::try_from(to).unwrap_or(usize::MAX);
    let leaving = active.len().saturating_sub(stay);
    let mark = |(index, pod): (usize, &&PodFacts)| {
        let leaves = index < leaving;
        let changes = leaves != pod.deletion_cost.is_some();
        changes.then(|| DeletionMark { pod: pod.name.clone(), uid: pod.uid.clone(), leaves })
    };
    active.iter().enumerate().filter_map(mark).collect()
}

/// Returns the number of partitions of each worker, and of the records that wait in them. `None`: unknown.
fn burdens<'a>(pods: &[PodFacts], partitions: &'a [Partition]) -> Option<HashMap<&'a str, (usize, i64)>> {
    let mut burdens = HashMap::<&str, (usize, i64)>::new();
    for partition in partitions {
        let owner = partition.owner.as_deref().filter(|owner| pods.iter().any(|pod| pod.name == *owner))?;
        let done = partition.position.max(partition.committed).filter(|done| *done >= 0);
        let waits = partition.end.zip(done).map_or(0, |(end, done)| end.saturating_sub(done).max(0));
        let (count, lag) = burdens.entry(owner).or_default();
        (*count, *lag) = (*count + 1, lag.saturating_add(waits));
    }
    (!burdens.is_empty()).then_some(burdens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_base::units::Seconds;

    fn pod(name: &str, created: f64) -> PodFacts {
        PodFacts {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            created_at: Some(Seconds(created)),
            ready: true,
            ..PodFacts::default()
        }
    }

    fn partition(owner: Option<&str>, lag: i64) -> Partition {
        Partition {
            owner: owner.map(str::to_owned),
            end: Some(100 + lag),
            committed: Some(100),
            ..Partition::default()
        }
    }

    fn leaving(pods: &[PodFacts], partitions: &[Partition], to: u32) -> Vec<String> {
        let mut leaving: Vec<String> =
            marks(pods, partitions, to).into_iter().filter(|mark| mark.leaves).map(|mark| mark.pod).collect();
        leaving.sort();
        leaving
    }

    #[test]
    fn workers_leave_by_partitions_then_lag_then_age() {
        let pods = [pod("a", 1.0), pod("b", 2.0), pod("c", 3.0), pod("d", 4.0), pod("e", 5.0)];
        let partitions = [
            partition(Some("a"), 0),
            partition(Some("a"), 0),
            partition(Some("b"), 50),
            partition(Some("c"), 7),
            partition(Some("d"), 7),
        ];
        assert_eq!(leaving(&pods, &partitions, 4), ["e"], "idle");
        assert_eq!(leaving(&pods, &partitions, 3), ["d", "e"], "the newest of two alike");
        assert_eq!(leaving(&pods, &partitions, 2), ["c", "d", "e"]);
        assert_eq!(leaving(&pods, &partitions, 1), ["b", "c", "d", "e"], "one partition moves, not two");
        assert_eq!(leaving(&pods, &partitions, 5), Vec::<String>::new());
        assert_eq!(leaving(&pods, &partitions, 0), Vec::<String>::new(), "no order if all leave");
        let mut unready = pods.clone();
        unready[0].ready = false;
        assert_eq!(leaving(&unready, &partitions, 4), ["a"], "the ReplicaSet removes it first, whatever it costs");
        let mut leaving_already = pods;
        leaving_already[4].terminating = true;
        assert_eq!(leaving(&leaving_already, &partitions, 4), Vec::<String>::new());
    }

    #[test]
    fn marks_that_do_not_change_are_not_written() {
        let mut pods = [pod("a", 1.0), pod("b", 2.0), pod("c", 3.0)];
        (pods[0].deletion_cost, pods[2].deletion_cost) = (Some(LEAVING_POD_COST), Some(LEAVING_POD_COST));
        let partitions = [partition(Some("a"), 9), partition(Some("b"), 1)];
        let removed = DeletionMark { pod: "a".to_owned(), uid: "uid-a".to_owned(), leaves: false };
        assert_eq!(marks(&pods, &partitions, 2), [removed]);
    }

    #[test]
    fn no_marks_with_unknown_owners_or_foreign_costs() {
        let mut pods = [pod("a", 1.0), pod("b", 2.0)];
        assert_eq!(marks(&pods, &[partition(Some("a"), 0), partition(None, 0)], 1), []);
        assert_eq!(marks(&pods, &[partition(Some("a"), 0), partition(Some("rdkafka"), 0)], 1), []);
        assert_eq!(marks(&pods, &[], 1), []);
        pods[1].deletion_cost = Some(7);
        assert_eq!(marks(&pods, &[partition(Some("a"), 0)], 1), []);
    }
}
