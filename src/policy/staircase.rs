//! What n workers can do together: a worker owns whole partitions, so capacity grows in steps.
//!
//! `capacity(n) = mu / share(n)`, where `share(n)` is the largest share of the arrivals that one of n workers gets
//! (algorithms.md C3). With P equal partitions that is ceil(P/n)/P: 13 to 23 workers do no more than 12 when P is 24.

use super::num;

/// How the partitions of one source are dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// Each topic on its own, in runs of neighbours: the first workers get one more of every topic.
    Range,
    /// All partitions of the group, as evenly as their number allows.
    Even,
}

impl Assignor {
    /// As the broker names it; what is not known is taken as even.
    pub(crate) fn parse(name: Option<&str>) -> Self {
        match name {
            Some(name) if name.eq_ignore_ascii_case("range") => Self::Range,
            _ => Self::Even,
        }
    }
}

/// Consecutive partitions that are dealt out together, with their weights: a topic (range) or a source (even).
#[derive(Debug, Clone)]
pub(crate) struct Deal {
    pub(crate) assignor: Assignor,
    pub(crate) source: u16,
    pub(crate) weights: Vec<f64>,
}

/// Up to so many partitions each count of workers is worked out from the partitions' rates; beyond, evenly.
const WEIGHED: usize = 200;

/// Largest share of the arrivals on one worker, for each number of workers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staircase {
    /// `shares[n-1]`, never rising.
    shares: Vec<f64>,
    partitions: u32,
}

impl Staircase {
    /// `hot`: how much hotter the hottest worker is than these shares say, as measured; at least 1.
    pub(crate) fn build(deals: &[Deal], hot: f64) -> Self {
        let partitions: usize = deals.iter().map(|d| d.weights.len()).sum();
        // Separate groups each deal to all workers: the largest decides. Topics under `range` are dealt separately too.
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
        let even = partitions > WEIGHED || !(total.is_finite() && total > 0.0);
        let mut shares = Vec::with_capacity(useful);
        let mut loads = vec![0.0; useful];
        let mut least = f64::INFINITY;
        for workers in 1..=useful {
            let share = if even {
                even_share(deals, workers, partitions)
            } else {
                weighed_share(deals, workers, &mut loads) / total
            };
            let alone = if workers == 1 { 1.0 } else { (share * hot).min(1.0) };
            least = least.min(alone);
            shares.push(least);
        }
        Self { shares, partitions: num::u32_of(partitions) }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.shares.capacity() * size_of::<f64>()
    }

    /// Most workers that the partitions can feed; `None` if no partition is known.
    pub(crate) fn useful(&self) -> Option<u32> {
        (!self.shares.is_empty()).then(|| num::u32_of(self.shares.len()))
    }

    /// Partitions of all sources.
    pub(crate) fn partitions(&self) -> Option<u32> {
        (self.partitions > 0).then_some(self.partitions)
    }

    /// Largest share on one of `workers`; 1/n while no partition is known. Infinite for no workers.
    pub(crate) fn share(&self, workers: u32) -> f64 {
        let Some(index) = workers.checked_sub(1) else { return f64::INFINITY };
        if self.shares.is_empty() {
            return 1.0 / f64::from(workers);
        }
        let index = usize::try_from(index).unwrap_or(usize::MAX).min(self.shares.len() - 1);
        self.shares.get(index).copied().unwrap_or(1.0)
    }

    /// Records per second that `workers` can do, each doing `mu`.
    pub(crate) fn capacity(&self, workers: u32, mu: f64) -> f64 {
        if workers == 0 { 0.0 } else { mu / self.share(workers) }
    }

    /// Fewest workers that do `demand`, with `usable(n)` records per second of each; and whether they do.
    pub(crate) fn fewest(&self, demand: f64, usable: impl Fn(u32) -> f64) -> (u32, bool) {
        let enough = |workers: u32| demand * self.share(workers) <= usable(workers);
        if self.shares.is_empty() {
            let guess = num::ceil_u32(demand / usable(u32::MAX)).max(1);
            return (if enough(guess) { guess } else { guess.saturating_add(1) }, true);
        }
        let most = self.useful().unwrap_or(1);
        (1..=most).find(|n| enough(*n)).map_or_else(|| (self.snap(most), false), |n| (n, true))
    }

    /// Fewest workers that do as much as `workers` do (law 7).
    pub(crate) fn snap(&self, workers: u32) -> u32 {
        if self.shares.is_empty() || workers == 0 {
            return workers;
        }
        let share = self.share(workers) * (1.0 + 1e-9);
        let index = self.shares.partition_point(|s| *s > share);
        num::u32_of(index).saturating_add(1).min(workers)
    }
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
        let stairs = Staircase::build(&[equal(24, Assignor::Even, 0)], 1.0);
        for (workers, on_one) in
            [(1, 24.0), (5, 5.0), (8, 3.0), (9, 3.0), (11, 3.0), (12, 2.0), (23, 2.0), (24, 1.0), (99, 1.0)]
        {
            assert!((stairs.share(workers) - on_one / 24.0).abs() < 1e-12, "{workers}");
        }
        assert_eq!((stairs.snap(11), stairs.snap(23), stairs.snap(24), stairs.snap(99)), (8, 12, 24, 24));
        assert_eq!(stairs.fewest(9000.0, |_| 1000.0), (12, true));
        assert_eq!(stairs.fewest(50_000.0, |_| 1000.0), (24, false));
        assert_eq!(stairs.useful(), Some(24));
    }

    #[test]
    fn useful_workers_depend_on_the_assignor() {
        let topics = |assignor| [equal(12, assignor, 0), equal(8, assignor, 0)];
        assert_eq!(Staircase::build(&topics(Assignor::Range), 1.0).useful(), Some(12), "the largest topic");
        assert_eq!(Staircase::build(&topics(Assignor::Even), 1.0).useful(), Some(20), "the sum in one group");
        let groups = [equal(12, Assignor::Even, 0), equal(8, Assignor::Even, 1)];
        assert_eq!(Staircase::build(&groups, 1.0).useful(), Some(12), "separate groups");
        let lumpy = Staircase::build(&topics(Assignor::Range), 1.0);
        assert!(
            (lumpy.share(8) - 3.0 / 20.0).abs() < 1e-12,
            "range gives the first worker two of one and one of the other"
        );
    }

    #[test]
    fn a_hot_partition_ends_the_staircase() {
        let mut weights = vec![1.0; 10];
        weights[3] = 10.0;
        let stairs = Staircase::build(&[Deal { assignor: Assignor::Even, source: 0, weights }], 1.0);
        assert!((stairs.share(10) - 10.0 / 19.0).abs() < 1e-12);
        assert!(!stairs.fewest(10_000.0, |_| 1000.0).1);
        assert!(stairs.snap(10) <= 10);
    }

    #[test]
    fn without_partitions_workers_are_equal() {
        let stairs = Staircase::default();
        assert_eq!(stairs.fewest(3500.0, |_| 1000.0), (4, true));
        assert_eq!((stairs.useful(), stairs.snap(7)), (None, 7));
        assert_eq!(stairs.capacity(0, 1000.0), 0.0);
    }
}
