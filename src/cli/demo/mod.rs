//! `sluice demo`: a complete demonstration in one command: a cluster and a broker, in this process or real ones; a
//! topic, the operator, a job, and a day's load in three minutes; a live view and a report at the end. It cleans up
//! everything it created.
//!
//! The modules: [`session`] runs the demo from start to clean-up. [`environment`] is the cluster and the brokers that
//! it uses; [`in_process`] starts both in this process, the latter from [`broker`]. [`cluster`] and [`topic`] create
//! and delete the demo's objects, [`job`] builds the StreamJob, [`scenario`] defines the load and the faults to inject,
//! [`tasks`] runs the operator and the load in the background, [`observer`] collects the measurements (with
//! [`metrics_page`]), [`completion`] detects the end, and [`view`] displays the progress. The report is made by
//! `sluice_report`.

mod broker;
mod cluster;
mod completion;
mod environment;
mod in_process;
mod job;
mod metrics_page;
mod observer;
mod scenario;
mod session;
mod tasks;
mod topic;
mod view;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use self::cluster::JobEvent;
use self::scenario::Scenario;
use self::session::Session;
use self::view::print_message;
use super::termination::TerminationSignals;
use sluice_report::run::RunReport;
use sluice_report::{page as report_page, plot};

/// The error of a step that failed, as a message.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of `sluice demo`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("cluster").multiple(true).requires_all(["kafka_host", "image"])))]
pub(super) struct Args {
    /// Choose the load and the faults
    #[arg(long, value_enum, default_value = "trace")]
    scenario: Scenario,
    /// Run the load for DURATION, from 10s to 24h
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = length)]
    duration: Duration,
    /// Scale the load so that its highest rate is R records per second
    #[arg(long, value_name = "R", default_value = "3000", value_parser = positive)]
    peak: f64,
    /// Replay the load in FILE instead of the scenario's: lines of `seconds,records_per_second`
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Create the topic with N partitions
    #[arg(long, value_name = "N", default_value = "24", value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// Allow at most N workers [default: as in examples/orders.yaml]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1000))]
    max_replicas: Option<i32>,
    /// Write report.json, report.html, demo.svg and demo.log to the folder DIR
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Do not use colours
    #[arg(long)]
    no_color: bool,
    /// Level of demo.log (error, warn, info, debug or trace), or a tracing filter such as sluice=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "SLUICE_LOG")]
    log: String,
    /// Run in the cluster of the kubeconfig PATH [default: a cluster and a broker in this process]
    #[arg(long, value_name = "PATH", group = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// Run in the cluster of the context NAME of the kubeconfig
    #[arg(long, value_name = "NAME", group = "cluster")]
    context: Option<String>,
    /// Create the namespace NAME for the demo and delete it at the end
    #[arg(long, short, value_name = "NAME", default_value = "sluice-demo", value_parser = NonEmptyStringValueParser::new())]
    namespace: String,
    /// With a cluster: bootstrap servers of Kafka as this computer reaches them: host:port, separated by commas
    #[arg(long, value_name = "HOST:PORT,…", requires = "cluster", value_parser = NonEmptyStringValueParser::new())]
    kafka_host: Option<String>,
    /// With a cluster: bootstrap servers of Kafka as pods reach them [default: the same as --kafka-host]
    #[arg(long, value_name = "HOST:PORT,…", requires = "cluster")]
    kafka_pod: Option<String>,
    /// With a cluster: image for the workers, with this program as its entry point
    #[arg(long, requires = "cluster", value_parser = NonEmptyStringValueParser::new())]
    image: Option<String>,
}

/// A shorter demo would show nothing; a longer one would make the report, which has a point for each second,
/// unreadable.
const LENGTHS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);

fn length(text: &str) -> Result<Duration, String> {
    let length = super::worker::duration(text).ok().filter(|length| LENGTHS.contains(length));
    length.ok_or_else(|| "expected 10s to 24h, such as 90s, 3m or 1h30m".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number greater than 0".to_owned())
}

pub(super) fn run(args: Args) -> super::Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run_demo(args))
}

async fn run_demo(args: Args) -> super::Outcome {
    let mut signals = TerminationSignals::listen()?;
    let out = args.out.clone();
    std::fs::create_dir_all(&out).map_err(|error| write_error(&out, &error))?;
    log_to(&out.join("demo.log"), &args.log)?;
    let mut session = Session::new(args);
    let outcome = tokio::select! {
        outcome = session.run() => outcome.map(Ok),
        code = signals.next() => {
            print_message("interrupted; cleaning up (press Ctrl-C again to skip)");
            Ok(Err(code))
        }
    };
    // The report is written before the clean-up, so that it need not wait for the deletion of the namespace.
    let code = match outcome {
        Ok(Ok((report, events))) => write_report(&report, &events, &out),
        Ok(Err(code)) => Ok(ExitCode::from(code)),
        Err(failure) => Err(failure),
    };
    tokio::select! {
        () = session.clean_up() => code,
        code = signals.next() => {
            print_message("clean-up skipped; the next demo deletes what is left");
            Ok(ExitCode::from(code))
        }
    }
}

/// The content of `report.json`.
#[derive(Serialize)]
struct Files<'a> {
    #[serde(flatten)]
    report: &'a RunReport,
    events: &'a [JobEvent],
}

/// Prints the report and writes its files.
fn write_report(report: &RunReport, events: &[JobEvent], out: &Path) -> super::Outcome {
    writeln!(std::io::stdout().lock(), "{}", report.text(width()))?;
    let json = serde_json::to_string_pretty(&Files { report, events })?;
    let html = report_page::html(report, &json)?;
    for (name, text) in [("report.json", json), ("report.html", html), ("demo.svg", plot::svg(report)?)] {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(|error| write_error(&path, &error))?;
        print_message(&format!("wrote {}", path.display()));
    }
    Ok(if report.met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_error(path: &Path, error: &std::io::Error) -> Failure {
    format!("failed to write {}: {error}; choose another folder with --out", path.display()).into()
}

/// Returns the width of the terminal that stdout is, columns. The environment variable COLUMNS takes precedence.
fn width() -> Option<usize> {
    let configured = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    configured.or_else(measured).filter(|columns| *columns > 0)
}

/// Starts logging to a file, because the view uses the terminal.
fn log_to(path: &Path, filter: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("invalid log filter {filter:?}: {error}; use a level such as info"))?;
    let file = std::fs::File::create(path).map_err(|error| write_error(path, &error))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(file))
        .try_init()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_duration_is_bounded() {
        assert_eq!(length("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(length("24h"), Ok(Duration::from_hours(24)));
        for text in ["0", "9s", "-5s", "99d", "25h", "soon", ""] {
            assert!(length(text).unwrap_err().starts_with("expected 10s to 24h, such as "), "{text}");
        }
    }
}
