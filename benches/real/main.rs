//! Sluice on the real bed: a real Kubernetes, a real Kafka, container workers whose work takes time, loads that are compressed
//! traces. Every record is judged by the clock of the worker that did it.
//!
//! `make bench-real` brings up the bed and runs this; `-- --help` says what else there is. [`cells`] has what is run, [`bed`] the
//! corner of the cluster and the operator in it, [`topic`] and [`job`] what each cell makes anew, [`watch`] what is seen of it,
//! [`cell`] one cell from beginning to end, [`verdict`] what came of it, [`log`] and [`table`] how that is told.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)] // a command: the table on stdout, progress on stderr

mod args;
mod bed;
mod cell;
mod cells;
mod document;
mod job;
mod log;
mod pods;
mod table;
mod topic;
mod verdict;
mod watch;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use sluice_base::clock::Clock;
use tokio::signal::unix::{SignalKind, signal};

use self::args::Args;
use self::bed::Bed;
use self::verdict::Verdict;

/// A step that could not be done, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{}", args::help());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", args::help());
            return ExitCode::FAILURE;
        }
    };
    let ran = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match ran.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode, Failure> {
    fs::create_dir_all(&args.out).map_err(|error| unwritten(&args.out, &error))?;
    let bed = Bed::new().await?;
    let mut terminated = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        outcome = all(&bed, args) => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminated.recv() => Err("terminated".into()),
    };
    bed.clean_up().await;
    outcome
}

/// All cells, one after another. One that fails does not keep the others from being run.
async fn all(bed: &Bed, args: &Args) -> Result<ExitCode, Failure> {
    let clock = Clock::system();
    let began = clock.now().0;
    bed.install().await?;
    let mut verdicts: Vec<Verdict> = Vec::new();
    let mut failed = 0;
    for cell in &args.cells {
        say(&clock, &format!("{}: {}", cell.name, cell.words()));
        let cell_began = clock.now().0;
        let ran = cell::run(bed, cell, args, &clock).await;
        bed.save_operator_log(cell.name, clock.now().0 - cell_began, &args.out).await;
        match ran {
            Ok(verdict) => {
                say(&clock, &format!("{}: {}", cell.name, verdict.sentence()));
                verdicts.push(verdict);
                // After each, so that a run that is ended early has told what it knows.
                write(&args.out.join("results.json"), &serde_json::to_string_pretty(&verdicts)?)?;
                write(&args.out.join("table.md"), &table::table(&verdicts))?;
            }
            Err(error) => {
                failed += 1;
                say(&clock, &format!("{}: {error}", cell.name));
            }
        }
    }
    println!("{}", table::table(&verdicts));
    let minutes = ((clock.now().0 - began) / 60.0).ceil();
    say(&clock, &format!("{minutes} minutes; decisions and figures of each second are in {}", args.out.display()));
    if failed == 0 && args.is_whole() {
        document::write(&table::table(&verdicts), clock.now().0, minutes)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    format!("failed to write {}: {error}; name another folder with --out", path.display()).into()
}

/// Progress, with the time of day in UTC as the logs have it.
fn say(clock: &Clock, words: &str) {
    eprintln!("{} {words}", time_of_day(clock.now().0));
}

fn time_of_day(unix: f64) -> String {
    let now = jiff::Timestamp::UNIX_EPOCH.checked_add(std::time::Duration::from_secs_f64(unix.max(0.0)));
    now.unwrap_or_default().strftime("%H:%M:%S").to_string()
}
