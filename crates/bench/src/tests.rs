//! Tests of the search, of feasibility, goals and tables, with made-up results.
#![allow(clippy::float_cmp)]

use super::needs::{CellView, Search};
use super::text::{Round, percent, ratio};
use super::*;
use sluice_simulate::{Change, Load, Point, Run, Scores};

/// Returns a plan with one group of traces of an hour, with `keda` tuned and two seeds.
fn plan(traces: usize) -> Plan {
    let trace = |index| Trace::new(&format!("trace {index}"), Kind::Real, Load::constant(100.0, 3600));
    let mut plan = Plan::full((0..traces).map(trace).collect(), 2);
    plan.groups.truncate(1);
    let group = &mut plan.groups[0];
    (group.latencies, group.tuned, group.defaults) = (vec![10], vec!["keda"], Vec::new());
    plan.faults = false;
    plan
}

fn run_of(results: &mut Results, trace: usize, who: Who, seed: u64, late: f64, cost: f64) {
    let outcome = Outcome { latency: 10, late, good_hours: 1.0, worker_seconds: cost, rescales: 3, reversals: 0 };
    results.insert(Job::Run(Key { group: 0, trace, who, seed }), Answer::Run(vec![outcome]));
}

fn peer(name: &str) -> Who {
    Who::Peer(name.to_owned())
}

/// Computes whatever is needed: `of` gives the share of late records and the cost for each rule and seed.
fn complete(plan: &Plan, results: &mut Results, of: impl Fn(usize, &Who, u64) -> (f64, f64)) {
    for _ in 0..100 {
        let jobs = needed(plan, results);
        if jobs.is_empty() {
            return;
        }
        for job in jobs {
            match job {
                Job::Run(Key { trace, who, seed, .. }) => {
                    let (late, cost) = of(trace, &who, seed);
                    run_of(results, trace, who, seed, late, cost);
                }
                job => results.insert(job, Answer::Bound(1000.0)),
            }
        }
    }
    panic!("it never stops asking");
}

#[test]
fn setting_that_misses_with_another_seed_is_dropped() {
    let plan = plan(1);
    let mut results = Results::default();
    let search = |results: &Results| CellView { plan: &plan, results, group: 0, trace: 0, latency: 10 }.tuned("keda");
    let Search::Needs(first) = search(&results) else { panic!("nothing was run yet") };
    assert_eq!(first.len(), 8, "every setting with the first seed: {first:?}");
    for key in first {
        // The longer the threshold the cheaper, and from 5 s on too late.
        let name = key.who.name();
        let seconds: f64 = name.trim_start_matches("keda-").trim_end_matches('s').parse().unwrap();
        run_of(&mut results, 0, key.who, 1, if seconds >= 5.0 { 0.02 } else { 0.01 }, 1000.0 / seconds);
    }
    let key = |name: &str| Key { group: 0, trace: 0, who: peer(name), seed: 2 };
    assert_eq!(search(&results), Search::Needs(vec![key("keda-3s")]), "the cheapest alone");
    run_of(&mut results, 0, peer("keda-3s"), 2, 0.0101, 300.0);
    assert_eq!(search(&results), Search::Needs(vec![key("keda-2s")]));
    run_of(&mut results, 0, peer("keda-2s"), 2, 0.01, 500.0);
    assert_eq!(search(&results), Search::Found(peer("keda-2s")));
}

#[test]
fn fewest_fixed_workers_are_found_with_every_seed() {
    let plan = plan(1);
    let mut results = Results::default();
    complete(&plan, &mut results, |_, who, seed| match who {
        // One worker more is needed with the second seed.
        Who::Fixed(workers) => (if u64::from(*workers) >= 6 + seed { 0.0 } else { 0.5 }, f64::from(*workers) * 100.0),
        _ => (0.5, 1000.0),
    });
    let cell = cell(&plan, &results, 0, 0, 10).unwrap();
    assert_eq!(cell.fixed.map(|fixed| fixed.who), Some(Who::Fixed(8)));
    assert_eq!(cell.feasible, Feasible::Fixed);
}

