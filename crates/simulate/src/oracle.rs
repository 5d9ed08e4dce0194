//! A clairvoyant lower bound of the cost of a load (docs/design/algorithms.md#lower-bound-of-the-cost).
//!
//! Partitions become one queue, handovers take no time, all workers are average, and starting one costs money but no
//! time. Everything that a rule can do in the plant is possible here at the same cost or less, so the optimum is a
//! lower bound, except for luck: workers that happen to be faster, or to start faster, may undercut it by about 1 %. It
//! is found by dynamic programming over (workers, backlog), with a decision every 15 s and the backlog rounded down.
//!
//! Late records may cost `price` worker-seconds each; they are then dropped, because processing them would only cost
//! more. For any price, optimum - price * allowed records is a lower bound of the cost with that allowance (weak
//! duality), and the best price is searched for.

use super::assign::hottest_share;
use super::load::Load;
use super::scenario::Scenario;

/// Time between two decisions, seconds.
const BLOCK: usize = 15;
/// Least step that the backlog is rounded down to, records.
const GRID: f64 = 250.0;
/// Most steps of the backlog; a longer one makes the grid coarser.
const STEPS: f64 = 2048.0;

/// Returns the least worker-seconds that the load costs if a share of its records may be late. With `weights`, the
/// hottest worker of an even assignment of the scenario's partitions limits all: that bound knows the weights, and
/// cannot choose the assignment. The plant's sticky assignment may happen to be better balanced, so it is a yardstick
/// and not strict.
///
/// Of the faults, it considers a rollout that makes workers faster; all others only make the load more expensive.
///
/// Returns infinity if even the most workers exceed the allowance.
pub fn oracle(load: &Load, scenario: &Scenario, allowed_late: f64, weights: bool) -> f64 {
    let problem = Problem::new(load, scenario, weights);
    let allowed = allowed_late.max(0.0) * problem.arrivals.iter().sum::<f64>();
    // There cannot be fewer late records than with all workers all the time.
    if problem.fewest_late() > allowed + 1e-6 * problem.arrivals.iter().sum::<f64>() {
        return f64::INFINITY;
    }
    // All records are processed in the end, late or not.
    let least = problem.arrivals.iter().sum::<f64>() * problem.work;
    if allowed <= 0.0 {
        return problem.solve(1e3).max(least);
    }
    // The bound is concave in the price: a golden-section search over its logarithm. With a price below a record's work
    // everything would be dropped; beyond 500 times as much the allowance hardly matters.
    let value = |log: f64| {
        let price = log.exp();
        problem.solve(price) - price * allowed
    };
    let work = (1.0 / scenario.capacity).ln();
    golden(value, work - 0.1, work + 6.2, 9).max(least)
}

/// Returns the highest value of a concave function between two points, after a number of evaluations.
fn golden(value: impl Fn(f64) -> f64, mut low: f64, mut high: f64, evaluations: usize) -> f64 {
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_a, mut at_b) = (value(a), value(b));
    let mut best = at_a.max(at_b);
    for _ in 2..evaluations {
        if at_a >= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - ratio * (high - low);
            at_a = value(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + ratio * (high - low);
            at_b = value(b);
        }
        best = best.max(at_a).max(at_b);
    }
    best
}

struct Problem {
    arrivals: Vec<f64>,
    /// Most records that may wait at the end of each second without being late: the arrivals of the last L seconds.
    room: Vec<f64>,
    /// Numbers of workers, each with the rate that they process together, records per second.
    capacity: Vec<(f64, f64)>,
    /// Cost of starting and of removing a worker, worker-seconds.
    make: f32,
    remove: f32,
    /// Width and number of steps of the backlog.
    grid: f64,
    steps: usize,
    /// Least worker-seconds that a record takes.
    work: f64,
}

