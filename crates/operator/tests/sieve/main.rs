//! Tests after Sieve (Sun et al., OSDI '22, <https://www.usenix.org/conference/osdi22/presentation/sun>), in one
//! process: a run without faults shows every write and every notification of the operator. Each plan derived from it
//! contains a crash, a lost answer, a view of the past or a gap in the notifications, and must end in the same state as
//! the run without faults.
//!
//! `cargo test --test sieve` runs every plan of eight scenarios, `cargo test --test sieve -- all` those of all ten.
//! `cargo test --test sieve -- SCENARIO 'PLAN'` runs a single plan and prints its requests and changes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests and their fixtures fail by panicking"
)]

mod oracle;
mod plans;
mod run;
mod scenarios;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use embedded_kubernetes::faults::Plan;

use run::run;
use scenarios::Scenario;

fn main() -> ExitCode {
    run::watch_for_panics();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    match arguments.as_slice() {
        [] => {
            let is_default = |scenario: &Scenario| scenarios::DEFAULT.contains(&scenario.name);
            run_scenarios(&scenarios::all().into_iter().filter(is_default).collect::<Vec<_>>())
        }
        [every] if every == "all" => run_scenarios(&scenarios::all()),
        [name] => {
            let scenario = scenarios::all().into_iter().find(|scenario| scenario.name == name);
            // The argument may be a filter for other tests.
            scenario.map_or(ExitCode::SUCCESS, |scenario| run_scenarios(&[scenario]))
        }
        [name, plan] => run_plan(name, plan),
        _ => panic!("expected nothing, or SCENARIO, or SCENARIO 'PLAN'"),
    }
}

/// Runs one plan, and prints everything about it.
fn run_plan(name: &str, plan: &str) -> ExitCode {
    let scenario =
        scenarios::all().into_iter().find(|scenario| scenario.name == name).expect("a scenario of that name");
    let plan: Plan = plan.parse().unwrap();
    let reference = run(&scenario, &Plan::default());
    let outcome = run(&scenario, &plan);
    println!("{}", outcome.describe());
    let differences = oracle::compare(&reference, &outcome);
    println!("{}", if differences.is_empty() { "same as without faults" } else { &differences });
    if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_scenarios(scenarios: &[Scenario]) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut plans, mut passed) = (0, 0);
    for scenario in scenarios {
        let reference = run(scenario, &Plan::default());
        let scenario_plans = plans::derive(&reference);
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(BTreeMap::new());
        let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
        for (kind, _) in &scenario_plans {
            *kinds.entry(kind).or_default() += 1;
        }
        let work = || {
            while let Some((_, plan)) = scenario_plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                let differences = oracle::compare(&reference, &run(scenario, plan));
                if !differences.is_empty() {
                    failures.lock().unwrap().insert(plan.to_string(), differences);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let differences = oracle::compare(&reference, &reference);
        let mut failures = failures.into_inner().unwrap();
        if !differences.is_empty() {
            failures.insert("without faults".to_owned(), differences);
        }
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!(
            "{}: plans: {}, failed: {} ({})",
            scenario.name,
            scenario_plans.len(),
            failures.len(),
            kinds.join(", ")
        );
        for (plan, differences) in failures.iter().take(10) {
            println!("  cargo test --test sieve -- {} '{plan}'\n{differences}", scenario.name);
        }
        plans += scenario_plans.len();
        passed += scenario_plans.len().saturating_sub(failures.len());
    }
    println!("plans: {plans}, passed: {passed}");
    if plans > 0 && plans == passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
