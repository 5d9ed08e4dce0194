//! Many jobs, and neighbours that never answer: memory, time to decide, writes, time to the first full round.
//!
//! `cargo bench --bench scale` measures 500 jobs alone, the same beside 500 whose sources never answer, and 5,000;
//! `cargo bench --bench scale -- JOBS BLACK_HOLES MINUTES` measures one such case.
//!
//! The control plane is embedded in this process. The operator is a process of its own, with the real hub, so that its
//! memory can be told from the plane's; between them is HTTP on loopback. Only the sources and the workers' pages are made
//! up (`sources.rs`). No criterion: each figure is of one run.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, clippy::panic)] // a command; a failure is its end

mod operator;
mod plane;
mod sources;

use std::time::Duration;

/// Jobs, jobs with sources that never answer, minutes of looking on after the first full round.
const CASES: [(usize, usize, u64); 3] = [(500, 0, 3), (500, 500, 3), (5_000, 0, 20)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let number = |text: &String| text.parse::<usize>().unwrap_or_else(|_| panic!("expected a number, not {text:?}"));
    match arguments.as_slice() {
        [role, address, jobs] if role == "operator" => operator::run(address, number(jobs)),
        [jobs, holes, minutes] => plane::measure(number(jobs), number(holes), minutes_of(number(minutes))),
        _ => CASES.iter().for_each(|(jobs, holes, minutes)| {
            plane::measure(*jobs, *holes, Duration::from_secs(60 * minutes));
        }),
    }
}

fn minutes_of(minutes: usize) -> Duration {
    Duration::from_secs(60 * u64::try_from(minutes).unwrap())
}
