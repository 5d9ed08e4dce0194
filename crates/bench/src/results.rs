//! The results so far.

use std::collections::BTreeMap;

use super::faults::FaultCount;
use super::jobs::{Answer, Job, Outcome};

/// The rule of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Sluice, which knows the objective's latency, seconds.
    Sluice(u32),
    /// A peer by its name; it does not know the objective.
    Peer(String),
    /// A constant replica count.
    Fixed(u32),
}

impl Who {
    /// Returns the name for tables.
    pub fn name(&self) -> String {
        match self {
            Self::Sluice(_) => "sluice".to_owned(),
            Self::Peer(name) => name.clone(),
            Self::Fixed(workers) => format!("fixed {workers}"),
        }
    }
}

/// A run. Groups and traces are indices into the plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Group.
    pub group: usize,
    /// Trace.
    pub trace: usize,
    /// Rule.
    pub who: Who,
    /// Seed.
    pub seed: u64,
}

/// A lower bound.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    /// Group.
    pub group: usize,
    /// Trace.
    pub trace: usize,
    /// Objective, seconds.
    pub latency: u32,
    /// Seed.
    pub seed: u64,
    /// Whether the partitions keep their weights.
    pub weighted: bool,
}

/// All results.
#[derive(Debug, Clone, Default)]
pub struct Results {
    runs: BTreeMap<Key, Vec<Outcome>>,
    bounds: BTreeMap<Bound, f64>,
    faults: BTreeMap<(usize, String, u64), FaultCount>,
}

impl Results {
    /// Adds a result.
    pub fn insert(&mut self, job: Job, answer: Answer) {
        match (job, answer) {
            (Job::Run(key), Answer::Run(outcomes)) => drop(self.runs.insert(key, outcomes)),
            (Job::Bound(bound), Answer::Bound(value)) => drop(self.bounds.insert(bound, value)),
            (Job::Fault { case, rule, seed }, Answer::Fault(count)) => {
                self.faults.insert((case, rule, seed), count);
            }
            _ => {}
        }
    }

    /// Returns whether this has been computed.
    pub fn has(&self, job: &Job) -> bool {
        match job {
            Job::Run(key) => self.runs.contains_key(key),
            Job::Bound(bound) => self.bounds.contains_key(bound),
            Job::Fault { case, rule, seed } => self.faults.contains_key(&(*case, rule.clone(), *seed)),
        }
    }

    /// Returns the result of a run, judged by this latency.
    pub fn run(&self, key: &Key, latency: u32) -> Option<Outcome> {
        self.runs.get(key)?.iter().find(|outcome| outcome.latency == latency).copied()
    }

    /// Returns a lower bound, worker-seconds.
    pub fn bound(&self, bound: &Bound) -> Option<f64> {
        self.bounds.get(bound).copied()
    }

    /// Returns the result of a rule in a scenario of faults.
    pub fn fault(&self, case: usize, rule: &str, seed: u64) -> Option<FaultCount> {
        self.faults.get(&(case, rule.to_owned(), seed)).copied()
    }
}
