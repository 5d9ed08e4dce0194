//! Compares Sluice with other autoscalers on a simulated job: which objectives are met, at what cost, and which goals
//! are missed.
//!
//! `cargo bench --bench autoscalers` runs everything; `-- --help` lists the options.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)] // a command: tables on stdout, progress on stderr

mod args;
mod cache;
mod document;
mod plots;
mod progress;
mod traces;

use std::process::ExitCode;

use args::Args;
use cache::Cache;
use progress::Progress;
use sluice_base::clock::Clock;
use sluice_bench::{Plan, Results, answer, cells, goals, needed, side_by_side, summary};

/// Number of runs after which the cache is written.
const CHUNK: usize = 256;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", args::HELP);
            return ExitCode::FAILURE;
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let traces = traces::read(&args.traces)?;
    let mut plan = if args.quick { Plan::quick(traces) } else { Plan::full(traces, args.seeds) };
    if let Some(filter) = &args.filter {
        plan.filter(filter);
    }
    let mut results = Results::default();
    let mut cache = Cache::open(args.cache.as_deref())?;
    let mut progress = Progress::new(Clock::system());
    loop {
        let mut jobs = needed(&plan, &results);
        jobs.retain(|job| match cache.get(&plan, job) {
            Some(answer) => {
                results.insert(job.clone(), answer);
                false
            }
            None => true,
        });
        if jobs.is_empty() {
            // Results from the cache may require further runs.
            if needed(&plan, &results).is_empty() {
                break;
            }
            continue;
        }
        let round = progress.round(jobs.len());
        for some in jobs.chunks(CHUNK) {
            let answers = side_by_side(some, args.threads, |job| round.timed(job, || answer(&plan, job)));
            for (job, answer) in some.iter().zip(answers) {
                cache.put(&plan, job, &answer);
                results.insert(job.clone(), answer);
            }
            cache.save()?;
        }
        progress.end(round);
    }
    let cells = cells(&plan, &results);
    let goals = goals(&plan, &results, &cells);
    let report = summary(&plan, &results, &cells, &goals);
    println!("{report}");
    progress.print_times();
    if let Some(directory) = &args.plots {
        plots::write(directory, &plan, &cells, args.threads)?;
    }
    if let Some(path) = &args.write {
        let facts = document::Facts { args, seconds: progress.seconds(), now: Clock::system().now().0 };
        document::write(path, &facts, &report)?;
    }
    Ok(())
}
