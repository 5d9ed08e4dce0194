//! Tests the simulator against results calculated by hand.
#![allow(clippy::float_cmp)]

mod bound;
mod faults;
mod plant;
mod scene;
mod scenes;

use super::{Handover, Load, Noise, Rule, Run, Scenario, run};
use sluice_policy::Observation;

/// Returns a plant without chance: even partitions, equal workers, no noise, start-up of exactly 20 s.
fn plain() -> Scenario {
    Scenario {
        weight_sigma: 0.0,
        speed_spread: 0.0,
        speed_noise: 0.0,
        start_up_spread: 0.0,
        noise: Noise::None,
        ..Scenario::default()
    }
}

/// A rule that sets given replica counts at given times, and keeps every observation.
#[derive(Default)]
struct Script {
    first: u32,
    changes: Vec<(f64, u32)>,
    seen: Vec<Observation>,
    restarts: usize,
}

impl Script {
    fn new(first: u32, changes: &[(f64, u32)]) -> Self {
        Self { first, changes: changes.to_vec(), ..Self::default() }
    }

    /// Returns the observation at this time, seconds since the load began.
    fn at(&self, second: usize) -> &Observation {
        &self.seen[second - 1]
    }
}

impl Rule for Script {
    fn name(&self) -> String {
        "script".to_owned()
    }

    fn every(&self) -> f64 {
        1.0
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        let time = observation.at.0 - super::view::BEGIN;
        self.seen.push(observation.clone());
        self.changes.iter().rev().find(|(at, _)| *at <= time).map(|(_, workers)| *workers)
    }

    fn restart(&mut self) {
        self.restarts += 1;
    }

    fn start(&self) -> Option<u32> {
        Some(self.first)
    }
}

fn late_records(run: &Run) -> f64 {
    run.scores.late * run.scores.records
}

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-3 + 1e-6 * expected.abs(), "{what}: {found}, and not {expected}");
}

/// Runs a constant load of 4000 records per second through a script.
fn scripted(scenario: &Scenario, seconds: usize, mut script: Script) -> (Run, Script) {
    let run = run(&Load::constant(4000.0, seconds), scenario, &mut script);
    (run, script)
}

/// Returns a plant whose workers are so fast that every backlog is gone within a second.
fn fast(handover: Handover) -> Scenario {
    Scenario { capacity: 100_000.0, handover, ..plain() }
}
