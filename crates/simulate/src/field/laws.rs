//! Laws of the decision core in closed loop, in worlds of the field.

use proptest::prelude::*;
use sluice_base::testing::cases;
use sluice_policy::Observation;

use super::{Commits, Operator, Owners, Phase, Signals, World, run};
use crate::{Load, Rule};

/// Returns a world with a constant load for an hour and a half that keeps `busy` workers busy.
fn constant(busy: f64, world: World) -> World {
    let capacity = f64::from(world.lanes) / world.record_cost;
    World { load: Load::constant(busy * capacity, 5400), max_workers: 24, partitions: 24, ..world }
}

/// Returns the workers at the end.
fn settles_at(world: &World) -> u32 {
    run(world, &mut Operator::for_world(world)).minutes.last().map_or(0, |minute| minute.desired)
}

proptest! {
    #![proptest_config(cases(16))]

    /// Law 12. The same work on more lanes is the same work: capacity does not depend on the number of lanes.
    #[test]
    fn capacity_does_not_depend_on_lanes(seed in 0..1000_u64, busy in 1.5..5.5_f64, reported in any::<bool>()) {
        let world = |lanes: u32| {
            let signals = Signals { concurrency: reported, ..Signals::COUNTERS_AND_BUSY };
            let base = World { seed, lanes, record_cost: 0.001 * f64::from(lanes), signals, start_workers: 6, ..World::default() };
            World { partitions: 120, ..constant(busy, base) }
        };
        let one = settles_at(&world(1));
        for lanes in [2, 8] {
            let many = settles_at(&world(lanes));
            // How many lanes there are shows only when that many were busy at once.
            let most = if reported { one + 1 + one / 4 } else { 2 * one + 1 };
            prop_assert!(many <= most, "{lanes} lanes: {many} workers, one lane: {one}");
        }
    }

    /// Law 13. Lateness that the commit interval explains adds no worker, and twice the interval never doubles the
    /// workers.
    #[test]
    fn twice_the_commit_interval_never_doubles_workers(seed in 0..1000_u64, busy in 1.2..4.0_f64, every in 1.0..30.0_f64) {
        let world = |seconds: f64| {
            let commits = Commits::Every { seconds, phase: Phase::Worker };
            constant(busy, World { seed, commits, signals: Signals::COMMITS_ONLY, start_workers: 6, ..World::default() })
        };
        let (once, twice) = (settles_at(&world(every)), settles_at(&world(2.0 * every)));
        prop_assert!(twice < 2 * once.max(3), "commits every {every:.1} s: {once} workers; half as often: {twice}");
    }

    /// Law 14. Each learned value, set to a tenth or ten times the truth, recovers within 30 minutes of ordinary load.
    #[test]
    fn poisoned_estimate_recovers(seed in 0..1000_u64, busy in 1.5..5.0_f64, which in 0..5_usize, up in any::<bool>()) {
        let world = constant(busy, World { seed, start_workers: 6, ..World::default() });
        let healthy = settles_at(&world);
        let mut poisoned = Poisoned { operator: Operator::for_world(&world), at: 3000.0, which, factor: if up { 10.0 } else { 0.1 } };
        let after = run(&world, &mut poisoned).minutes.last().map_or(0, |minute| minute.desired);
        prop_assert!(after.abs_diff(healthy) <= 1 + healthy / 3, "{after} workers, {healthy} without poison");
    }
}

/// The group's commits were unknown when it went to zero, and its idle worker proved that nothing waited then: that
/// proof held for ever, and millions of records did not wake the job.
#[test]
fn job_that_slept_before_its_first_commit_wakes() {
    for owners in [Owners::Known, Owners::Unknown] {
        let mut world =
            World { min_workers: 0, start_workers: 1, partitions: 120, max_workers: 24, ..World::default() };
        world.signals.owners = owners;
        let busy = (4.0 * world.capacity()) as f32;
        world.load = Load::new((0..1500).map(|second| if second < 150 { 0.0 } else { busy }).collect());
        let outcome = run(&world, &mut Operator::for_world(&world));
        let end = outcome.minutes.last().unwrap();
        assert!(outcome.changes.iter().any(|change| change.to == 0), "{owners:?}: it never slept");
        assert!(end.desired >= 4 && end.age < world.latency, "{owners:?}: {end:?}");
    }
}

proptest! {
    #![proptest_config(cases(16))]

    /// Law 16. While records are too old, more workers are allowed and they would have work, more are requested within
    /// minutes, whatever was learned before.
    #[test]
    fn late_records_add_workers(seed in 0..1000_u64, busy in 2.5..9.0_f64, lanes in 1..5_u32, reports in 0..4_usize, wrong in any::<bool>()) {
        let signals = [Signals::COMMITS_ONLY, Signals::COUNTERS, Signals::COUNTERS_AND_BUSY, Signals::EVERYTHING];
        let signals = signals.get(reports).copied().unwrap_or(Signals::COMMITS_ONLY);
        let world = constant(busy, World { seed, lanes, record_cost: 0.002, signals, start_workers: 1, ..World::default() });
        let mut operator = Poisoned { operator: Operator::for_world(&world), at: if wrong { 60.0 } else { f64::INFINITY }, which: 0, factor: 4.0 };
        let minutes = run(&world, &mut operator).minutes;
        for window in minutes.windows(4) {
            let late = window.iter().all(|m| m.age > world.latency + 10.0 && f64::from(m.desired) < 0.95 * m.need);
            let content = window.iter().all(|m| m.desired == window[0].desired);
            prop_assert!(!(late && content), "{:?}", window);
        }
    }
}

/// An operator one of whose estimates is falsified at some time.
struct Poisoned {
    operator: Operator,
    at: f64,
    which: usize,
    factor: f64,
}

impl Rule for Poisoned {
    fn name(&self) -> String {
        "poisoned".to_owned()
    }

    fn every(&self) -> f64 {
        self.operator.every()
    }

    fn decide(&mut self, observation: &Observation) -> Option<u32> {
        if observation.at.0 - 1.764e9 >= self.at {
            self.at = f64::INFINITY;
            self.operator.sluice.memory.poison(self.which, self.factor);
        }
        self.operator.decide(observation)
    }
}
