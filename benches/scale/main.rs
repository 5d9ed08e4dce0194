//! Many jobs, and neighbours that never answer: memory, time to decide, writes, time to the first full round.
//!
//! `cargo bench --bench scale` measures 500 jobs alone, the same beside 500 whose sources never answer, ten jobs beside 100,000
//! pods of others, and 5,000 jobs; `cargo bench --bench scale -- JOBS BLACK_HOLES PODS MINUTES` measures one such case, and
//! `cargo bench --bench scale -- strangers MINUTES` 500 jobs that read real brokers, alone and beside 50 whose brokers and
//! workers are hostile, in turns (`strangers.rs`).
//!
//! The control plane is embedded in this process. The operator is a process of its own, with the real hub, so that its
//! memory can be told from the plane's; between them is HTTP on loopback. Only the sources and the workers' pages are made
//! up (`sluice_testkit::sources`), in the strangers' case by servers on loopback. No criterion: each figure is of one run.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, clippy::panic)] // a command; a failure is its end

mod child;
mod honest;
mod operator;
mod plane;
mod strangers;

/// What is in the cluster, and how long it is looked at.
#[derive(Clone, Copy)]
struct Case {
    jobs: usize,
    /// Jobs whose sources never answer.
    holes: usize,
    /// Unrelated pods.
    others: usize,
    /// After the first full round.
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
    let number = |text: &String| text.parse::<usize>().unwrap_or_else(|_| panic!("expected a number, not {text:?}"));
    match arguments.as_slice() {
        [role, rest @ ..] if role == "operator" => operator::run(rest),
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
