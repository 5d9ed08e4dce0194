//! Each fault has its effect, and no other.

use super::super::{During, Faults, Once};
use super::*;

fn with(scenario: &Scenario, faults: Faults) -> Scenario {
    Scenario { faults, ..scenario.clone() }
}

/// Runs four workers, half busy, for a number of seconds.
fn calm(faults: Faults, seconds: usize) -> (Run, Script) {
    scripted(&with(&Scenario { capacity: 2000.0, ..plain() }, faults), seconds, Script::new(4, &[]))
}

fn processed(observation: &Observation) -> f64 {
    observation.workers.iter().filter_map(|w| w.processed).sum()
}

fn position(observation: &Observation, partition: usize) -> i64 {
    observation.partitions[partition].position.unwrap_or(-1)
}

#[test]
fn partitions_of_a_dead_worker_stop_until_noticed() {
    let faults = Faults { kill_every: Some(100.0), ..Faults::default() };
    let scenario =
        Scenario { crash_handover: 15.0, commit_every: 40.0, start_up: 40.0, ..fast(Handover::Handoff(5.0)) };
    let (run, script) = scripted(&with(&scenario, faults), 190, Script::new(4, &[]));
    // A quarter of the partitions stops for 15 s. Uncommitted records are processed again, and are not late.
    assert_close(late_records(&run), 5.0 * 1000.0, "late");
    let alive = |second: usize| script.at(second).replicas.ready;
    assert_eq!((alive(100), alive(101), alive(140), alive(141)), (Some(4), Some(3), Some(3), Some(4)));
    // A new pod replaces it at once.
    assert!(script.seen.iter().all(|o| o.replicas.existing == Some(4)));
    let dead: Vec<_> =
        script.at(100).workers.iter().filter(|w| script.at(101).workers.iter().all(|v| v.id != w.id)).collect();
    assert_eq!(dead.len(), 1);
    // The group continues to name it.
    let named =
        |second: usize| script.at(second).partitions.iter().filter(|p| p.owner.as_ref() == Some(&dead[0].id)).count();
    assert_eq!((named(100), named(114), named(116)), (30, 30, 0));
    let again: f64 = script.at(189).partitions.iter().map(|p| p.position.unwrap_or(0) as f64).sum();
    let lost = dead[0].processed.unwrap_or(0.0);
    assert!(processed(script.at(189)) + lost > again + 900.0, "a second's records at least are done twice");
}

#[test]
fn lost_node_takes_its_share_of_the_workers() {
    let faults = Faults { node_loss: Some(Once { at: 50.0, value: 0.25 }), ..Faults::default() };
    let (_, script) = scripted(&with(&plain(), faults), 100, Script::new(8, &[]));
    let ready: Vec<_> = [50, 51, 69, 71].iter().map(|second| script.at(*second).replicas.ready).collect();
    assert_eq!(ready, [Some(8), Some(6), Some(6), Some(8)]);
}

#[test]
fn stale_samples_keep_their_time() {
    let faults = Faults { staleness: 15.0, ..Faults::default() };
    let (_, script) = calm(faults, 60);
    let at = |second: usize| {
        let seen = script.at(second);
        let times = seen.partitions.iter().map(|p| p.at).chain(seen.workers.iter().map(|w| w.at));
        times.map(|at| at.map(|at| at.0 - super::super::view::BEGIN)).collect::<Vec<_>>()
    };
    assert!(at(15).iter().all(|t| *t == Some(1.0)) && at(16).iter().all(|t| *t == Some(16.0)));
    assert_eq!(position(script.at(2), 0), position(script.at(15), 0));
    assert!(position(script.at(16), 0) > position(script.at(15), 0));
}

#[test]
fn dropped_samples_have_the_stated_share() {
    let (_, script) = calm(Faults { dropped: 0.2, ..Faults::default() }, 1000);
    let kept = script.seen.iter().filter(|o| o.partitions[3].at < Some(o.at)).count();
    assert!((150..250).contains(&kept), "{kept}");
}

#[test]
fn silent_source_shows_no_or_fewer_partitions() {
    let faults = Faults {
        outage: Some(During::new(20.0, 30.0, ())),
        partial: Some(During::new(40.0, 50.0, 0.5)),
        ..Faults::default()
    };
    let (_, script) = calm(faults, 60);
    let seen = |second: usize| script.at(second).partitions.len();
    assert_eq!((seen(19), seen(20), seen(29), seen(30)), (120, 0, 0, 120));
    assert!((30..90).contains(&seen(45)) && seen(50) == 120, "{}", seen(45));
    let mut ids: Vec<_> = script.at(55).partitions.iter().map(|p| &p.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 120);
    assert!(script.at(55).partitions.iter().all(|p| p.end == Some(4000 * 55 / 120)));
}