impl Problem {
    fn new(load: &Load, scenario: &Scenario, weighted: bool) -> Self {
        let arrivals = scenario.arrivals(load);
        let deadline = scenario.deadline();
        let mut room = Vec::with_capacity(arrivals.len());
        let mut waiting = 0.0;
        for second in 0..arrivals.len() {
            waiting += arrivals[second] - if second >= deadline { arrivals[second - deadline] } else { 0.0 };
            room.push(f64::max(waiting, 0.0));
        }
        let weights = if weighted { scenario.weights() } else { Vec::new() };
        let best_version = scenario.faults.deploy.map_or(1.0, |deploy| deploy.value.max(1.0));
        let each = scenario.capacity * best_version;
        let capacity: Vec<(f64, f64)> = (scenario.min_workers..=scenario.max_workers)
            .map(|n| {
                let count = f64::from(n);
                let able = each * scenario.efficiency(n as usize);
                let together = if weighted && n > 0 { able / hottest_share(&weights, n) } else { able * count };
                (count, together)
            })
            .collect();
        let highest = room.iter().copied().fold(0.0, f64::max);
        let grid = GRID.max(highest / STEPS);
        let ratio = |c: &(f64, f64)| if c.1 > 0.0 { c.0 / c.1 } else { f64::INFINITY };
        Self {
            room,
            make: scenario.start_up as f32,
            remove: scenario.removal as f32,
            grid,
            steps: (highest / grid) as usize + 2,
            work: capacity.iter().map(ratio).fold(f64::INFINITY, f64::min),
            capacity,
            arrivals,
        }
    }

    /// Returns the records that are late even with the most workers all the time.
    fn fewest_late(&self) -> f64 {
        let most = self.capacity.iter().map(|c| c.1).fold(0.0, f64::max);
        let (mut waiting, mut late) = (0.0, 0.0);
        for (arrived, room) in self.arrivals.iter().zip(&self.room) {
            waiting = f64::max(0.0, waiting + arrived - most);
            late += f64::max(0.0, waiting - room);
            waiting = waiting.min(*room);
        }
        late
    }

    /// Returns the optimum when each late record costs `price` worker-seconds.
    fn solve(&self, price: f64) -> f64 {
        let (count, steps) = (self.capacity.len(), self.steps);
        let mut value = vec![f32::INFINITY; count * steps];
        let mut next = vec![f32::INFINITY; count * steps];
        for row in value.chunks_exact_mut(steps) {
            row[0] = 0.0;
        }
        let slope = (price * self.grid) as f32;
        let mut base = 0.0;
        // Highest step reached so far: beyond it every value is infinite.
        let mut reached = 1;
        for begin in (0..self.arrivals.len()).step_by(BLOCK) {
            self.switch(&mut value, reached);
            let mut highest = 0;
            for (index, (workers, together)) in self.capacity.iter().enumerate() {
                let block = self.block(begin, *together);
                let cost = (workers * block.seconds as f64 + price * block.dropped) as f32;
                let from = &value[index * steps..][..reached];
                let to = &mut next[index * steps..][..steps];
                to.fill(f32::INFINITY);
                highest = block.carry(from, to, self.grid, cost, slope).max(highest);
            }
            std::mem::swap(&mut value, &mut next);
            reached = highest + 1;
            // The numbers are small enough for 32 bits.
            if (begin / BLOCK).is_multiple_of(32) {
                let least = value.iter().copied().fold(f32::INFINITY, f32::min);
                base += f64::from(least);
                for v in &mut value {
                    *v -= least;
                }
            }
        }
        // The backlog at the end of the load is processed at the least cost, by each worker for as long as it takes.
        let left = |step: usize| step as f64 * self.grid * self.work;
        let ends = value.chunks_exact(steps).flat_map(|row| row.iter().enumerate());
        base + ends.map(|(step, v)| f64::from(*v) + left(step)).fold(f64::INFINITY, f64::min)
    }

    /// Changes the number of workers, at the cost of starting or removing them.
    fn switch(&self, value: &mut [f32], reached: usize) {
        let (count, steps) = (self.capacity.len(), self.steps);
        let mut relax = |from: usize, to: usize, price: f32| {
            let (left, right) = value.split_at_mut(from.max(to) * steps);
            let low = &mut left[from.min(to) * steps..][..reached];
            let high = &mut right[..reached];
            let (from, to) = if from < to { (low, high) } else { (high, low) };
            for (to, from) in to.iter_mut().zip(from.iter()) {
                *to = to.min(*from + price);
            }
        };
        (1..count).for_each(|n| relax(n - 1, n, self.make));
        (1..count).rev().for_each(|n| relax(n, n - 1, self.remove));
    }

