//! Benchmark of Sluice on a real Kubernetes and a real Kafka, with container workers whose work takes time and with
//! compressed traces as loads. The latency of each record is measured by the clock of the worker that processed it.
//!
//! `make bench-real` starts the test bed and runs this; `-- --help` lists the options. The modules: [`cells`] defines
//! the measurements, [`bed`] is the namespace with the operator, [`topic`] and [`job`] are created for each cell,
//! [`observer`] collects its data, [`cell`] runs one cell, [`result`] evaluates it, and [`log`] and [`table`] write the
//! results.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)] // a command: the table on stdout, progress on stderr

mod args;
mod bed;
mod cell;
mod cells;
mod document;
mod job;
mod log;
mod observer;
mod pods;
mod result;
mod table;
mod topic;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use sluice_base::clock::Clock;
use tokio::signal::unix::{SignalKind, signal};

use self::args::Args;
use self::bed::Bed;
use self::result::CellResult;

/// The error of a step that failed, as a message.
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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode, Failure> {
    fs::create_dir_all(&args.out).map_err(|error| write_error(&args.out, &error))?;
    let bed = Bed::new().await?;
    let mut terminated = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        outcome = run_cells(&bed, args) => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminated.recv() => Err("terminated".into()),
    };
    bed.clean_up().await;
    outcome
}

/// Runs all cells one after another, also if some fail.
async fn run_cells(bed: &Bed, args: &Args) -> Result<ExitCode, Failure> {
    let clock = Clock::system();
    let began = clock.now().0;
    bed.install().await?;
    let mut results: Vec<CellResult> = Vec::new();
    let mut failed = 0;
    for cell in &args.cells {
        print_progress(&clock, &format!("{}: {}", cell.name, cell.description()));
        let cell_began = clock.now().0;
        let ran = cell::run(bed, cell, args, &clock).await;
        bed.save_operator_log(cell.name, clock.now().0 - cell_began, &args.out).await;
        match ran {
            Ok(result) => {
                print_progress(&clock, &format!("{}: {}", cell.name, result.summary()));
                results.push(result);
                // The files are written after each cell, so that an interrupted run has results too.
                write(&args.out.join("results.json"), &serde_json::to_string_pretty(&results)?)?;
                write(&args.out.join("table.md"), &table::table(&results))?;
            }
            Err(error) => {
                failed += 1;
                print_progress(&clock, &format!("{}: {error}", cell.name));
            }
        }
    }
    println!("{}", table::table(&results));
    let minutes = ((clock.now().0 - began) / 60.0).ceil();
    print_progress(
        &clock,
        &format!("{minutes} minutes; decisions and values of each second are in {}", args.out.display()),
    );
    if failed == 0 && args.is_complete() {
        document::write(&table::table(&results), clock.now().0, minutes)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| write_error(path, &error))
}

fn write_error(path: &Path, error: &std::io::Error) -> Failure {
    format!("failed to write {}: {error}; choose another folder with --out", path.display()).into()
}

/// Prints progress to stderr, with the time of day in UTC as in the logs.
fn print_progress(clock: &Clock, message: &str) {
    eprintln!("{} {message}", time_of_day(clock.now().0));
}

fn time_of_day(unix: f64) -> String {
    let now = jiff::Timestamp::UNIX_EPOCH.checked_add(std::time::Duration::from_secs_f64(unix.max(0.0)));
    now.unwrap_or_default().strftime("%H:%M:%S").to_string()
}
