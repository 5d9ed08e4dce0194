//! Who does what now, and who would after a change of the number of workers.
//!
//! Under a sticky assignor a change moves as few partitions as it can: newcomers get what the others have beyond their
//! new quota, and what a leaver had goes to those below theirs. The owners and the rates of the partitions are known, so
//! the load of each worker after the change is known but for which partitions are picked; each is taken to be average.
//! Elsewhere (`range`, owners not known) everything is dealt out anew, and the staircase says what the hottest gets.

use super::num;
use super::staircase::Staircase;

/// A worker serves its partitions in turn, so that what it cannot do piles up in its hottest ones: they wait about so
/// many times longer than its whole backlog would take.
pub(crate) const UNEVEN: f64 = 2.0;

/// One worker's part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// Share of all arrivals, 0 to 1.
    pub(crate) share: f64,
    /// That of its hottest partition, which cannot be divided.
    pub(crate) top: f64,
    /// Partitions.
    pub(crate) count: f64,
    /// Records that wait; those of partitions being moved are left out.
    pub(crate) lag: f64,
    /// What it can do, as a share of the mean.
    pub(crate) speed: f64,
    /// Age of its oldest record, seconds.
    pub(crate) age: f64,
    /// How much longer its slowest partition waits than its queue as a whole would let it.
    pub(crate) uneven: f64,
}

impl Load {
    /// Share of the arrivals that is left to it: of an unknown choice of its partitions, and of one at least.
    pub(crate) fn keeps(&self, part: &Part) -> f64 {
        if part.kept > 0.0 { (self.share * part.kept).max(self.top.min(self.share * part.kept.max(1.0))) } else { 0.0 }
    }
}

/// One worker after a change: what it keeps of whose load, and what it gets of what was given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) from: Option<usize>,
    pub(crate) kept: f64,
    pub(crate) pool: f64,
    pub(crate) speed: f64,
}

/// The workers that own partitions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crew {
    pub(crate) loads: Vec<Load>,
    /// Each worker is known, and a change moves few partitions. Else `loads` is the hottest worker alone.
    pub(crate) sticky: bool,
    workers: u32,
    partitions: f64,
}

impl Crew {
    /// Every owner's load.
    pub(crate) fn known(loads: Vec<Load>) -> Self {
        let partitions = loads.iter().map(|l| l.count).sum();
        Self { workers: num::u32_of(loads.len()), loads, sticky: true, partitions }
    }

    /// The hottest of `workers` alone.
    pub(crate) fn hottest(workers: u32, lag: f64, stairs: &Staircase) -> Self {
        let share = stairs.share(workers.max(1));
        let loads = vec![Load { share, top: 0.0, count: 1.0, lag: lag * share, speed: 1.0, age: 0.0, uneven: UNEVEN }];
        Self { loads, sticky: false, workers: workers.max(1), partitions: 0.0 }
    }

    /// How long the oldest record waits now, by the queues; seconds.
    pub(crate) fn delay(&self, mu: f64) -> f64 {
        let of =
            |l: &Load| (l.uneven * l.lag / (mu * l.speed).max(1e-9)).min(l.age.max(l.lag / (mu * l.speed).max(1e-9)));
        self.loads.iter().map(of).fold(0.0, f64::max)
    }

    /// Workers that own partitions.
    pub(crate) fn workers(&self) -> u32 {
        self.workers
    }

