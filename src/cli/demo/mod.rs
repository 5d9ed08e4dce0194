//! `sluice demo`: the whole thing on a real cluster and a real broker, in one command: a topic, the operator, a job, a
//! day's load in five minutes; a live view; a report at the end; and nothing left behind.
//!
//! The parts: [`topic`] and [`cluster`] make things and take them away, [`child`] runs the operator and the load,
//! [`watch`] sees what happens, [`view`] shows it, and `crate::report` says what came of it.

mod child;
mod cluster;
mod drain;
mod job;
mod page;
mod stage;
mod topic;
mod totals;
mod view;
mod watch;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::cluster::JobEvent;
use self::stage::Stage;
use crate::report::plot;
use crate::report::run::RunReport;

/// A step that could not be done, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The conventional exit code of a program that Ctrl-C has ended: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;
/// The same for SIGTERM.
const TERMINATED: u8 = 143;

/// Arguments of `sluice demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Cluster to run in
    #[arg(long, value_name = "PATH", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Namespace to make, and to delete at the end
    #[arg(long, short, value_name = "NAME", default_value = "sluice-demo")]
    namespace: String,
    /// Kafka as this computer reaches it: host:port, separated by commas
    #[arg(long, value_name = "HOST:PORT,…", env = "SLUICE_TEST_KAFKA_HOST", value_parser = NonEmptyStringValueParser::new())]
    kafka_host: String,
    /// Kafka as pods reach it [default: as this computer does]
    #[arg(long, value_name = "HOST:PORT,…", env = "SLUICE_TEST_KAFKA_POD")]
    kafka_pod: Option<String>,
    /// Image with this program as its entry point, for the workers
    #[arg(long, env = "SLUICE_TEST_IMAGE", value_parser = NonEmptyStringValueParser::new())]
    image: String,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value = "24", value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// Most workers [default: what examples/orders.yaml says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1000))]
    max_replicas: Option<i32>,
    /// Load to replay: lines of `t_seconds,records_per_second` [default: a day of advertisements, 18 h]
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Replay so many times faster
    #[arg(long, value_name = "FACTOR", default_value = "216", value_parser = positive)]
    compress: f64,
    /// Highest rate of the load, in records per second
    #[arg(long, value_name = "R", default_value = "3000", value_parser = positive)]
    peak: f64,
    /// Folder for report.json, demo.svg and the logs
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// No colours
    #[arg(long)]
    no_color: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

pub(super) fn run(args: Args) -> super::Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(play(args))
}

async fn play(args: Args) -> super::Outcome {
    let mut signals = Signals::listen()?;
    std::fs::create_dir_all(&args.out).map_err(|error| format!("failed to make {}: {error}", args.out.display()))?;
    let out = args.out.clone();
    let mut stage = Stage::new(args);
    let outcome = tokio::select! {
        outcome = stage.perform() => outcome.map(Ok),
        code = signals.next() => {
            say("interrupted; taking everything away (once more to leave it)");
            Ok(Err(code))
        }
    };
    // The report comes before the tidying: whoever waits for it should not wait for namespaces to go.
    let code = match outcome {
        Ok(Ok((report, events))) => deliver(&report, &events, &out),
        Ok(Err(code)) => Ok(ExitCode::from(code)),
        Err(failure) => Err(failure),
    };
    tokio::select! {
        () = stage.clean_up() => code,
        code = signals.next() => {
            say("left as it is; the next demo deletes the namespace");
            Ok(ExitCode::from(code))
        }
    }
}

/// What `report.json` holds.
#[derive(Serialize)]
struct Files<'a> {
    #[serde(flatten)]
    report: &'a RunReport,
    events: &'a [JobEvent],
}

/// Prints the report and writes its files.
fn deliver(report: &RunReport, events: &[JobEvent], out: &Path) -> super::Outcome {
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    writeln!(std::io::stdout().lock(), "{}", report.text(width))?;
    let json = serde_json::to_string_pretty(&Files { report, events })?;
    for (name, text) in [("report.json", json), ("demo.svg", plot::svg(report)?)] {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(|error| format!("failed to write {}: {error}", path.display()))?;
        say(&format!("wrote {}", path.display()));
    }
    Ok(if report.met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The exit code that the next signal asks for.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.terminate.recv() => TERMINATED,
        }
    }
}

/// Progress goes to stderr.
fn say(words: &str) {
    eprintln!("demo: {words}");
}
