//! The plant accounts for every record, and gives known results in simple worlds.

use super::plant::Plant;
use super::*;
use crate::assign::NO_OWNER;
use crate::load::Load;
use crate::random::Random;
use crate::rule::Fixed;

/// Returns a world with every fault.
fn rough(seed: u64) -> World {
    World {
        seed,
        load: Load::constant(2500.0, 600),
        weight_sigma: 0.5,
        records_per_transaction: Some(7.0),
        history: History::Latest { retained: 100 },
        commits: Commits::Every { seconds: 9.0, phase: Phase::Partition },
        commits_on_revoke: false,
        handover: Handover::Eager,
        assignor: Assignor::Range,
        start_up: 10.0,
        start_up_spread: 0.5,
        ready_before_joining: 5.0,
        lanes: 2,
        record_cost: 0.002,
        cost_sigma: 0.5,
        speed_noise: 0.05,
        cold: 0.5,
        pauses: Some(Pauses { every: 60.0, seconds: 4.0, together: false }),
        deploy: Some(Deploy { at: 200.0, speed: 1.2 }),
        bottleneck: Some(Bottleneck { rate: 2000.0, loss_per_worker: 0.02, from: 300.0, until: 400.0 }),
        deaths: Some(Deaths { every: 50.0, notice: 7.0 }),
        ..World::default()
    }
}

/// The same with few and long records.
fn slow(seed: u64) -> World {
    World { load: Load::constant(4.0, 600), record_cost: 0.8, partitions: 24, latency: 30.0, ..rough(seed) }
}

#[test]
fn every_record_is_processed_or_waits() {
    for world in [rough(1), rough(2), slow(1), slow(2)] {
        let mut plant = Plant::new(&world, 3);
        let mut random = Random::new(world.seed, 99);
        let steps = world.load.seconds() * world.steps_per_second();
        for nth in 0..steps {
            if random.uniform() < 0.02 {
                plant.desired = random.below(9) as u32;
            }
            let now = nth as f64 * plant.step;
            plant.step(now);
            let logs = &plant.logs;
            for p in 0..logs.count() {
                let amount = |lot: &super::logs::Lot| if world.is_discrete() { 1.0 } else { lot.amount };
                let waits: f64 = logs.waiting[p].iter().map(amount).sum();
                assert!((logs.end[p] - logs.done[p] - waits).abs() < 1e-3, "{p} at {now}");
                assert!(logs.committed[p] <= logs.done[p] && logs.position[p] <= logs.done[p] + 1e-9);
                assert!(logs.done[p] <= logs.end[p] + 1e-9);
                let owners = plant.fleet.live.iter().filter(|pod| pod.mine.contains(&(p as u32)));
                assert_eq!(owners.count(), usize::from(logs.owner[p] != NO_OWNER), "{p} at {now}");
            }
            let held = plant.fleet.live.iter().flat_map(|pod| &pod.lanes).filter(|lane| lane.partition.is_some());
            assert_eq!(held.count(), logs.held.iter().filter(|held| **held).count(), "at {now}");
        }
        assert!(plant.logs.done.iter().sum::<f64>() > 0.2 * plant.logs.end.iter().sum::<f64>());
    }
}

#[test]
fn same_world_gives_same_outcome() {
    let world = World { jitter: 0.2, missed: 0.05, ..rough(5) };
    let once = || run(&world, &mut Operator::for_world(&world));
    assert_eq!(once(), once());
    assert_ne!(run(&World { seed: 6, ..world.clone() }, &mut Operator::for_world(&world)), once());
    assert_eq!(World::draw(77), World::draw(77));
}

#[test]
fn enough_fixed_workers_are_never_late() {
    let world = World { start_workers: 3, ..World::default() };
    let outcome = run(&world, &mut Fixed(3));
    assert_eq!((outcome.late, outcome.late_in_all), (0.0, 0.0));
    assert!((outcome.worker_seconds - 3.0 * 4800.0).abs() < 1e-6, "{}", outcome.worker_seconds);
    assert!((outcome.least - 2.5 * 4800.0).abs() < 1.0, "{}", outcome.least);
    assert!(outcome.p99 <= 1.0 && outcome.changes.is_empty());
    let outcome = run(&world, &mut Fixed(2));
    assert!(outcome.late > 0.95, "a fifth more arrives than two can do: {}", outcome.late);
    let (arrived, done, left) = outcome.records;
    assert!((left - 0.2 * arrived).abs() < 0.01 * arrived && (arrived - done - left).abs() < 1.0);
}

