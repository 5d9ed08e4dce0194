//! Laws in closed loop, in worlds of the field (`simulate::field`).

use proptest::prelude::*;

use super::{cases, one_in};
use crate::policy::model::memory::Memory;
use crate::policy::plant::{Plant, Tells};
use crate::policy::{Action, Observation, Reason, Source};
use crate::simulate::field::{Commits, Operator, Owners, Phase, Signals, World, run};
use crate::simulate::{Load, Rule};

/// Constant load for an hour and a half that keeps `busy` workers busy.
fn constant(busy: f64, world: World) -> World {
    let capacity = f64::from(world.lanes) / world.record_cost;
    World { load: Load::constant(busy * capacity, 5400), max_workers: 24, partitions: 24, ..world }
}

/// Workers at the end.
fn settles_at(world: &World) -> u32 {
    run(world, &mut Operator::of(world)).minutes.last().map_or(0, |minute| minute.desired)
}

proptest! {
    #![proptest_config(one_in(16))]

    /// The same work on more lanes is the same work: capacity does not depend on the number of lanes.
    #[test]
    fn law_12_capacity_does_not_depend_on_lanes(seed in 0..1000_u64, busy in 1.5..5.5_f64, reported in any::<bool>()) {
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

    /// No worker is added for lateness that the commit interval explains, and twice the interval never doubles them.
    #[test]
    fn law_13_twice_the_commit_interval_never_doubles_the_workers(seed in 0..1000_u64, busy in 1.2..4.0_f64, every in 1.0..30.0_f64) {
        let world = |seconds: f64| {
            let commits = Commits::Every { seconds, phase: Phase::Worker };
            constant(busy, World { seed, commits, signals: Signals::COMMITS_ONLY, start_workers: 6, ..World::default() })
        };
        let (once, twice) = (settles_at(&world(every)), settles_at(&world(2.0 * every)));
        prop_assert!(twice < 2 * once.max(3), "commits every {every:.1} s: {once} workers; half as often: {twice}");
    }

    /// Each learned value, set to a tenth or to ten times the truth, is recovered from within 30 minutes of ordinary load.
    #[test]
    fn law_14_a_poisoned_estimate_is_recovered_from(seed in 0..1000_u64, busy in 1.5..5.0_f64, which in 0..5_usize, up in any::<bool>()) {
        let world = constant(busy, World { seed, start_workers: 6, ..World::default() });
        let healthy = settles_at(&world);
        let mut poisoned = Poisoned { operator: Operator::of(&world), at: 3000.0, which, factor: if up { 10.0 } else { 0.1 } };
        let after = run(&world, &mut poisoned).minutes.last().map_or(0, |minute| minute.desired);
        prop_assert!(after.abs_diff(healthy) <= 1 + healthy / 3, "{after} workers, {healthy} without poison");
    }
}

/// Nothing was known of the group's commits when it went to sleep, and its idle worker proved that nothing waited then:
/// that proof held for ever, and millions of records did not wake it.
#[test]
fn a_job_that_slept_before_its_first_commit_wakes() {
    for owners in [Owners::Known, Owners::Unknown] {
        let mut world =
            World { min_workers: 0, start_workers: 1, partitions: 120, max_workers: 24, ..World::default() };
        world.signals.owners = owners;
        let busy = (4.0 * world.capacity()) as f32;
        world.load = Load::new((0..1500).map(|second| if second < 150 { 0.0 } else { busy }).collect());
        let outcome = run(&world, &mut Operator::of(&world));
        let end = outcome.minutes.last().unwrap();
        assert!(outcome.changes.iter().any(|change| change.to == 0), "{owners:?}: it never slept");
        assert!(end.desired >= 4 && end.age < world.latency, "{owners:?}: {end:?}");
    }
}

/// Lag 27,171 with no worker that could start, and "within the target": of a group without a commit nothing is known for sure.
#[test]
fn a_job_whose_workers_cannot_start_is_not_within_its_target_for_want_of_knowledge() {
    let mut memory = Memory::default();
    let mut last = None;
    for second in (0..120).step_by(2) {
        let partition = serde_json::json!({"id": "t/0", "at": second, "start": 0, "end": 60 * second, "committed": -1});
        let observation = serde_json::json!({
            "at": second, "replicas": {"desired": 1, "existing": 1, "ready": 0}, "partitions": [partition],
            "sources": [{"read": true}], "workers": [{"id": "w-0", "ready": false}],
        });
        let observation: Observation = serde_json::from_value(observation).unwrap();
        last = Some(crate::policy::decide(&mut memory, &observation, &crate::policy::plant::settings()).within_target);
    }
    assert_ne!(last, Some(crate::policy::WithinTarget::Met));
}

proptest! {
    #![proptest_config(one_in(16))]

    /// No contentment while late: records are too old, more workers are allowed and there is work for them, so more are
    /// asked for within minutes, whatever was learned before.
    #[test]
    fn law_16_no_contentment_while_late(seed in 0..1000_u64, busy in 2.5..9.0_f64, lanes in 1..5_u32, says in 0..4_usize, wrong in any::<bool>()) {
        let signals = [Signals::COMMITS_ONLY, Signals::COUNTERS, Signals::COUNTERS_AND_BUSY, Signals::EVERYTHING];
        let signals = signals.get(says).copied().unwrap_or(Signals::COMMITS_ONLY);
        let world = constant(busy, World { seed, lanes, record_cost: 0.002, signals, start_workers: 1, ..World::default() });
        let mut operator = Poisoned { operator: Operator::of(&world), at: if wrong { 60.0 } else { f64::INFINITY }, which: 0, factor: 4.0 };
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

    fn look(&mut self, observation: &Observation) -> Option<u32> {
        if observation.at.0 - 1.764e9 >= self.at {
            self.at = f64::INFINITY;
            poison(&mut self.operator.sluice.memory, self.which, self.factor);
        }
        self.operator.look(observation)
    }
}

fn poison(memory: &mut Memory, which: usize, factor: f64) {
    match which {
        0 => memory.capacity.poison(factor),
        1 => memory.commit_interval.poison(factor),
        2 => memory.latency_floor.poison(factor),
        3 => memory.offsets_per_record.poison(factor),
        _ => {
            memory.durations.start_up.poison(factor);
            memory.durations.handover.poison(factor);
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    /// A source of the spec that was not read is a missing signal: no voluntary Down, however long it lasts.
    #[test]
    fn law_15_a_source_that_was_not_read_takes_no_worker_away(load in 0.0..2000.0_f64, everything in any::<bool>(), restart in any::<bool>()) {
        let mut plant = Plant::new(4, 8);
        plant.tells = if everything { Tells::Everything } else { Tells::CommitsOnly };
        plant.sources = vec![
            Source { name: None, read: Some(true), starts_at_earliest: None },
            Source { name: Some("other".into()), read: Some(false), starts_at_earliest: None },
        ];
        plant.run(200.0, 2.0, |_| load);
        if restart { plant.memory = Memory::default(); }
        plant.run(200.0, 2.0, |_| load);
        prop_assert!(plant.changes.iter().all(|change| change.2.action != Action::Down), "{:?}", plant.changes);
        prop_assert_eq!(plant.last.as_ref().unwrap().reason, Reason::NoSignal);
    }
}
