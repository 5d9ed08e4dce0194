//! Benchmark with many jobs and with sources that never respond: memory, time to decide, writes, time to the first full
//! round.
//!
//! `cargo bench --bench scale` measures 500 jobs alone, the same together with 500 whose sources never respond, ten
//! jobs together with 100,000 unrelated pods, and 5,000 jobs. `cargo bench --bench scale -- JOBS BLACK_HOLES PODS
//! MINUTES` measures one such case, and `cargo bench --bench scale -- strangers MINUTES` the hub alone with hostile
//! brokers and workers (`strangers.rs`).
//!
//! The control plane is embedded in this process. The operator is a separate process with the real hub, so that its
//! memory can be measured separately; they communicate over HTTP on loopback. Only the sources and the workers' metrics
//! pages are simulated (`sluice_testkit::sources`). Each number is from a single run, so criterion is not used.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, clippy::panic)] // a command; a failure ends it

mod operator;
mod plane;
mod strangers;

/// The content of the cluster and the length of the measurement.
#[derive(Clone, Copy)]
struct Case {
    jobs: usize,
    /// Number of jobs whose sources never respond.
    holes: usize,
    /// Number of pods that do not belong to a job.
    others: usize,
    /// Length of the measurement after the first full round, minutes.
    minutes: u64,
}

const CASES: [Case; 4] = [
    Case { jobs: 500, holes: 0, others: 0, minutes: 3 },
    Case { jobs: 500, holes: 500, others: 0, minutes: 3 },
    Case { jobs: 10, holes: 0, others: 100_000, minutes: 2 },
    Case { jobs: 5_000, holes: 0, others: 0, minutes: 20 },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let number = |text: &String| text.parse::<usize>().unwrap_or_else(|_| panic!("expected a number, found {text:?}"));
    match arguments.as_slice() {
        [role, address, jobs] if role == "operator" => operator::run(address, number(jobs)),
        [role, rest @ ..] if role == "strangers-hub" => strangers::hub(rest),
        [what, minutes] if what == "strangers" => strangers::measure(number(minutes).try_into().unwrap()),
        [jobs, holes, others, minutes] => plane::measure(Case {
            jobs: number(jobs),
            holes: number(holes),
            others: number(others),
            minutes: number(minutes).try_into().unwrap(),
        }),
        _ => CASES.into_iter().for_each(plane::measure),
    }
}
