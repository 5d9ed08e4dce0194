//! Staircase: what n workers can process together. A worker owns whole partitions, so capacity grows in steps.
//!
//! `capacity(n) = mu / share(n)`, where `share(n)` is the largest share of the arrivals that one of n workers receives.
//! With P equal partitions that is ceil(P/n)/P: 13 to 23 workers process no more than 12 when P is 24. Assignors
//! distribute partitions by count, so only the numbers at which a worker gets one partition less are stairs; with
//! uneven partitions the hottest worker of a stair is found by assigning them. See
//! docs/design/algorithms.md#the-staircase.

use sluice_base::num;

/// How partitions are assigned to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// Each topic by itself, in consecutive runs: the first workers get one more partition of every topic.
    Range,
    /// All partitions of a group in turn.
    Even,
}

impl Assignor {
    /// Parses the broker's name of the assignor; an unknown assignor is taken to be even.
    pub(crate) fn parse(name: Option<&str>) -> Self {
        match name {
            Some(name) if name.to_ascii_lowercase().contains("range") => Self::Range,
            _ => Self::Even,
        }
    }
}

/// Partitions that are assigned together, with their weights: a topic (range) or a source (even).
#[derive(Debug, Clone)]
pub(crate) struct Deal {
    pub(crate) assignor: Assignor,
    pub(crate) source: u16,
    pub(crate) weights: Vec<f64>,
}

/// A number of workers that can process more than any smaller one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stair {
    workers: u32,
    /// Largest share of the arrivals on one of them, 0 to 1.
    share: f64,
}

/// Most stairs that are computed: 10,000 partitions have 200.
const MOST: usize = 512;
/// Factor by which a stair must lower the hottest worker's share.
const LOWER: f64 = 0.999;

/// The stairs, in ascending order of workers and descending order of shares.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staircase {
    stairs: Vec<Stair>,
    useful: u32,
    partitions: u32,
    /// Share of the arrivals of the hottest partition.
    top: f64,
}