/// One lane, records of 1 s, half busy: a record that meets an idle worker is done after a second, and that is half of
/// them. Less than t of waiting has 0.5 e^(0.5 t) of them (M/D/1, t < 1).
#[test]
fn queue_of_long_records_matches_theory() {
    let world = World {
        load: Load::constant(0.5, 60_000),
        latency: 1.4,
        partitions: 1,
        record_cost: 1.0,
        start_workers: 1,
        ..World::default()
    };
    let outcome = run(&world, &mut Fixed(1));
    let expected = 1.0 - 0.5 * (0.5_f64 * 0.4).exp();
    assert!((outcome.late - expected).abs() < 0.02, "{} and not {expected}", outcome.late);
}

#[test]
fn lanes_share_several_partitions_but_not_one() {
    let world = |partitions, lanes, cost| World {
        load: Load::constant(3.0, 3600),
        partitions,
        lanes,
        record_cost: cost,
        latency: 60.0,
        ..World::default()
    };
    assert!(run(&world(12, 4, 1.0), &mut Fixed(1)).late < 0.01);
    assert!(run(&world(1, 4, 1.0), &mut Fixed(1)).late > 0.9);
    let fluid = |partitions| World { load: Load::constant(3000.0, 1800), ..world(partitions, 4, 0.001) };
    assert!(run(&fluid(12), &mut Fixed(1)).late < 0.01);
    assert!(run(&fluid(1), &mut Fixed(1)).late > 0.9);
}

#[test]
fn pause_of_the_group_shows_in_the_latency() {
    // All partitions stop for 20 s at each change; two changes.
    struct Once(u32);
    impl crate::rule::Rule for Once {
        fn name(&self) -> String {
            "once".to_owned()
        }
        fn every(&self) -> f64 {
            1800.0
        }
        fn decide(&mut self, _: &sluice_policy::Observation) -> Option<u32> {
            self.0 += 1;
            Some(self.0)
        }
    }
    let world = World { handover: Handover::Eager, handover_seconds: 20.0, ..World::default() };
    let outcome = run_kindly(&world, &mut Once(4));
    assert!(outcome.late > 0.001 && outcome.late < 0.02, "{}", outcome.late);
    let kind = World { handover_seconds: 5.0, ..world };
    assert!(run_kindly(&kind, &mut Once(4)).late <= 0.0);
}

#[test]
fn each_draw_is_in_range() {
    for seed in 0..60 {
        let world = World::draw(seed);
        let World { latency, percentile, start_up, handover_seconds, record_cost, .. } = world;
        let within = |value: f64, low: f64, high: f64| assert!((low..=high).contains(&value), "{seed}: {value}");
        within(latency, 1.0, 7200.0);
        within(percentile, 0.5, 0.999);
        within(start_up, 1.0, 300.0);
        within(handover_seconds, 0.2, 60.0);
        within(record_cost, 2e-5, 600.0);
        within(world.seconds(), 3600.0, 21_600.0);
        within(world.load.records() / world.seconds(), 1e-5, 1.01e6);
        within(world.least_from(0.0) / world.seconds(), 0.0, 81.0);
        within(f64::from(world.lanes), 1.0, 16.0);
        assert!([1, 3, 12, 24, 120, 500, 1000].contains(&world.partitions));
        assert!(world.max_workers >= 2 && world.min_workers <= world.start_workers);
        assert!(world.start_workers >= 1 && world.start_workers <= world.max_workers);
        assert!(world.warm_up() >= 600.0 && world.warm_up() <= world.seconds() / 2.0);
        if let Commits::Every { seconds, .. } | Commits::Checkpoint { seconds, .. } = world.commits {
            within(seconds, 0.1, 60.0);
        }
    }
}
