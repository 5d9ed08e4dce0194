//! Load, lateness, moves and scores.

use super::super::{Faults, Fixed, Sluice, run_judged};
use super::*;

#[test]
fn same_seed_gives_the_same_run() {
    let load = Load::from_points(&[(0.0, 2000.0), (300.0, 9000.0), (900.0, 3000.0)]);
    let go = |seed| {
        let mut scenario = Scenario { seed, ..Scenario::default() };
        scenario.faults.kill_every = Some(250.0);
        scenario.faults.dropped = 0.01;
        let mut rule = Sluice::for_scenario(&scenario);
        run(&load, &scenario, &mut rule)
    };
    let (first, again, other) = (go(7), go(7), go(8));
    assert_eq!(first.points, again.points);
    assert_eq!(first.changes, again.changes);
    assert_eq!(first.scores, again.scores);
    assert_ne!(first.points, other.points);
}

#[test]
fn load_is_interpolated_scaled_and_cut() {
    let load = Load::from_points(&[(60.0, 0.0), (70.0, 100.0), (80.0, 100.0)]);
    assert_eq!(load.seconds(), 30);
    assert_eq!(load.rates()[..4], [0.0, 10.0, 20.0, 30.0]);
    assert_eq!(load.rates()[29], 100.0);
    let scaled = load.scale_to_p999(16_000.0).cut(11);
    assert_eq!(scaled.seconds(), 11);
    assert_eq!(scaled.rates()[10], 16_000.0);
    assert_eq!(Load::from_points(&[]).seconds(), 0);
}

#[test]
fn enough_workers_are_never_late() {
    let run = run(&Load::constant(4000.0, 600), &plain(), &mut Fixed(4));
    assert_eq!(run.scores.late, 0.0);
    assert_eq!((run.scores.max, run.scores.late_seconds, run.scores.good_hours), (0.0, 0.0, 1.0));
    assert_close(run.scores.worker_seconds, 2400.0, "worker-seconds");
}

#[test]
fn late_share_of_too_few_workers_matches_arithmetic() {
    let run = run(&Load::constant(4000.0, 1000), &plain(), &mut Fixed(2));
    // Arrivals of second s are due at the end of second s + 10, when 2000 (s + 11) are done: those of the first ten
    // seconds and half of the eleventh's are in time.
    assert_close(late_records(&run), 4000.0 * 1000.0 - 42_000.0, "late");
    // The last record arrives in second 999 and is done in second 1999.
    assert_eq!(run.scores.max, 1000.0);
    assert_eq!(run.scores.drain, 1000);
    assert_close(run.scores.p50, 500.0, "median");
    // A record of second s is done in second 2 s or 2 s + 1, in equal parts: 121 of 2000 halves of seconds within a
    // minute.
    assert_close(run.scores.over_a_minute, 1.0 - 121.0 / 2000.0, "over a minute");
    assert_close(run.scores.worker_seconds, 4000.0, "worker-seconds");
    assert_eq!(run.scores.good_hours, 0.0);
}

#[test]
fn never_processed_records_are_late() {
    // One worker cannot drain this in two hours.
    let scenario = Scenario { capacity: 100.0, ..plain() };
    let run = run(&Load::constant(4000.0, 1000), &scenario, &mut Fixed(1));
    let done: f64 = run.points.iter().map(|p| f64::from(p.done)).sum();
    assert_close(done, 820_000.0, "done");
    // 400 (s + 1) > 10 (s + 11) but for the very first second, of which 1100 records are in time.
    assert_close(late_records(&run), 4_000_000.0 - 1100.0, "late");
    assert_eq!(run.scores.max, 8199.0 - 204.0);
}

#[test]
fn records_are_neither_lost_nor_made() {
    let mut scenario = Scenario { noise: Noise::Poisson, hot_share: Some(0.03), ..Scenario::default() };
    scenario.faults.kill_every = Some(130.0);
    let script = Script::new(5, &[(100.0, 8), (300.0, 3), (400.0, 12), (500.0, 6)]);
    let (run, script) = scripted(&scenario, 700, script);
    let mut left = 0.0;
    for point in &run.points {
        left += f64::from(point.arrived) - f64::from(point.done);
        assert!((left - f64::from(point.backlog)).abs() < 1.0, "{left} {point:?}");
    }
    assert!(run.scores.rescales == 4 && run.scores.reversals == 3, "{:?}", run.scores);
    let ends: i64 = script.at(600).partitions.iter().filter_map(|p| p.end).sum();
    let arrived: f64 = run.points.iter().take(600).map(|p| f64::from(p.arrived)).sum();
    assert!((ends as f64 - arrived).abs() <= 121.0, "{ends} {arrived}");
}

