//! Which workers leave first when there are to be fewer: those whose leaving moves the fewest partitions, and of these
//! the ones with the fewest records waiting. Pure.
//!
//! A `ReplicaSet` removes pods that are not ready first, then those with the lowest deletion cost. So the workers that are
//! to leave are given a cost below that of the others, right before the number is written, and at no other time.

use std::cmp::Reverse;
use std::collections::HashMap;

use sluice_policy::Partition;

use crate::observe::live::PodFacts;

/// The annotation that a `ReplicaSet` goes by.
pub(crate) const COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The cost of a worker that is to leave. Without the annotation it is 0.
pub(crate) const LEAVES: i32 = -1;

/// One pod whose mark is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) pod: String,
    pub(crate) uid: String,
    /// It is to leave first; otherwise an earlier mark is taken away.
    pub(crate) leaves: bool,
}

/// The marks that must change for `to` workers to stay. Empty if it is not known of every partition who reads it
/// (unknown is not none), if somebody else gives the pods a cost, or if all are to leave.
pub(crate) fn marks(pods: &[PodFacts], partitions: &[Partition], to: u32) -> Vec<Mark> {
    if to == 0 || pods.iter().any(|pod| pod.deletion_cost.is_some_and(|cost| cost != LEAVES)) {
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
    let mark = |(place, pod): (usize, &&PodFacts)| {
        let leaves = place < leaving;
        (leaves != pod.deletion_cost.is_some()).then(|| Mark { pod: pod.name.clone(), uid: pod.uid.clone(), leaves })
    };
    active.iter().enumerate().filter_map(mark).collect()
}

/// Partitions of each worker, and records that wait there. `None`: not known.
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
    fn the_workers_with_the_fewest_partitions_leave_first_then_those_with_the_least_lag_then_the_newest() {
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
        assert_eq!(leaving(&pods, &partitions, 0), Vec::<String>::new(), "none is first where all go");
        let mut unready = pods.clone();
        unready[0].ready = false;
        assert_eq!(leaving(&unready, &partitions, 4), ["a"], "the ReplicaSet removes it first, whatever it costs");
        let mut leaving_already = pods;
        leaving_already[4].terminating = true;
        assert_eq!(leaving(&leaving_already, &partitions, 4), Vec::<String>::new());
    }

    #[test]
    fn only_marks_that_change_are_written() {
        let mut pods = [pod("a", 1.0), pod("b", 2.0), pod("c", 3.0)];
        (pods[0].deletion_cost, pods[2].deletion_cost) = (Some(LEAVES), Some(LEAVES));
        let partitions = [partition(Some("a"), 9), partition(Some("b"), 1)];
        let taken_away = Mark { pod: "a".to_owned(), uid: "uid-a".to_owned(), leaves: false };
        assert_eq!(marks(&pods, &partitions, 2), [taken_away]);
    }

    #[test]
    fn where_the_owners_are_not_known_or_somebody_else_decides_nothing_is_marked() {
        let mut pods = [pod("a", 1.0), pod("b", 2.0)];
        assert_eq!(marks(&pods, &[partition(Some("a"), 0), partition(None, 0)], 1), []);
        assert_eq!(marks(&pods, &[partition(Some("a"), 0), partition(Some("rdkafka"), 0)], 1), []);
        assert_eq!(marks(&pods, &[], 1), []);
        pods[1].deletion_cost = Some(7);
        assert_eq!(marks(&pods, &[partition(Some("a"), 0)], 1), []);
    }
}
