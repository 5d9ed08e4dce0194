//! The partitions: what arrived in each, what was processed, what was committed, and which records wait.
//!
//! Waiting records are kept as a fluid, in lots that arrived in the same step, or one by one. Either way a partition is
//! processed in order, and `end`, `position`, `done` and `committed` count records since its beginning.

use std::collections::VecDeque;

use super::truth::Truth;
use super::world::{History, World};
use crate::assign::NO_OWNER;
use crate::random::Random;

/// Amount below which there is no record: rounding errors.
const NONE: f64 = 1e-6;
/// Value of `committed` without a commit.
pub(crate) const NEVER: f64 = -1.0;
/// Number of moments within the objective's latency at which the log's end is kept.
const MOMENTS: f64 = 40.0;

/// A waiting lot: when it arrived, and its records (a fluid) or its work in seconds (one record).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lot {
    pub(crate) arrived: f64,
    pub(crate) amount: f64,
}

/// All partitions, one array for each quantity.
#[derive(Debug)]
pub(crate) struct Logs {
    /// Share of all records; and the sums of these, for drawing.
    pub(crate) weight: Vec<f64>,
    sums: Vec<f64>,
    pub(crate) end: Vec<f64>,
    pub(crate) position: Vec<f64>,
    /// Furthest position that any worker reached.
    pub(crate) done: Vec<f64>,
    pub(crate) committed: Vec<f64>,
    /// `uid` of the owner, or `NO_OWNER`.
    pub(crate) owner: Vec<u32>,
    /// Time until which it is stopped.
    pub(crate) paused: Vec<f64>,
    /// Time after which no partition is stopped.
    pub(crate) all_run_from: f64,
    /// Whether a lane works on it (record by record).
    pub(crate) held: Vec<bool>,
    pub(crate) waiting: Vec<VecDeque<Lot>>,
    /// The position that its worker last reported, and when.
    pub(crate) reported: Vec<(f64, f64)>,
    /// Ends at past moments, the newest last.
    past: VecDeque<(f64, Vec<f64>)>,
    remembers: Option<f64>,
    pub(crate) is_new: bool,
    arrivals: Random,
    costs: Random,
    discrete: bool,
}

