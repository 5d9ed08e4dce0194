//! Computes one job of the benchmark, or many in parallel.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::faults::{self, FaultCount};
use super::plan::{Group, Plan, Trace};
use super::results::{Bound, Key, Who};
use sluice_simulate::{Fixed, Rule, Run, Sluice, oracle, peers, run, run_judged};

/// A computation of the benchmark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// A run.
    Run(Key),
    /// A lower bound.
    Bound(Bound),
    /// A scenario of faults, by its index in [`faults::FAULTS`].
    Fault {
        /// Index of the scenario.
        case: usize,
        /// Name of the rule: `sluice` or a peer.
        rule: String,
        /// Seed of the run.
        seed: u64,
    },
}

/// The result of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One run, judged by each latency of the group.
    Run(Vec<Outcome>),
    /// Bound, worker-seconds.
    Bound(f64),
    /// Changes that should not have been made.
    Fault(FaultCount),
}

/// How well a run met an objective.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Objective, seconds.
    pub latency: u32,
    /// Share of late records, 0 to 1.
    pub late: f64,
    /// Share of rolling hours that met the objective, 0 to 1.
    pub good_hours: f64,
    /// Cost, worker-seconds.
    pub worker_seconds: f64,
    /// Number of changes of the replica count.
    pub rescales: usize,
    /// Changes in the opposite direction of the previous one, within 10 minutes.
    pub reversals: usize,
}

/// Computes a job; of a job that the plan does not have, the result is empty.
pub fn answer(plan: &Plan, job: &Job) -> Answer {
    match job {
        Job::Run(key) => Answer::Run(outcomes(plan, key)),
        Job::Bound(bound) => {
            let found = plan.groups.get(bound.group).zip(plan.traces.get(bound.trace));
            Answer::Bound(found.map_or(f64::NAN, |(group, trace)| {
                let scenario = group.scenario_for(bound.seed, bound.latency);
                oracle(&trace.load, &scenario, 1.0 - scenario.percentile, bound.weighted)
            }))
        }
        Job::Fault { case, rule, seed } => Answer::Fault(faults::count(*case, rule, *seed)),
    }
}

fn outcomes(plan: &Plan, key: &Key) -> Vec<Outcome> {
    let Some((group, trace)) = plan.groups.get(key.group).zip(plan.traces.get(key.trace)) else { return Vec::new() };
    let latencies: Vec<f64> = group.latencies.iter().map(|latency| f64::from(*latency)).collect();
    match &key.who {
        Who::Sluice(latency) => {
            let scenario = group.scenario_for(key.seed, *latency);
            let run = run(&trace.load, &scenario, &mut Sluice::for_scenario(&scenario));
            vec![outcome(&run, *latency, run.scores.late, run.scores.good_hours)]
        }
        who => {
            let Some(mut rule) = rule(who, group, trace) else { return Vec::new() };
            let scenario = group.scenario_for(key.seed, group.latencies.first().copied().unwrap_or(1));
            let (run, verdicts) = run_judged(&trace.load, &scenario, rule.as_mut(), &latencies);
            let judged = group.latencies.iter().zip(verdicts);
            judged.map(|(latency, verdict)| outcome(&run, *latency, verdict.late, verdict.good_hours)).collect()
        }
    }
}

fn rule(who: &Who, group: &Group, trace: &Trace) -> Option<Box<dyn Rule>> {
    let mean_rate = trace.load.records() / trace.load.seconds().max(1) as f64;
    match who {
        Who::Sluice(latency) => Some(Box::new(Sluice::for_scenario(&group.scenario_for(1, *latency)))),
        Who::Peer(name) => peers::named(name, &group.parameters(mean_rate)).ok(),
        Who::Fixed(workers) => Some(Box::new(Fixed(*workers))),
    }
}

/// Runs a job and returns it second by second, for a plot.
pub fn watch(plan: &Plan, key: &Key, latency: u32) -> Option<Run> {
    let (group, trace) = plan.groups.get(key.group).zip(plan.traces.get(key.trace))?;
    Some(run(&trace.load, &group.scenario_for(key.seed, latency), rule(&key.who, group, trace)?.as_mut()))
}

fn outcome(run: &Run, latency: u32, late: f64, good_hours: f64) -> Outcome {
    let scores = &run.scores;
    Outcome {
        latency,
        late,
        good_hours,
        worker_seconds: scores.worker_seconds,
        rescales: scores.rescales,
        reversals: scores.reversals,
    }
}

/// Does all work on a number of threads. The answers are in the order of the work.
pub fn side_by_side<W: Sync, A: Send>(work: &[W], threads: usize, of: impl Fn(&W) -> A + Sync) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(work.len()));
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, work.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = work.get(index) else { break };
                    let answer = of(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, answer));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, answer)| answer).collect()
}