    /// What each of `workers` would do.
    pub(crate) fn after(&self, workers: u32, stairs: &Staircase, parts: &mut Vec<Part>) {
        parts.clear();
        if !self.sticky {
            let (now, then) = (stairs.share(self.workers), stairs.share(workers.max(1)));
            parts.push(Part { from: Some(0), kept: then / now.max(1e-12), pool: 0.0, speed: 1.0 });
            return;
        }
        let stay = |(index, load): (usize, &Load)| Part { from: Some(index), kept: 1.0, pool: 0.0, speed: load.speed };
        parts.extend(self.loads.iter().enumerate().map(stay));
        match workers.cmp(&self.workers) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => self.grow(workers, parts),
            std::cmp::Ordering::Less => self.shrink(workers, parts),
        }
    }

    /// Newcomers get what is beyond the others' quotas.
    fn grow(&self, workers: u32, parts: &mut Vec<Part>) {
        let n = f64::from(workers);
        let quota = (self.partitions / n).floor();
        let order = self.by_heat();
        // Some of those with the most may keep one more than the others; the hottest are as likely as any.
        let longer = self.partitions - n * quota;
        let full = |index: &usize| self.loads.get(*index).is_some_and(|l| l.count > quota);
        let candidates: Vec<usize> = order.iter().copied().filter(full).collect();
        let keeps = spread(candidates.len(), longer);
        let mut pool = 0.0;
        for (index, one_more) in candidates.into_iter().zip(keeps) {
            if let (Some(part), Some(load)) = (parts.get_mut(index), self.loads.get(index)) {
                let most = quota + if one_more { 1.0 } else { 0.0 };
                if load.count > most {
                    part.kept = most / load.count;
                    pool += load.count - most;
                }
            }
        }
        let came = f64::from(workers - self.workers);
        // The luckiest of the newcomers is not known: a whole partition more than the mean, at most.
        let each = if pool > 0.0 { (1.0 / came).max((pool / came).ceil() / pool).min(1.0) } else { 0.0 };
        parts.push(Part { from: None, kept: 0.0, pool: each, speed: 1.0 });
    }

    /// What the leavers had goes to those below their quotas. Who leaves is not known: the hottest stay.
    fn shrink(&self, workers: u32, parts: &mut Vec<Part>) {
        let order = self.by_heat();
        let stay = usize::try_from(workers).unwrap_or(usize::MAX);
        for index in order.iter().skip(stay) {
            if let Some(part) = parts.get_mut(*index) {
                part.from = None;
            }
        }
        let quota = (self.partitions / f64::from(workers.max(1))).floor();
        let kept: f64 = order.iter().take(stay).filter_map(|i| self.loads.get(*i)).map(|l| l.count).sum();
        let freed = self.partitions - kept;
        // First everybody is filled up to the quota; who gets one of the rest is not known: the hottest as likely as any.
        let room = |l: &Load| (quota - l.count).max(0.0);
        let filled: f64 = order.iter().take(stay).filter_map(|i| self.loads.get(*i)).map(room).sum();
        let may = |index: &usize| self.loads.get(*index).is_some_and(|l| l.count <= quota);
        let candidates: Vec<usize> = order.iter().take(stay).copied().filter(may).collect();
        let gets = spread(candidates.len(), freed - filled);
        for (index, one_more) in candidates.into_iter().zip(gets) {
            if let (Some(part), Some(load)) = (parts.get_mut(index), self.loads.get(index)) {
                part.pool = (room(load) + if one_more { 1.0 } else { 0.0 }) / freed.max(1.0);
            }
        }
        parts.retain(|p| p.from.is_some());
    }

    /// Hottest first.
    fn by_heat(&self) -> Vec<usize> {
        let heat = |index: &usize| self.loads.get(*index).map_or(0.0, |l| l.share / l.speed.max(1e-9));
        let mut order: Vec<usize> = (0..self.loads.len()).collect();
        order.sort_by(|a, b| heat(b).total_cmp(&heat(a)));
        order
    }

    /// Share of the arrivals that the hottest of `parts` gets, over its speed.
    pub(crate) fn hottest_share(&self, parts: &[Part]) -> f64 {
        let pool = self.pool(parts);
        let heat = |part: &Part| {
            let kept = part.from.and_then(|i| self.loads.get(i)).map_or(0.0, |l| l.keeps(part));
            (kept + pool * part.pool) / part.speed.max(1e-9)
        };
        parts.iter().map(heat).fold(0.0, f64::max)
    }

    /// Records per second that `workers` can do before the hottest cannot follow.
    pub(crate) fn capacity(&self, workers: u32, stairs: &Staircase, mu: f64) -> f64 {
        let mut parts = Vec::new();
        self.after(workers.max(1), stairs, &mut parts);
        mu / self.hottest_share(&parts).max(1e-12)
    }

    /// What is given up by all in a change to `parts`: share of the arrivals, and records that wait.
    pub(crate) fn pool(&self, parts: &[Part]) -> f64 {
        let kept: f64 = parts.iter().filter_map(|p| p.from.and_then(|i| self.loads.get(i)).map(|l| l.keeps(p))).sum();
        (self.loads.iter().map(|l| l.share).sum::<f64>() - kept).max(0.0)
    }
}

/// Which of `candidates`, in order, are among the `chosen`, when each is as likely as any other: evenly spaced.
fn spread(candidates: usize, chosen: f64) -> impl Iterator<Item = bool> {
    let share = (chosen / num::of_usize(candidates.max(1))).clamp(0.0, 1.0);
    let mut sum = 0.5_f64;
    (0..candidates).map(move |_| {
        sum += share;
        let hit = sum >= 1.0;
        if hit {
            sum -= 1.0;
        }
        hit
    })
}
