//! Scenarios in which a signal fails or more workers do not help, and what a rule should not do in them.
//!
//! A change goes the wrong way if it moves away from every replica count that the same rule, with the same seed and
//! load but without the fault, has within five minutes of it.

use super::jobs::Job;
use super::plan::Plan;
use sluice_simulate::peers::{self, Limits, Parameters};
use sluice_simulate::{Change, During, Faults, Load, Rule, Run, Scenario, Sluice, run};

/// Length of a load, seconds; the fault begins at [`BEGIN`].
const LENGTH: usize = 7200;
const BEGIN: f64 = 3000.0;
/// End of the bottleneck, seconds.
const END: f64 = 6600.0;
/// Time for which the effects of a fault may last after its end, seconds.
const AFTER: f64 = 120.0;
/// Time by which a change of the run without the fault may be earlier or later, seconds.
const SLACK: f64 = 300.0;

/// Rules that are shown beside Sluice.
const RULES: [&str; 3] = ["sluice", "hpa-70", "keda-1s"];

/// A scenario of faults.
#[derive(Debug, Clone, Copy)]
pub struct FaultCase {
    /// Name: what fails, and how the load changes.
    pub name: &'static str,
    faults: fn() -> Faults,
    /// Load at the beginning and at the end, records per second.
    load: (f64, f64),
    until: f64,
    /// Whether every scale-up is wasted; otherwise changes the wrong way are counted.
    pub bottleneck: bool,
}

/// Changes that a rule should not have made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCount {
    /// Changes that went the wrong way or were wasted.
    pub bad: u32,
    /// Changes among these that removed workers.
    pub down: u32,
}

const fn case(name: &'static str, load: (f64, f64), until: f64, faults: fn() -> Faults) -> FaultCase {
    FaultCase { name, faults, load, until, bottleneck: false }
}

const RISING: (f64, f64) = (4000.0, 12_000.0);
const LEVEL: (f64, f64) = (8000.0, 8000.0);
const FALLING: (f64, f64) = (12_000.0, 4000.0);

#[allow(clippy::unnecessary_wraps, reason = "the fields of `Faults` are options")]
fn during<T: Copy>(until: f64, value: T) -> Option<During<T>> {
    Some(During::new(BEGIN, until, value))
}

/// All scenarios of faults.
pub const FAULTS: [FaultCase; 14] = [
    case("source silent 2 min, load rising", RISING, BEGIN + 120.0, || Faults {
        outage: during(BEGIN + 120.0, ()),
        ..Faults::default()
    }),
    case("source silent 10 min, load rising", RISING, BEGIN + 600.0, || Faults {
        outage: during(BEGIN + 600.0, ()),
        ..Faults::default()
    }),
    case("source silent 10 min, load level", LEVEL, BEGIN + 600.0, || Faults {
        outage: during(BEGIN + 600.0, ()),
        ..Faults::default()
    }),
    case("source silent 10 min, load falling", FALLING, BEGIN + 600.0, || Faults {
        outage: during(BEGIN + 600.0, ()),
        ..Faults::default()
    }),
    case("half of the partitions missing 10 min, load rising", RISING, BEGIN + 600.0, || Faults {
        partial: during(BEGIN + 600.0, 0.5),
        ..Faults::default()
    }),
    case("half of the partitions missing 10 min, load level", LEVEL, BEGIN + 600.0, || Faults {
        partial: during(BEGIN + 600.0, 0.5),
        ..Faults::default()
    }),
    case("counters missing 10 min, load rising", RISING, BEGIN + 600.0, || Faults {
        workers_missing: during(BEGIN + 600.0, ()),
        ..Faults::default()
    }),
    case("counters missing 10 min, load level", LEVEL, BEGIN + 600.0, || Faults {
        workers_missing: during(BEGIN + 600.0, ()),
        ..Faults::default()
    }),
    case("counters stand still 10 min, load rising", RISING, BEGIN + 600.0, || Faults {
        workers_frozen: during(BEGIN + 600.0, ()),
        ..Faults::default()
    }),
    case("counters stand still 10 min, load level", LEVEL, BEGIN + 600.0, || Faults {
        workers_frozen: during(BEGIN + 600.0, ()),
        ..Faults::default()
    }),
    case("samples 60 s old, load rising", RISING, END, || Faults { staleness: 60.0, ..Faults::default() }),
    case("samples 60 s old, load level", LEVEL, END, || Faults { staleness: 60.0, ..Faults::default() }),
    case("a fifth of the samples lost, load level", LEVEL, END, || Faults { dropped: 0.2, ..Faults::default() }),
    FaultCase {
        name: "a database behind the workers does three quarters of the load for an hour",
        faults: || Faults { bottleneck: during(END, 6000.0), ..Faults::default() },
        load: LEVEL,
        until: END,
        bottleneck: true,
    },
];