#[test]
fn counters_can_be_missing_or_stand_still() {
    let faults = Faults {
        workers_missing: Some(During::new(20.0, 30.0, ())),
        workers_frozen: Some(During::new(40.0, 50.0, ())),
        ..Faults::default()
    };
    let (_, script) = calm(faults, 60);
    let missing = script.at(25);
    assert!(missing.workers.iter().all(|w| w.processed.is_none() && w.at.is_none() && w.ready == Some(true)));
    assert_eq!(processed(script.at(41)), processed(script.at(49)));
    assert!(script.at(49).workers.iter().all(|w| w.at == Some(script.at(49).at)));
    assert!(position(script.at(49), 0) > position(script.at(41), 0), "they work");
    let again = processed(script.at(50));
    assert!((again - 4000.0 * 50.0).abs() <= 4.0, "{again}: all that was done, once they move again");
}

#[test]
fn bottleneck_limits_all_workers_and_keeps_them_busy() {
    let faults = Faults { bottleneck: Some(During::new(20.0, 60.0, 1000.0)), ..Faults::default() };
    let (run, script) = calm(faults, 80);
    assert!(run.points[20..60].iter().all(|p| (p.done - 1000.0).abs() < 0.1), "{:?}", run.points[30]);
    let (a, b) = (&script.at(30).workers[1], &script.at(40).workers[1]);
    assert_close(b.busy_seconds.unwrap_or(0.0) - a.busy_seconds.unwrap_or(0.0), 10.0, "busy");
    assert_close(b.cpu_seconds.unwrap_or(0.0) - a.cpu_seconds.unwrap_or(0.0), 1.25, "CPU");
}

#[test]
fn stuck_partition_stops_alone() {
    let faults = Faults { stuck: Some(During::new(20.0, 60.0, 5)), ..Faults::default() };
    let (run, script) = calm(faults, 100);
    assert_eq!(position(script.at(20), 5), position(script.at(60), 5));
    assert_eq!(position(script.at(60), 4), 4000 * 60 / 120);
    assert_close(late_records(&run), 30.0 * 4000.0 / 120.0, "late");
}

#[test]
fn pods_crash_or_find_no_node_or_no_quota() {
    let crash = Faults { crash_loop: Some(During::new(20.0, 100.0, 2)), ..Faults::default() };
    let (_, script) = calm(crash, 140);
    let counts = |second: usize| (script.at(second).limits.crash_looping, script.at(second).replicas.ready);
    assert_eq!((counts(20), counts(50), counts(99)), ((Some(0), Some(4)), (Some(2), Some(2)), (Some(2), Some(2))));
    assert_eq!((counts(110), counts(125)), ((Some(0), Some(2)), (Some(0), Some(4))));

    let nodes = Faults { unschedulable: Some(During::new(20.0, 100.0, 5)), ..Faults::default() };
    let (run, script) = scripted(&with(&plain(), nodes), 140, Script::new(4, &[(30.0, 8)]));
    let counts = |second: usize| (script.at(second).limits.unschedulable, script.at(second).replicas.ready);
    assert_eq!((counts(29), counts(60), counts(130)), ((Some(0), Some(4)), (Some(3), Some(5)), (Some(0), Some(8))));
    assert_eq!((run.points[60].billed, run.points[110].billed), (5, 8));

    let quota = Faults { quota: Some(During::new(20.0, 100.0, 5)), ..Faults::default() };
    let (_, script) = scripted(&with(&plain(), quota), 140, Script::new(4, &[(30.0, 8)]));
    let counts = |second: usize| (script.at(second).limits.granted, script.at(second).replicas.existing);
    assert_eq!((counts(19), counts(60), counts(130)), ((None, Some(4)), (Some(5), Some(5)), (None, Some(8))));
}

#[test]
fn slow_workers_have_their_speed() {
    let faults = Faults { slow: Some(During::new(20.0, 60.0, (1, 0.3))), ..Faults::default() };
    let (run, script) = calm(faults, 100);
    assert_close(f64::from(run.points[30].done), 3000.0 + 600.0, "done");
    assert!(script.at(50).workers[0].busy_seconds > script.at(50).workers[1].busy_seconds);
}

#[test]
fn rollout_replaces_the_pods_one_by_one() {
    let faults = Faults { deploy: Some(Once { at: 20.0, value: 0.5 }), ..Faults::default() };
    let (_, script) = calm(faults, 300);
    let versions = |second: usize| {
        let of = |template: &str| {
            let alive = script.at(second).workers.iter().filter(|w| w.terminating == Some(false));
            alive.filter(|w| w.template.as_deref() == Some(template)).count()
        };
        (of("a"), of("b"))
    };
    assert_eq!((versions(20), versions(30), versions(50), versions(200)), ((4, 0), (4, 1), (3, 2), (0, 4)));
    let rate = |second: usize, worker: usize| {
        let of = |second: usize| script.at(second).workers[worker].clone();
        let (a, b) = (of(second), of(second + 1));
        (b.processed.unwrap_or(0.0) - a.processed.unwrap_or(0.0))
            / (b.busy_seconds.unwrap_or(0.0) - a.busy_seconds.unwrap_or(0.0))
    };
    assert!((rate(10, 0) - 2000.0).abs() < 10.0 && (rate(250, 0) - 1000.0).abs() < 10.0, "{}", rate(250, 0));
}

#[test]
fn rule_is_restarted_once() {
    let (_, script) = calm(Faults { restart_at: Some(30.0), ..Faults::default() }, 60);
    assert_eq!(script.restarts, 1);
}
