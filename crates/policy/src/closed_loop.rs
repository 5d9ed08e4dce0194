//! The decision core in closed loop with the small plant, as one would watch it on a cluster.

use super::plant::{Plant, Reported};
use super::{Action, Limit, Memory, Observation, Partition, Reason, Replicas};
use sluice_base::units::Seconds;

fn trace(name: &str, plant: &Plant) {
    println!(
        "{name}: late {:.4} %, cost {:.3}, {} changes",
        100.0 * plant.late_share(),
        plant.cost(),
        plant.changes.len()
    );
    for (at, from, decision) in &plant.changes {
        println!("  {:8.1} {from} {}", at - 1.764e9, decision.message);
    }
}

/// Counts changes that follow one in the opposite direction.
fn reversals(plant: &Plant) -> usize {
    plant.changes.windows(2).filter(|w| w[0].2.action != w[1].2.action).count()
}

fn step(reported: Reported) -> Plant {
    let mut plant = Plant::new(24, 3);
    plant.reported = reported;
    plant.run(900.0, 2.0, |t| if (300.0..500.0).contains(&t) { 6000.0 } else { 2000.0 });
    plant
}

#[test]
fn step_of_three_times_the_load_is_answered_in_time() {
    for reported in [Reported::Everything, Reported::CommitsOnly] {
        let plant = step(reported);
        trace("step x3", &plant);
        let begin = 1.764e9 + 300.0;
        let first = plant.changes.iter().find(|c| c.0 >= begin).expect("an answer");
        assert_eq!(first.2.action, Action::Up);
        // Without a known capacity, records must be seen to be late first.
        let within = if reported == Reported::Everything { 10.0 } else { 20.0 };
        assert!(first.0 - begin <= within, "{}", first.0 - begin);
        let back = plant.changes.iter().filter(|c| c.0 > begin + 200.0).collect::<Vec<_>>();
        assert!(back.iter().all(|c| c.2.action == Action::Down), "down without reversal");
        assert!(plant.desired <= 4, "back down: {}", plant.desired);
        assert!(plant.late_share() < 0.01, "{}", plant.late_share());
    }
}

#[test]
fn steady_load_changes_nothing_for_six_hours() {
    let mut plant = Plant::new(24, 6);
    plant.run(600.0, 2.0, |_| 4300.0);
    plant.changes.clear();
    plant.run(6.0 * 3600.0, 2.0, |_| 4300.0);
    trace("steady", &plant);
    assert!(plant.changes.len() <= 1, "{}", plant.changes.len());
    assert_eq!(reversals(&plant), 0);
    assert_eq!(plant.late, 0.0);
}

#[test]
fn metric_outage_removes_no_worker() {
    let mut plant = Plant::new(24, 6);
    plant.run(300.0, 2.0, |_| 4300.0);
    plant.changes.clear();
    plant.outage = true;
    plant.run(900.0, 2.0, |_| 4300.0);
    assert!(plant.changes.iter().all(|c| c.2.action != Action::Down), "{:?}", plant.changes);
    assert_eq!(plant.last.as_ref().unwrap().reason, Reason::NoSignal);
    plant.outage = false;
    plant.run(20.0, 2.0, |_| 4300.0);
    assert!(plant.changes.iter().all(|c| c.2.action != Action::Down));
}

#[test]
fn frozen_source_removes_no_worker() {
    for every in [0.5, 1.0, 2.0, 4.0] {
        let mut plant = Plant::new(24, 6);
        plant.run(300.0, every, |_| 4300.0);
        plant.changes.clear();
        plant.frozen = Some(plant.observation().partitions);
        plant.run(900.0, every, |_| 4300.0);
        assert!(plant.changes.iter().all(|c| c.2.action != Action::Down), "every {every} s: {:?}", plant.changes);
        let last = plant.last.as_ref().unwrap();
        assert!(last.explain.contradiction.is_some(), "every {every} s: {last:?}");
        // Once the workers are idle, the log may be right.
        plant.run(60.0 + 30.0, every, |_| 0.0);
        assert!(plant.desired < 6, "every {every} s: {:?}", plant.last);
    }
}

#[test]
fn twelve_partitions_never_get_more_than_twelve_workers() {
    let mut plant = Plant::new(12, 2);
    plant.run(300.0, 2.0, |_| 20_000.0);
    trace("twelve", &plant);
    assert_eq!(plant.desired, 12);
    assert!(plant.changes.iter().all(|c| c.2.desired <= Some(12)));
    let limited = plant.last.unwrap().limited.expect("limited");
    assert_eq!(limited.by, Limit::AtPartitionCount);
    assert!(limited.wanted > 12, "{limited:?}");
}

#[test]
fn restart_removes_no_worker() {
    let mut plant = Plant::new(24, 6);
    plant.run(300.0, 2.0, |_| 4300.0);
    for memory in [Memory::default(), Memory::with_prior(plant.memory.model())] {
        let mut again = plant.clone();
        let before = again.desired;
        again.memory = memory;
        again.changes.clear();
        again.run(25.0, 2.0, |_| 500.0);
        assert!(again.desired >= before, "{:?}", again.changes);
    }
}