#[test]
fn feasible_means_a_peer_at_twice_the_bound() {
    for (late, cost, fixed, expected) in [
        (0.01, 2000.0, 1.0, Feasible::Yes),
        (0.01, 2000.1, 1.0, Feasible::No),
        (0.0101, 1500.0, 1.0, Feasible::No),
        (0.0101, 1500.0, 0.0, Feasible::Fixed),
    ] {
        let plan = plan(1);
        let mut results = Results::default();
        complete(&plan, &mut results, |_, who, _| match who {
            Who::Fixed(_) => (fixed, 1900.0),
            Who::Peer(name) if name == "keda-1s" => (late, cost),
            // That Sluice meets it cheaply must not make it feasible.
            Who::Sluice(_) => (0.0, 1100.0),
            Who::Peer(_) => (0.5, 100.0),
        });
        let cell = cell(&plan, &results, 0, 0, 10).unwrap();
        assert_eq!(cell.feasible, expected, "{late} {cost} {fixed}");
    }
}

/// Returns three cells in which a peer meets the objective at 1300, with these late shares and costs of Sluice.
fn judged(sluice: [(f64, f64); 3]) -> (Plan, Vec<Cell>, Vec<Goal>) {
    let plan = plan(3);
    let mut results = Results::default();
    complete(&plan, &mut results, |trace, who, _| match who {
        Who::Sluice(_) => sluice[trace],
        Who::Peer(_) => (0.005, 1300.0),
        Who::Fixed(_) => (0.0, 4000.0),
    });
    let cells = cells(&plan, &results);
    let goals = goals(&plan, &results, &cells);
    (plan, cells, goals)
}

fn goal<'a>(goals: &'a [Goal], text: &str) -> &'a Goal {
    goals.iter().find(|goal| goal.text.starts_with(text)).unwrap()
}

#[test]
fn goals_are_judged_cell_by_cell() {
    let (_, _, goals) = judged([(0.0, 1100.0), (0.0005, 1200.0), (0.001, 1250.0)]);
    for goal in goals.iter().filter(|goal| !goal.text.contains("weights")) {
        assert!(goal.met, "{goal:?}");
    }
    assert_eq!(goal(&goals, "Cost at most 1.30").found, "1.20");
    assert_eq!(goal(&goals, "Cheaper").found, "3 of 3 (100 %), 0 more within 2 %");

    // One tie, one that is late: neither is cheaper, and the late one is infinitely expensive and in the median.
    let (_, _, goals) = judged([(0.0, 1290.0), (0.0, 1400.0), (0.02, 1000.0)]);
    assert!(goals.iter().is_sorted_by_key(|goal| goal.met), "missed ones first: {goals:?}");
    let objective = goal(&goals, "The objective");
    assert_eq!((objective.found.as_str(), objective.met), ("2 of 3", false));
    assert_eq!(objective.missed, ["handoff trace 2 10 s: 2.0 % late"]);
    assert_eq!(goal(&goals, "Cost at most 1.30").found, "1.40");
    assert_eq!(goal(&goals, "Cheaper").found, "0 of 3 (0 %), 1 more within 2 %");
    assert_eq!(goal(&goals, "At most 0.1 %").found, "2 of 3 (66 %)");
    let expensive = goal(&goals, "Nowhere");
    assert_eq!((expensive.found.as_str(), expensive.missed.len()), ("at most 1.08 x", 1));
}

#[test]
fn misses_come_last_and_show_no_cost() {
    let (plan, mut cells, _) = judged([(0.02, 1000.0), (0.0, 1400.0), (0.0, 1290.0)]);
    cells[1].tuned[0].met = false;
    let text = group_table(&plan, &cells, 0, 10);
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words} is not in\n{text}"));
    assert!(place("trace 1") < place("Sluice misses") && place("trace 2") < place("Sluice misses"), "{text}");
    assert!(place("Sluice misses") < place("trace 0"), "{text}");
    assert!(text.lines().any(|line| line.contains("trace 1") && line.contains("missed: 0.50 % ")), "{text}");
    // Rule by rule, the one that meets more stands first.
    let text = peers_table(&plan, &cells, 0);
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words} is not in\n{text}"));
    assert!(place("fixed, tuned") < place("**Sluice**"), "{text}");
}

