//! Runs a world under a rule.

use super::plant::Plant;
use super::view::{Eyes, View};
use super::world::{Owners, Signals, World};
use crate::rule::{Rule, Sluice};
use crate::run::Change;
use sluice_base::units::Seconds;
use sluice_policy::{Observation, Settings};

/// Time within which changes in both directions are a reversal, seconds.
const REVERSAL: f64 = 600.0;
/// Share of the most workers below which the load of the last minutes and the backlog do not need them.
const NEEDLESS: f64 = 0.5;

/// The result of a run. Shares are 0 to 1, times are seconds; figures are for the time after the warm-up unless noted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Share of the records that were late.
    pub late: f64,
    /// The same, including the warm-up.
    pub late_in_all: f64,
    /// Median latency.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Billed pods times seconds.
    pub worker_seconds: f64,
    /// Least cost of the load, worker-seconds ([`World::least_from`]).
    pub least: f64,
    /// Changes per hour.
    pub changes_per_hour: f64,
    /// Changes in the opposite direction of the previous one, within 10 minutes of it.
    pub reversals: usize,
    /// Time at the most workers.
    pub at_most: f64,
    /// Part of that time in which half of them would have been enough.
    pub at_most_needlessly: f64,
    /// Most workers that were wanted, in the whole run.
    pub peak: u32,
    /// Records that arrived, were processed, and were left, in the whole run.
    pub records: (f64, f64, f64),
    /// Every change, in the whole run.
    pub changes: Vec<Change>,
    /// The state at the end of each minute.
    pub minutes: Vec<Minute>,
}

/// The state at the end of a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Minute {
    /// Seconds since the beginning.
    pub at: f64,
    /// Records that arrived per second.
    pub rate: f64,
    /// Workers that this rate keeps busy.
    pub need: f64,
    /// Workers that are wanted.
    pub desired: u32,
    /// Workers in the group.
    pub joined: u32,
    /// Unprocessed records.
    pub backlog: f64,
    /// Age of the oldest of them, seconds.
    pub age: f64,
}

impl Outcome {
    /// Returns whether the world's objective is met.
    pub fn meets(&self, world: &World) -> bool {
        self.late <= 1.0 - world.percentile + 1e-9
    }
}

/// Sluice in the field: it decides as often as the operator does for this objective.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The core.
    pub sluice: Sluice,
    every: f64,
    /// Its decisions as (seconds, workers, sentence), one for each change; if they are to be kept.
    pub decisions: Option<Vec<(f64, u32, String)>>,
}

impl Operator {
    /// Returns the operator of a world.
    pub fn for_world(world: &World) -> Self {
        let workers = (world.min_workers, world.max_workers);
        let settings = Settings::for_objective(Seconds(world.latency), world.percentile, workers);
        Self { sluice: Sluice::new(settings), every: world.interval(), decisions: None }
    }

    /// Keeps its decisions.
    #[must_use]
    pub fn with_decisions(mut self) -> Self {
        self.decisions = Some(Vec::new());
        self
    }
}

impl Rule for Operator {
    fn name(&self) -> String {
        "sluice".to_owned()
    }

    fn every(&self) -> f64 {
        self.every
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let before = self.sluice.last.as_ref().map(|d| (d.reason, d.bound_by, d.desired));
        let desired = self.sluice.decide(observation);
        if let (Some(decisions), Some(last)) = (&mut self.decisions, &self.sluice.last)
            && before != Some((last.reason, last.bound_by, last.desired))
        {
            let message = format!("{:?} {}: {}", last.action, last.reason.as_str(), last.message);
            decisions.push((observation.at.0 - super::view::BEGIN, desired.unwrap_or(0), message));
        }
        desired
    }

    fn restart(&mut self) {
        self.sluice.restart();
    }
}

/// Runs a world under a rule that sees what the operator of this world sees.
pub fn run(world: &World, rule: &mut dyn Rule) -> Outcome {
    let eyes = Eyes {
        signals: world.signals,
        interval: rule.every(),
        jitter: world.jitter,
        missed: world.missed,
        own_moments: true,
        cpu: false,
    };
    run_with(world, rule, eyes)
}