#[test]
fn age_of_a_backlog_is_not_a_latency_floor() {
    let mut plant = Plant::new(24, 6);
    plant.run(300.0, 2.0, |_| 2000.0);
    let can = std::mem::replace(&mut plant.mu, 0.1);
    plant.run(60.0, 2.0, |_| 2000.0);
    assert!(plant.memory.latency_floor.known() < Some(1.0), "{:?}", plant.memory.latency_floor);
    // The same holds after a restart, while the backlog is worked off.
    plant.memory = Memory::default();
    plant.mu = can;
    plant.run(60.0, 2.0, |_| 2000.0);
    assert!(plant.memory.latency_floor.known() < Some(1.0), "{:?}", plant.memory.latency_floor);
}

#[test]
fn unknown_capacity_is_learned() {
    let mut plant = Plant::new(40, 1);
    plant.run(120.0, 2.0, |_| 8000.0);
    trace("from one", &plant);
    assert!(plant.desired >= 9, "{}", plant.desired);
    assert!(plant.changes.iter().all(|c| c.2.desired <= Some(c.1 * 4)), "bounded growth");
}

#[test]
fn idle_job_goes_to_zero_and_back() {
    let mut plant = Plant::new(4, 2);
    plant.settings.min_replicas = 0;
    plant.run(200.0, 2.0, |t| if t < 60.0 { 1000.0 } else { 0.0 });
    trace("idle", &plant);
    assert_eq!((plant.desired, plant.last.as_ref().unwrap().reason), (0, Reason::Idle));
    plant.run(4.0, 2.0, |_| 500.0);
    assert!(plant.desired >= 1);
    assert_eq!(plant.changes.last().unwrap().2.reason, Reason::WakeUp);
}

#[test]
fn compressed_day_is_followed() {
    // With workers that take 20 s to start, a day in ten minutes cannot be followed cheaply.
    for (start_up, handover, most) in [(2.0, 0.5, 1.6), (20.0, 5.0, 2.8)] {
        let mut plant = Plant::new(24, 4);
        (plant.start_up, plant.handover) = (start_up, handover);
        plant.run(1800.0, 2.0, |t| 6000.0 - 4000.0 * (t / 600.0 * std::f64::consts::TAU).cos());
        trace("day", &plant);
        assert!(plant.late_share() < 0.01, "{}", plant.late_share());
        assert!(plant.cost() < most, "{}", plant.cost());
    }
}

#[test]
fn uneven_partitions_are_served() {
    let mut plant = Plant::new(60, 8);
    plant.weights(|i| [0.6, 0.8, 1.0, 1.2, 1.5][i % 5]);
    plant.run(1800.0, 2.0, |t| 6000.0 + 3000.0 * (t / 600.0).sin());
    trace("uneven", &plant);
    assert!(plant.late_share() < 0.01, "{}", plant.late_share());
}

#[test]
fn rollout_adds_no_workers() {
    let mut plant = Plant::new(12, 6);
    (plant.mu, plant.settings.min_replicas, plant.handover) = (450.0, 6, 1.5);
    plant.run(60.0, 2.0, |_| 1500.0);
    plant.changes.clear();
    plant.template = "b";
    for _ in 0..6 {
        plant.replace_one();
        plant.run(3.0, 2.0, |_| 1500.0);
    }
    plant.run(30.0, 2.0, |_| 1500.0);
    assert!(plant.changes.is_empty(), "{:?}", plant.changes);
    // A rollout that does not end must not block scaling for ever, and growth is answered during it.
    plant.template = "c";
    plant.replace_one();
    plant.run(20.0, 2.0, |_| 1500.0);
    assert_eq!(plant.last.as_ref().unwrap().reason, Reason::InFlight, "{:?}", plant.last);
    plant.run(30.0, 2.0, |_| 4000.0);
    assert!(plant.desired > 8, "{}", plant.desired);
}

#[test]
fn rollout_with_unknown_capacity_adds_no_workers() {
    let answer = |earlier: u32, ready: u32| {
        let (mut memory, settings) = (Memory::default(), super::plant::settings());
        let mut last = None;
        // 1500 records per second arrive and none is processed, so the oldest is 6 s old at the end.
        for tick in 0..4_i64 {
            let at = 1.764e9 + 2.0 * tick as f64;
            let partition = Partition {
                id: "orders/0".into(),
                end: Some(10_000 + 3000 * tick),
                committed: Some(10_000),
                position: Some(10_000),
                ..Partition::default()
            };
            let observation = Observation {
                at: Seconds(at),
                replicas: Replicas {
                    desired: Some(6),
                    existing: Some(6),
                    ready: Some(if tick < 2 { earlier } else { ready }),
                },
                partitions: (0..12).map(|p| Partition { id: format!("orders/{p}"), ..partition.clone() }).collect(),
                ..Observation::default()
            };
            last = Some(super::decide(&mut memory, &observation, &settings));
        }
        last.unwrap()
    };
    assert_eq!(answer(6, 6).action, Action::Up, "all workers are there: {}", answer(6, 6).message);
    assert_eq!(answer(5, 5).action, Action::Hold, "one is being replaced: {}", answer(5, 5).message);
    assert_eq!(answer(0, 6).action, Action::Hold, "they have only just come: {}", answer(0, 6).message);
}