impl Staircase {
    pub(crate) fn build(deals: &[Deal]) -> Self {
        let partitions: usize = deals.iter().map(|d| d.weights.len()).sum();
        // Separate groups are each assigned to all workers, so the largest decides. The same holds for topics under
        // `range`.
        let mut by_source: Vec<(u16, usize)> = Vec::new();
        for deal in deals {
            match by_source.iter_mut().find(|s| s.0 == deal.source) {
                Some(sum) if deal.assignor == Assignor::Even => sum.1 += deal.weights.len(),
                Some(most) => most.1 = most.1.max(deal.weights.len()),
                None => by_source.push((deal.source, deal.weights.len())),
            }
        }
        let useful = by_source.iter().map(|s| s.1).max().unwrap_or(0);
        let total: f64 = deals.iter().flat_map(|d| &d.weights).sum();
        let weighed = total.is_finite() && total > 0.0;
        let mut stairs: Vec<Stair> = Vec::new();
        let mut loads = vec![0.0; useful];
        for workers in candidates(deals, &by_source) {
            let share = if workers == 1 {
                1.0
            } else if weighed {
                weighed_share(deals, workers, &mut loads) / total
            } else {
                even_share(deals, workers, partitions)
            };
            if stairs.last().is_none_or(|last| share < LOWER * last.share) {
                stairs.push(Stair { workers: num::u32_of(workers), share });
            }
        }
        let top = deals.iter().flat_map(|d| &d.weights).copied().fold(0.0, f64::max) / total;
        Self {
            stairs,
            useful: num::u32_of(useful),
            partitions: num::u32_of(partitions),
            top: if weighed { top } else { 0.0 },
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.stairs.capacity() * size_of::<Stair>()
    }

    /// Returns the largest number of workers that the partitions can feed; `None` if no partition is known.
    pub(crate) fn useful(&self) -> Option<u32> {
        (self.useful > 0).then_some(self.useful)
    }

    /// Returns the number of partitions of all sources.
    pub(crate) fn partitions(&self) -> Option<u32> {
        (self.partitions > 0).then_some(self.partitions)
    }

    /// Returns the share of the arrivals of the hottest partition, 0 to 1; 0 if not known.
    pub(crate) fn top(&self) -> f64 {
        self.top
    }

    /// Returns the largest share on one of `workers`; 1/n while no partition is known, and infinity for no workers.
    pub(crate) fn share(&self, workers: u32) -> f64 {
        if workers == 0 {
            return f64::INFINITY;
        }
        let after = self.stairs.partition_point(|stair| stair.workers <= workers);
        match after.checked_sub(1).and_then(|index| self.stairs.get(index)) {
            Some(stair) => stair.share,
            None => 1.0 / f64::from(workers),
        }
    }

    /// Returns the fewest workers that process as much as `workers` do.
    pub(crate) fn snap(&self, workers: u32) -> u32 {
        let after = self.stairs.partition_point(|stair| stair.workers <= workers);
        after.checked_sub(1).and_then(|index| self.stairs.get(index)).map_or(workers, |stair| stair.workers)
    }

    /// Returns the next number above `workers` that can process more; `None` if there is none.
    pub(crate) fn above(&self, workers: u32) -> Option<u32> {
        if self.stairs.is_empty() {
            return workers.checked_add(1);
        }
        let after = self.stairs.partition_point(|stair| stair.workers <= workers);
        self.stairs.get(after).map(|stair| stair.workers)
    }

    /// Returns the next useful number below `workers`, at least 1.
    pub(crate) fn below(&self, workers: u32) -> Option<u32> {
        let fewer = workers.checked_sub(1).filter(|fewer| *fewer > 0)?;
        Some(self.snap(fewer))
    }

    /// Returns the fewest workers of which the hottest gets at most `share` of the arrivals, and true; if there are
    /// none, the largest useful number, and false.
    pub(crate) fn fewest(&self, share: f64) -> (u32, bool) {
        if self.stairs.is_empty() {
            return (num::ceil_u32(1.0 / share.max(1e-9) - 1e-9).max(1), share > 0.0);
        }
        let first = self.stairs.partition_point(|stair| stair.share > share);
        match self.stairs.get(first).or_else(|| self.stairs.last()) {
            Some(stair) => (stair.workers, first < self.stairs.len()),
            None => (1, false),
        }
    }
}

/// Returns the numbers of workers at which a worker gets one partition less of some deal.
fn candidates(deals: &[Deal], by_source: &[(u16, usize)]) -> Vec<usize> {
    let mut counts: Vec<usize> = by_source.iter().map(|s| s.1).collect();
    counts.extend(deals.iter().filter(|d| d.assignor == Assignor::Range).map(|d| d.weights.len()));
    counts.sort_unstable();
    counts.dedup();
    let mut workers = Vec::new();
    for count in counts {
        // ceil(count / each) for each number of partitions on a worker has few different values.
        let mut each = count;
        while each >= 1 && workers.len() < 4 * MOST {
            let fewest = count.div_ceil(each);
            workers.push(fewest);
            // The most partitions per worker with which more workers are needed.
            each = (count - 1) / fewest;
        }
    }
    workers.sort_unstable();
    workers.dedup();
    let step = workers.len().div_ceil(MOST).max(1);
    let last = workers.last().copied();
    workers.into_iter().enumerate().filter(|(i, w)| i % step == 0 || Some(*w) == last).map(|(_, w)| w).collect()
}

fn even_share(deals: &[Deal], workers: usize, partitions: usize) -> f64 {
    let hottest: usize = deals.iter().map(|d| d.weights.len().div_ceil(workers)).sum();
    num::of_usize(hottest) / num::of_usize(partitions.max(1))
}

fn weighed_share(deals: &[Deal], workers: usize, loads: &mut [f64]) -> f64 {
    loads.fill(0.0);
    let mut turn = (u16::MAX, 0_usize);
    for deal in deals {
        let count = deal.weights.len();
        let (run, longer) = (count / workers, count % workers);
        for (index, weight) in deal.weights.iter().enumerate() {
            let worker = match deal.assignor {
                Assignor::Range if index < longer * (run + 1) => index / (run + 1),
                Assignor::Range => longer + (index - longer * (run + 1)) / run.max(1),
                Assignor::Even => {
                    turn = if turn.0 == deal.source { (turn.0, turn.1 + 1) } else { (deal.source, 0) };
                    turn.1 % workers
                }
            };
            if let Some(load) = loads.get_mut(worker) {
                *load += weight;
            }
        }
    }
    loads.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(count: usize, assignor: Assignor, source: u16) -> Deal {
        Deal { assignor, source, weights: vec![1.0; count] }
    }

    #[test]
    fn equal_partitions_make_a_staircase() {
        let stairs = Staircase::build(&[equal(24, Assignor::Even, 0)]);
        for (workers, on_one) in
            [(1, 24.0), (5, 5.0), (8, 3.0), (9, 3.0), (11, 3.0), (12, 2.0), (23, 2.0), (24, 1.0), (99, 1.0)]
        {
            assert!((stairs.share(workers) - on_one / 24.0).abs() < 1e-12, "{workers}");
        }
        assert_eq!((stairs.snap(11), stairs.snap(23), stairs.snap(24), stairs.snap(99)), (8, 12, 24, 24));
        assert_eq!((stairs.above(8), stairs.above(12), stairs.above(24)), (Some(12), Some(24), None));
        assert_eq!((stairs.below(24), stairs.below(12), stairs.below(1)), (Some(12), Some(8), None));
        assert_eq!(stairs.fewest(1000.0 / 9000.0), (12, true));
        assert_eq!(stairs.fewest(0.01), (24, false));
        assert_eq!(stairs.useful(), Some(24));
    }

    #[test]
    fn useful_workers_depend_on_the_assignor() {
        let topics = |assignor| [equal(12, assignor, 0), equal(8, assignor, 0)];
        assert_eq!(Staircase::build(&topics(Assignor::Range)).useful(), Some(12), "the largest topic");
        assert_eq!(Staircase::build(&topics(Assignor::Even)).useful(), Some(20), "the sum in one group");
        let groups = [equal(12, Assignor::Even, 0), equal(8, Assignor::Even, 1)];
        assert_eq!(Staircase::build(&groups).useful(), Some(12), "separate groups");
        let lumpy = Staircase::build(&topics(Assignor::Range));
        assert!(
            (lumpy.share(8) - 3.0 / 20.0).abs() < 1e-12,
            "range gives the first worker two of one and one of the other"
        );
    }

    #[test]
    fn hot_partition_ends_the_staircase() {
        let mut weights = vec![1.0; 10];
        weights[3] = 10.0;
        let stairs = Staircase::build(&[Deal { assignor: Assignor::Even, source: 0, weights }]);
        assert!((stairs.share(10) - 10.0 / 19.0).abs() < 1e-12 && (stairs.top() - 10.0 / 19.0).abs() < 1e-12);
        assert!(!stairs.fewest(0.1).1);
    }

    #[test]
    fn workers_are_equal_without_partitions() {
        let stairs = Staircase::default();
        assert_eq!(stairs.fewest(1000.0 / 3500.0), (4, true));
        assert_eq!((stairs.useful(), stairs.snap(7), stairs.above(7)), (None, 7, Some(8)));
    }

    /// A job with 201 partitions used to be sized by another model than one with 200.
    #[test]
    fn large_jobs_have_the_same_stairs_as_small_ones() {
        for count in [24, 200, 201, 1000, 10_000] {
            let weights = (0..count).map(|i| 1.0 + 0.4 * f64::from(i % 7)).collect();
            let stairs = Staircase::build(&[Deal { assignor: Assignor::Even, source: 0, weights }]);
            assert_eq!(stairs.useful(), num::u32_of(usize::try_from(count).unwrap()).into());
            let all = stairs.share(num::u32_of(usize::try_from(count).unwrap()));
            assert!((all - stairs.top()).abs() < 1e-9, "{count}: {all}");
            assert!(stairs.stairs.windows(2).all(|w| w[0].workers < w[1].workers && w[0].share > w[1].share));
        }
    }
}