/// Runs a world under a rule that sees CPU and commits without delay or loss, like other autoscalers at best.
pub fn run_kindly(world: &World, rule: &mut dyn Rule) -> Outcome {
    let signals = Signals { due_end: false, owners: Owners::Unknown, ..Signals::COMMITS_ONLY };
    let eyes = Eyes { signals, interval: rule.every(), jitter: 0.0, missed: 0.0, own_moments: false, cpu: true };
    run_with(world, rule, eyes)
}

fn run_with(world: &World, rule: &mut dyn Rule, eyes: Eyes) -> Outcome {
    let start = rule.start().unwrap_or(world.start_workers).clamp(world.min_workers, world.max_workers);
    let mut plant = Plant::new(world, start);
    let mut view = View::new(&plant, eyes);
    let mut outcome = Outcome { peak: start, ..Outcome::default() };
    let (step, warm_up) = (plant.step, world.warm_up());
    let steps = world.load.seconds() * world.steps_per_second();
    let per_minute = 60 * world.steps_per_second();
    let mut restart = world.restart_at;
    let mut next = eyes.interval.min(5.0);
    let mut arriving = 0.0;
    let mut load = plant.arriving / step;
    for nth in 0..steps {
        let begin = nth as f64 * step;
        let now = (nth + 1) as f64 * step;
        plant.step(begin);
        arriving += plant.arriving;
        load += (plant.arriving / step - load) * (step / 120.0).min(1.0);
        if begin >= warm_up {
            outcome.worker_seconds += step * plant.fleet.billed() as f64;
            if plant.desired == world.max_workers {
                outcome.at_most += step;
            }
        }
        view.scrape(&mut plant, now);
        if restart.is_some_and(|at| now >= at) {
            restart = None;
            rule.restart();
        }
        if now + 1e-9 >= next {
            next = view.next(now).max(now + 0.5 * step);
            let desired = rule.decide(view.update(&mut plant, now));
            let bounded = desired.map(|to| to.clamp(world.min_workers, world.max_workers));
            if let Some(to) = bounded.filter(|to| *to != plant.desired) {
                outcome.changes.push(Change { at: now, from: plant.desired, to });
                outcome.peak = outcome.peak.max(to);
                plant.desired = to;
            }
        }
        if (nth + 1) % per_minute == 0 {
            let minute = minute(&plant, now, arriving / 60.0);
            arriving = 0.0;
            let work = (load + minute.backlog / 120.0) / world.capacity();
            if now > warm_up && plant.desired == world.max_workers && work < NEEDLESS * f64::from(world.max_workers) {
                outcome.at_most_needlessly += 60.0;
            }
            outcome.minutes.push(minute);
        }
    }
    let end = world.seconds();
    plant.logs.abandon(end, &mut plant.truth);
    let truth = &plant.truth;
    (outcome.late, outcome.late_in_all) = truth.late();
    (outcome.p50, outcome.p95, outcome.p99) = (truth.quantile(0.5), truth.quantile(0.95), truth.quantile(0.99));
    outcome.least = world.least_from(warm_up);
    let hours = (end - warm_up).max(1.0) / 3600.0;
    outcome.changes_per_hour = outcome.changes.iter().filter(|change| change.at >= warm_up).count() as f64 / hours;
    let turned = |pair: &&[Change]| {
        let (a, b) = (pair[0], pair[1]);
        b.at >= warm_up && (a.to > a.from) != (b.to > b.from) && b.at - a.at <= REVERSAL
    };
    outcome.reversals = outcome.changes.windows(2).filter(turned).count();
    let arrived: f64 = plant.logs.end.iter().sum();
    outcome.records = (arrived, plant.logs.done.iter().sum(), plant.logs.left().0);
    outcome
}

fn minute(plant: &Plant, now: f64, rate: f64) -> Minute {
    let (backlog, oldest) = plant.logs.left();
    Minute {
        at: now,
        rate,
        need: rate / plant.world.capacity(),
        desired: plant.desired,
        joined: plant.fleet.joined() as u32,
        backlog,
        age: oldest.map_or(0.0, |arrived| now - arrived),
    }
}