impl Logs {
    pub(crate) fn new(world: &World) -> Self {
        let weight = weights(world);
        let count = weight.len();
        let mut sum = 0.0;
        let sums = weight.iter().map(|weight| {
            sum += weight;
            sum
        });
        let committed = if world.history == History::Established { 0.0 } else { NEVER };
        Self {
            sums: sums.collect(),
            weight,
            end: vec![0.0; count],
            position: vec![0.0; count],
            done: vec![0.0; count],
            committed: vec![committed; count],
            owner: vec![NO_OWNER; count],
            paused: vec![f64::NEG_INFINITY; count],
            all_run_from: f64::NEG_INFINITY,
            held: vec![false; count],
            waiting: vec![VecDeque::new(); count],
            reported: vec![(0.0, f64::NEG_INFINITY); count],
            past: VecDeque::new(),
            remembers: world.signals.due_end.then_some(world.latency),
            is_new: world.history != History::New,
            arrivals: Random::new(world.seed, 21),
            costs: Random::new(world.seed, 22),
            discrete: world.is_discrete(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.weight.len()
    }

    /// Lets records arrive in the step that begins at `now`: `mean` on average, with the scatter of independent
    /// records. Returns whether any arrived.
    pub(crate) fn arrive(&mut self, world: &World, now: f64, step: f64, mean: f64) -> bool {
        if mean <= 0.0 {
            return false;
        }
        if self.discrete || mean < self.count() as f64 {
            let count = poisson(&mut self.arrivals, mean);
            for _ in 0..count {
                let place = self.arrivals.uniform();
                let p = self.sums.partition_point(|sum| *sum <= place).min(self.count() - 1);
                self.end[p] += 1.0;
                if self.discrete {
                    let arrived = now + step * self.arrivals.uniform();
                    let amount = world.record_cost * lognormal(&mut self.costs, world.cost_sigma);
                    let lot = Lot { arrived, amount };
                    // Within a step they arrive in no order, but the log has one.
                    let index = self.waiting[p].iter().rposition(|l| l.arrived <= arrived).map_or(0, |index| index + 1);
                    let first = usize::from(self.held[p] && !self.waiting[p].is_empty());
                    self.waiting[p].insert(index.max(first), lot);
                } else {
                    self.push(p, now, 1.0);
                }
            }
            return count > 0;
        }
        for p in 0..self.count() {
            let mean = mean * self.weight[p];
            let records = (mean + mean.sqrt() * self.arrivals.bell()).max(0.0);
            if records > 0.0 {
                self.end[p] += records;
                self.push(p, now, records);
            }
        }
        true
    }

    fn push(&mut self, p: usize, arrived: f64, amount: f64) {
        match self.waiting[p].back_mut() {
            Some(last) if last.arrived >= arrived => last.amount += amount,
            _ => self.waiting[p].push_back(Lot { arrived, amount }),
        }
    }

    /// Returns the records of a fluid that its worker could process.
    pub(crate) fn backlog(&self, p: usize) -> f64 {
        let backlog = self.end[p] - self.position[p];
        if backlog > NONE { backlog } else { 0.0 }
    }

    /// Lets the worker of a fluid process this many records in the step that begins at `now`; each takes `cost` itself.
    pub(crate) fn advance(&mut self, p: usize, records: f64, now: f64, cost: f64, truth: &mut Truth) {
        self.position[p] = (self.position[p] + records).min(self.end[p]);
        let mut first_done = self.position[p] - self.done[p];
        if first_done <= 0.0 {
            return;
        }
        self.done[p] = self.position[p];
        while let Some(lot) = self.waiting[p].front_mut() {
            let part = lot.amount.min(first_done);
            truth.record(lot.arrived, now - lot.arrived + cost, part);
            first_done -= part;
            lot.amount -= part;
            if lot.amount > NONE {
                break;
            }
            self.waiting[p].pop_front();
        }
    }

    /// Completes one record.
    pub(crate) fn complete(&mut self, p: usize, at: f64, truth: &mut Truth) -> Option<f64> {
        self.position[p] += 1.0;
        if self.position[p] <= self.done[p] {
            return None; // processed for the second time
        }
        self.done[p] = self.position[p];
        let lot = self.waiting[p].pop_front()?;
        truth.record(lot.arrived, at - lot.arrived, 1.0);
        Some(at - lot.arrived)
    }

    /// Stops a partition until a time.
    pub(crate) fn pause(&mut self, p: usize, until: f64) {
        self.paused[p] = self.paused[p].max(until);
        self.all_run_from = self.all_run_from.max(until);
    }

    pub(crate) fn commit(&mut self, p: usize) {
        self.commit_at(p, self.position[p]);
    }

    pub(crate) fn commit_at(&mut self, p: usize, position: f64) {
        // A group that began at the end of the log commits only what it has processed.
        if self.committed[p] > NEVER || position > 0.0 || !self.is_new {
            self.committed[p] = position.floor();
        }
    }

    /// Rolls back to the commit, where the next owner begins.
    pub(crate) fn roll_back(&mut self, p: usize) {
        self.position[p] = self.committed[p].max(0.0);
    }

    /// Keeps the ends, if they will be needed.
    pub(crate) fn remember(&mut self, now: f64) {
        let Some(latency) = self.remembers else { return };
        if self.past.back().is_some_and(|(at, _)| now - at < latency / MOMENTS) {
            return;
        }
        let old = self.past.front().is_some_and(|(at, _)| now - at > latency * (1.0 + 2.0 / MOMENTS) + 1.0);
        let mut ends = if old { self.past.pop_front().map(|(_, ends)| ends).unwrap_or_default() } else { Vec::new() };
        ends.clear();
        ends.extend_from_slice(&self.end);
        self.past.push_back((now, ends));
    }

    /// Returns the ends one objective ago; before the beginning there were none of this load.
    pub(crate) fn due(&self, now: f64) -> Option<&[f64]> {
        let edge = now - self.remembers? + 1e-9;
        let index = self.past.partition_point(|(at, _)| *at <= edge);
        self.past.get(index.checked_sub(1)?).map(|(_, ends)| ends.as_slice())
    }

    /// Returns the unprocessed records, and when the oldest of them arrived.
    pub(crate) fn left(&self) -> (f64, Option<f64>) {
        let records = self.end.iter().zip(&self.done).map(|(end, done)| end - done).sum();
        let oldest = self.waiting.iter().filter_map(|lots| lots.front()).map(|lot| lot.arrived).reduce(f64::min);
        (records, oldest)
    }

    /// Judges the unprocessed records at the end of the run.
    pub(crate) fn abandon(&self, now: f64, truth: &mut Truth) {
        for lot in self.waiting.iter().flatten() {
            truth.abandon(lot.arrived, now - lot.arrived, if self.discrete { 1.0 } else { lot.amount });
        }
    }
}

/// Returns each partition's share of the records; the shares add up to 1.
pub(crate) fn weights(world: &World) -> Vec<f64> {
    let mut random = Random::new(world.seed, 20);
    let mut weights: Vec<f64> = (0..world.partitions).map(|_| (world.weight_sigma * random.normal()).exp()).collect();
    if let (Some(share), true) = (world.hot_share, weights.len() > 1) {
        let hot = random.below(weights.len());
        weights[hot] = 0.0;
        weights[hot] = weights.iter().sum::<f64>() * share / (1.0 - share).max(1e-9);
    }
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Draws a factor of mean 1.
pub(crate) fn lognormal(random: &mut Random, sigma: f64) -> f64 {
    if sigma > 0.0 { (sigma * random.normal() - sigma * sigma / 2.0).exp() } else { 1.0 }
}

fn poisson(random: &mut Random, mean: f64) -> usize {
    if mean > 30.0 {
        return (mean + mean.sqrt() * random.normal()).round().max(0.0) as usize;
    }
    let (limit, mut product, mut count) = ((-mean).exp(), random.uniform(), 0);
    while product > limit {
        product *= random.uniform();
        count += 1;
    }
    count
}