    /// Returns how a block of seconds changes any backlog at its beginning.
    fn block(&self, begin: usize, together: f64) -> Block {
        let end = self.arrivals.len().min(begin + BLOCK);
        let seconds = end - begin;
        let mut block =
            Block { seconds, shift: 0.0, low: 0.0, high: f64::INFINITY, dropped: 0.0, drops_from: f64::INFINITY };
        // Blocks that begin with up to this backlog have been at zero by now, and end like all others that have.
        let mut emptied = 0.0;
        for second in begin..end {
            let (net, room) = (self.arrivals[second] - together, self.room[second]);
            block.shift += net;
            emptied = f64::max(emptied, -block.shift);
            block.low = (block.low + net).max(0.0);
            block.high = (block.high + net).max(0.0);
            if block.low > room {
                block.dropped += block.low - room;
            }
            block.low = block.low.min(room);
            block.high = block.high.min(room);
            // With a higher backlog than this, records have been dropped; below it, `dropped` counts them.
            block.drops_from = block.drops_from.min((room - block.shift).max(emptied));
        }
        block
    }
}

/// A block of seconds as a function of the backlog b at its beginning: `clamp(b + shift, low, high)` at its end, and
/// `dropped + max(0, b - drops_from)` records dropped in between.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Number of seconds; fewer at the end of the load.
    seconds: usize,
    shift: f64,
    low: f64,
    high: f64,
    dropped: f64,
    drops_from: f64,
}

impl Block {
    /// Carries the values of all backlogs from the beginning to the end. Returns the highest step that was reached.
    fn carry(&self, from: &[f32], to: &mut [f32], grid: f64, cost: f32, slope: f32) -> usize {
        let last = to.len() - 1;
        let low = ((self.low / grid) as usize).min(last);
        let high = ((self.high / grid) as usize).clamp(low, last);
        let shift = (self.shift / grid).floor() as i64;
        // In favour of the bound: the backlog was rounded down, and so are the records dropped from it.
        let free = (self.drops_from / grid) as f32;
        let paid = |step: usize, value: f32| value + cost + slope * (step as f32 - free).max(0.0);
        // Backlogs that end at `low` or less, those that end between, and those that end at `high` or more.
        let begin_of = |end: usize| (end as i64 - shift).clamp(0, from.len() as i64) as usize;
        let (between, above) = (begin_of(low + 1), begin_of(high).max(begin_of(low + 1)));
        for (step, value) in from[..between].iter().enumerate() {
            to[low] = to[low].min(paid(step, *value));
        }
        if above > between {
            let first = (between as i64 + shift) as usize;
            for (offset, (value, end)) in from[between..above].iter().zip(&mut to[first..]).enumerate() {
                *end = end.min(paid(between + offset, *value));
            }
        }
        for (step, value) in from.iter().enumerate().skip(above) {
            to[high] = to[high].min(paid(step, *value));
        }
        if above < from.len() { high } else { low.max((from.len() as i64 - 1 + shift).clamp(0, high as i64) as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Noise, Random};
    use super::*;

    #[test]
    fn block_equals_its_seconds() {
        let mut random = Random::new(3, 0);
        for _ in 0..500 {
            let load = Load::new((0..BLOCK).map(|_| (random.uniform() * 6000.0) as f32).collect());
            let scenario =
                Scenario { latency: 1.0 + random.below(4) as f64, noise: Noise::None, ..Scenario::default() };
            let problem = Problem::new(&load, &scenario, false);
            let together = 1000.0 * (1.0 + random.below(4) as f64);
            let block = problem.block(0, together);
            for step in 0..100 {
                let begin = f64::from(step) * 150.0;
                let (mut waiting, mut dropped) = (begin, 0.0);
                for (arrived, room) in problem.arrivals.iter().zip(&problem.room) {
                    waiting = f64::max(0.0, waiting + arrived - together);
                    dropped += f64::max(0.0, waiting - room);
                    waiting = waiting.min(*room);
                }
                let end = (begin + block.shift).clamp(block.low, block.high);
                assert!((end - waiting).abs() < 1e-6, "{begin}: {end} {waiting} {block:?}");
                let lost = block.dropped + (begin - block.drops_from).max(0.0);
                assert!((lost - dropped).abs() < 1e-6, "{begin}: {lost} {dropped} {block:?}");
            }
        }
    }
}
