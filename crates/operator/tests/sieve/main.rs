//! What Sieve does to operators (Sun et al., OSDI '22), in one process: a run without faults shows every write of the
//! operator and everything that it is told; from these come plans, each a crash, a lost answer, a view of the past, a
//! gap in what is told; and after each plan the cluster must be as it was without.
//!
//! `cargo test --test sieve` runs every plan of eight scenarios, `cargo test --test sieve -- all` those of all ten;
//! `cargo test --test sieve -- SCENARIO 'PLAN'` runs one again, and shows what came of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, its fixtures too"
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
            let often = |scenario: &Scenario| scenarios::OFTEN.contains(&scenario.name);
            all(&scenarios::all().into_iter().filter(often).collect::<Vec<_>>())
        }
        [every] if every == "all" => all(&scenarios::all()),
        [name] => {
            let scenario = scenarios::all().into_iter().find(|scenario| scenario.name == name);
            // A filter may be meant for other tests.
            scenario.map_or(ExitCode::SUCCESS, |scenario| all(&[scenario]))
        }
        [name, plan] => one(name, plan),
        _ => panic!("expected nothing, or SCENARIO, or SCENARIO 'PLAN'"),
    }
}

/// Runs one plan, and tells everything.
fn one(name: &str, plan: &str) -> ExitCode {
    let scenario =
        scenarios::all().into_iter().find(|scenario| scenario.name == name).expect("a scenario of that name");
    let plan: Plan = plan.parse().unwrap();
    let reference = run(&scenario, &Plan::default());
    let outcome = run(&scenario, &plan);
    println!("{}", outcome.told());
    let wrong = oracle::judge(&reference, &outcome);
    println!("{}", if wrong.is_empty() { "as without faults" } else { &wrong });
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all(scenarios: &[Scenario]) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut plans, mut passed) = (0, 0);
    for scenario in scenarios {
        let reference = run(scenario, &Plan::default());
        let of_scenario = plans::of(&reference);
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(BTreeMap::new());
        let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
        for (kind, _) in &of_scenario {
            *kinds.entry(kind).or_default() += 1;
        }
        let work = || {
            while let Some((_, plan)) = of_scenario.get(next.fetch_add(1, Ordering::Relaxed)) {
                let wrong = oracle::judge(&reference, &run(scenario, plan));
                if !wrong.is_empty() {
                    failures.lock().unwrap().insert(plan.to_string(), wrong);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let wrong = oracle::judge(&reference, &reference);
        let mut failures = failures.into_inner().unwrap();
        if !wrong.is_empty() {
            failures.insert("without faults".to_owned(), wrong);
        }
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("{}: plans: {}, failed: {} ({})", scenario.name, of_scenario.len(), failures.len(), kinds.join(", "));
        for (plan, wrong) in failures.iter().take(10) {
            println!("  cargo test --test sieve -- {} '{plan}'\n{wrong}", scenario.name);
        }
        plans += of_scenario.len();
        passed += of_scenario.len().saturating_sub(failures.len());
    }
    println!("plans: {plans}, passed: {passed}");
    if plans > 0 && plans == passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