#[test]
fn only_moved_partitions_stop() {
    // 24 of 120 partitions move to the fifth worker, and from it. Each move makes the arrivals of 15 - 10 s late.
    let (run, script) = scripted(&fast(Handover::Handoff(15.0)), 400, Script::new(4, &[(100.0, 5), (200.0, 4)]));
    assert_close(late_records(&run), 2.0 * 5.0 * 4000.0 * 24.0 / 120.0, "late");
    assert_eq!((run.scores.max, run.scores.moves), (15.0, 48));
    // Billed from its creation to 5 s after its removal.
    assert_close(run.scores.worker_seconds, 1600.0 + 100.0 + 5.0, "worker-seconds");
    let owners = |second| script.at(second).partitions.iter().map(|p| p.owner.clone()).collect::<Vec<_>>();
    let moved = |a, b| owners(a).iter().zip(owners(b)).filter(|(a, b)| **a != *b).count();
    // Created at 100 s, it is ready at 120 s.
    assert_eq!(moved(120, 121), 24);
    assert_eq!((moved(1, 120), moved(121, 200), moved(200, 201)), (0, 0, 24));
    assert_eq!(script.at(130).groups[0].state.as_deref(), Some("Stable"));
    let leaving = &script.at(203).workers[4];
    assert_eq!((leaving.terminating, leaving.ready), (Some(true), Some(false)));
    assert_eq!(script.at(207).workers.len(), 4);
}

#[test]
fn restart_mode_stops_every_partition() {
    let (run, script) = scripted(&fast(Handover::Restart(15.0)), 300, Script::new(4, &[(100.0, 5)]));
    assert_close(late_records(&run), 5.0 * 4000.0, "late");
    let state = |second: usize| script.at(second).groups[0].state.clone().unwrap_or_default();
    assert_eq!((state(120), state(130), state(136)), ("Stable".into(), "PreparingRebalance".into(), "Stable".into()));
}

#[test]
fn hot_worker_leaves_the_others_idle() {
    // One partition has a fifth of the records, one worker can do a quarter of them: it keeps up. With a third it
    // cannot.
    let scenario = |share| Scenario { hot_share: Some(share), partitions: 4, capacity: 1200.0, ..plain() };
    let run = |share| run(&Load::constant(4000.0, 1000), &scenario(share), &mut Fixed(4));
    assert_eq!(run(0.29).scores.late, 0.0);
    let hot = run(1.0 / 3.0);
    // It falls back by 1333 - 1200 per second; from 90 s on every record of it is late.
    assert!((hot.scores.late - 0.9 / 3.0).abs() < 0.01, "{}", hot.scores.late);
}

#[test]
fn contention_reduces_capacity() {
    let scenario = Scenario { contention: 0.25, ..plain() };
    let run = run(&Load::constant(4000.0, 500), &scenario, &mut Fixed(5));
    let done: f64 = run.points.iter().take(500).map(|p| f64::from(p.done)).sum();
    assert_close(done, 500.0 * 2500.0, "done: five of which each does half");
}

#[test]
fn view_shows_offsets_commits_deadlines_and_counters() {
    let (_, script) = scripted(&plain(), 60, Script::new(2, &[]));
    let (before, now) = (script.at(49), script.at(50));
    let partition = &now.partitions[7];
    assert_eq!(partition.end, Some(4000 * 50 / 120));
    assert_eq!(partition.position, Some(2000 * 50 / 120));
    assert_eq!(partition.due_end, Some(4000 * 40 / 120));
    let committed: Vec<i64> = script.seen.iter().take(60).filter_map(|o| o.partitions[7].committed).collect();
    let commits = committed.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert!(commits == 12 && committed.iter().all(|c| *c <= 1000), "{commits}");
    let (then, worker) = (&before.workers[0], &now.workers[0]);
    let grown = |of: fn(&sluice_policy::Worker) -> Option<f64>| of(worker).unwrap_or(0.0) - of(then).unwrap_or(0.0);
    assert_close(grown(|w| w.processed), 1000.0, "processed");
    assert_close(grown(|w| w.busy_seconds), 1.0, "busy");
    assert_close(grown(|w| w.cpu_seconds), 1.0, "cpu");
    // What is done now arrived 25 s ago.
    assert_close(grown(|w| w.in_time), 0.0, "in time");
    let hidden = Scenario { position: false, ..plain() };
    assert_eq!(scripted(&hidden, 60, Script::new(2, &[])).1.at(50).partitions[7].position, None);
}

#[test]
fn other_objectives_judge_a_run_as_their_own() {
    let faults = Faults { kill_every: Some(300.0), ..Faults::default() };
    // Workers that keep up but for the kills, and ones that never catch up.
    for workers in [7, 5] {
        let scenario = |latency| Scenario { latency, faults: faults.clone(), ..Scenario::default() };
        let load = Load::constant(6000.0, 5000);
        let (_, verdicts) = run_judged(&load, &scenario(10.0), &mut Fixed(workers), &[2.0, 10.0, 60.0]);
        for (latency, verdict) in [2.0, 10.0, 60.0].into_iter().zip(verdicts) {
            let own = run(&load, &scenario(latency), &mut Fixed(workers)).scores;
            assert!(own.late > 0.0 || latency > 10.0, "{workers} {latency}: nothing late to judge");
            assert_close(verdict.late, own.late, "late");
            assert_close(verdict.good_hours, own.good_hours, "good hours");
        }
    }
}