#[test]
fn figures_are_rounded_against_sluice() {
    for (share, up, down) in [
        (0.0, "0", "0"),
        (0.000_000_1, "0.001 %", "0.000 %"),
        (0.01, "1.0 %", "1.0 %"),
        (0.010_000_1, "1.1 %", "1.0 %"),
        (0.530_01, "54 %", "53 %"),
        (f64::NAN, "?", "?"),
    ] {
        assert_eq!((percent(share, Round::Up).as_str(), percent(share, Round::Down).as_str()), (up, down), "{share}");
    }
    for (value, up, down) in
        [(1.3, "1.30", "1.30"), (1.300_01, "1.31", "1.30"), (12.34, "12.4", "12.3"), (f64::INFINITY, "∞", "∞")]
    {
        assert_eq!((ratio(value, Round::Up).as_str(), ratio(value, Round::Down).as_str()), (up, down), "{value}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_tables() {
    let load = |rate: f64| Load::from_points(&[(0.0, rate), (60.0, 2.0 * rate), (120.0, rate)]);
    let trace = |name, rate| Trace { name: String::from(name), kind: Kind::Real, load: load(rate) };
    let mut plan = Plan::full(vec![trace("a", 2000.0), trace("b", 3000.0)], 2);
    plan.groups.truncate(2);
    for group in &mut plan.groups {
        (group.tuned, group.latencies, group.defaults) = (vec!["keda"], vec![10], vec!["hpa-70"]);
    }
    plan.faults = false;
    let report = |threads| {
        let mut results = Results::default();
        loop {
            let jobs = needed(&plan, &results);
            if jobs.is_empty() {
                break;
            }
            for (job, answer) in jobs.iter().zip(side_by_side(&jobs, threads, |job| answer(&plan, job))) {
                results.insert(job.clone(), answer);
            }
        }
        let cells = cells(&plan, &results);
        assert_eq!(cells.len(), 4);
        summary(&plan, &results, &cells, &goals(&plan, &results, &cells))
    };
    assert_eq!(report(1), report(3));
}

#[test]
fn answers_keep_the_order_of_the_work() {
    let work: Vec<u64> = (0..1000).collect();
    // The first ones take longest.
    let of = |item: &u64| (0..(1000 - item) * 100).fold(*item, |sum, n| std::hint::black_box(sum ^ n ^ n));
    assert_eq!(side_by_side(&work, 4, of), work);
    assert_eq!(side_by_side(&[] as &[u64], 4, of), [] as [u64; 0]);
}

#[test]
fn change_that_happens_without_the_fault_is_not_wrong() {
    // 5 workers, and from 1000 s on 8.
    let points = (0..2000).map(|t| Point { desired: if t < 1000 { 5 } else { 8 }, ..Point::default() }).collect();
    let without = Run { rule: String::new(), points, changes: Vec::new(), scores: Scores::default() };
    for (at, from, to, wrong) in [
        (500.0, 5, 4, true),
        (500.0, 5, 6, true),
        (500.0, 4, 5, false),
        (800.0, 5, 8, false),
        (800.0, 5, 9, true),
        (1200.0, 8, 5, false),
        (1400.0, 8, 7, true),
        (1400.0, 12, 7, false),
    ] {
        let change = Change { at, from, to };
        assert_eq!(faults::wrong_way(&change, &without), wrong, "{change:?}");
    }
}

#[test]
fn groups_that_are_alike_share_bounds_and_fixed_runs() {
    let plan = Plan::full(vec![Trace::new("a", Kind::Real, Load::constant(1.0, 60))], 1);
    let place = |id: &str| plan.groups.iter().position(|group| group.id == id).unwrap();
    for (id, fixed, bounded) in [
        ("restart", "handoff", "handoff"),
        ("even", "even", "handoff"),
        ("fast", "handoff", "fast"),
        ("slow", "handoff", "slow"),
        ("crash-7", "crash-7", "handoff"),
        ("crash-41", "crash-41", "handoff"),
        ("restart-60", "handoff", "handoff"),
    ] {
        assert_eq!(plan.as_if_fixed(place(id)), place(fixed), "{id}");
        assert_eq!(plan.as_bounded(place(id), false), place(bounded), "{id}");
    }
    assert_eq!(plan.as_bounded(place("even"), true), place("even"));
}
