//! The assignors: which member gets which partition.

use super::world::Assignor;
use crate::assign::{NO_OWNER, sticky};

/// Assigns the partitions for which `stays` is false to the members, which are in the order of their member ids.
pub(crate) fn deal(assignor: Assignor, owners: &mut [u32], members: &[u32], stays: impl Fn(usize) -> bool) {
    match assignor {
        Assignor::Sticky | Assignor::CooperativeSticky | Assignor::Uniform => sticky(owners, members, stays),
        Assignor::RoundRobin | Assignor::Range => {
            let count = members.len();
            let free: Vec<usize> = (0..owners.len()).filter(|p| !stays(*p)).collect();
            for (nth, partition) in free.iter().enumerate() {
                owners[*partition] = match (count, assignor) {
                    (0, _) => NO_OWNER,
                    (_, Assignor::Range) => members[stretch(nth, free.len(), count)],
                    _ => members[nth % count],
                };
            }
        }
    }
}

/// Returns the run that the `nth` of `total` falls into: the first `total % count` runs are longer by one.
fn stretch(nth: usize, total: usize, count: usize) -> usize {
    let (short, longer) = (total / count, total % count);
    let boundary = longer * (short + 1);
    if nth < boundary { nth / (short + 1) } else { longer + (nth - boundary) / short.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_assignor_assigns_all_partitions_evenly() {
        for assignor in
            [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky, Assignor::Uniform]
        {
            for (partitions, count) in [(1, 1), (1, 3), (3, 2), (12, 5), (24, 24), (120, 7), (1000, 37)] {
                let members: Vec<u32> = (100..100 + count).collect();
                let mut owners = vec![NO_OWNER; partitions];
                deal(assignor, &mut owners, &members, |_| false);
                let counts: Vec<usize> =
                    members.iter().map(|m| owners.iter().filter(|owner| *owner == m).count()).collect();
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert_eq!(counts.iter().sum::<usize>(), partitions, "{assignor:?}");
                assert!(most - least <= 1, "{assignor:?}: {counts:?}");
                deal(assignor, &mut owners, &[], |_| false);
                assert!(owners.iter().all(|owner| *owner == NO_OWNER));
            }
        }
    }

    #[test]
    fn range_assigns_runs_and_roundrobin_does_not() {
        let mut owners = vec![NO_OWNER; 7];
        deal(Assignor::Range, &mut owners, &[5, 6, 7], |_| false);
        assert_eq!(owners, [5, 5, 5, 6, 6, 7, 7]);
        deal(Assignor::RoundRobin, &mut owners, &[5, 6, 7], |_| false);
        assert_eq!(owners, [5, 6, 7, 5, 6, 7, 5]);
    }
}