/// Returns every scenario with every seed for each rule that is shown.
pub(crate) fn jobs(plan: &Plan) -> impl Iterator<Item = Job> {
    (0..FAULTS.len()).flat_map(move |case| {
        let seeds = plan.seeds.iter().copied();
        seeds.flat_map(move |seed| RULES.map(|rule| Job::Fault { case, rule: rule.to_owned(), seed }))
    })
}

/// Returns the names of the rules that are shown.
pub(crate) fn rules() -> impl Iterator<Item = &'static str> {
    RULES.into_iter()
}

/// Runs a scenario and counts the wrong changes.
pub(crate) fn count(case: usize, name: &str, seed: u64) -> FaultCount {
    let Some(case) = FAULTS.get(case) else { return FaultCount::default() };
    let plain = Scenario { seed, ..Scenario::default() };
    let faulty = Scenario { faults: (case.faults)(), ..plain.clone() };
    let load = Load::from_points(&[(0.0, case.load.0), (LENGTH as f64, case.load.1)]).cut(LENGTH);
    let run_in = |scenario: &Scenario| rule(name, scenario).map(|mut rule| run(&load, scenario, rule.as_mut()));
    let Some(with) = run_in(&faulty) else { return FaultCount::default() };
    let all_along = faulty.faults.staleness > 0.0 || faulty.faults.dropped > 0.0;
    let from = if all_along { 600.0 } else { BEGIN };
    let within = with.changes.iter().filter(|c| c.at >= from && c.at < case.until + AFTER);
    let bad: Vec<&Change> = if case.bottleneck {
        within.filter(|change| change.to > change.from && change.at < case.until).collect()
    } else {
        let Some(without) = run_in(&plain) else { return FaultCount::default() };
        within.filter(|change| wrong_way(change, &without)).collect()
    };
    let down = bad.iter().filter(|change| change.to < change.from).count();
    FaultCount { bad: bad.len() as u32, down: down as u32 }
}

/// Returns whether a change moves away from all numbers that the run without the fault has about that time.
pub(crate) fn wrong_way(change: &Change, without: &Run) -> bool {
    let around = without.points.iter().enumerate().filter(|(second, _)| (*second as f64 - change.at).abs() <= SLACK);
    let wanted = around.map(|(_, point)| u32::from(point.desired));
    let (low, high) = wanted.fold((u32::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
    let distance = |n: u32| low.saturating_sub(n).max(n.saturating_sub(high));
    low <= high && distance(change.to) > distance(change.from)
}

fn rule(name: &str, scenario: &Scenario) -> Option<Box<dyn Rule>> {
    if name == "sluice" {
        return Some(Box::new(Sluice::for_scenario(scenario)));
    }
    let limits =
        Limits { min: scenario.min_workers, max: scenario.max_workers, partitions: scenario.partitions as u32 };
    peers::named(name, &Parameters { limits, capacity: scenario.capacity, mean_rate: 0.0 }).ok()
}
