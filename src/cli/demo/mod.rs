//! `sluice demo`: the whole thing in one command: a cluster and a broker in this process, or real ones; a topic, the operator,
//! a job, a day's load in three minutes; a live view; a report at the end; and nothing left behind.
//!
//! The parts: [`place`] says where it plays and [`here`] makes such a place with [`broker`] in it, [`topic`] and [`cluster`]
//! make things and take them away, [`scenario`] is what happens, [`part`] runs the operator and the load, [`watch`] sees
//! what happens, [`view`] shows it, and `sluice_report` says what came of it.

mod broker;
mod cluster;
mod drain;
mod here;
mod job;
mod page;
mod part;
mod place;
mod scenario;
mod stage;
mod topic;
mod view;
mod watch;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use self::cluster::JobEvent;
use self::scenario::Scenario;
use self::stage::Stage;
use self::view::say;
use super::signals::Signals;
use sluice_report::run::RunReport;
use sluice_report::{page as report_page, plot};

/// A step that could not be done, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of `sluice demo`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("cluster").multiple(true).requires_all(["kafka_host", "image"])))]
pub(super) struct Args {
    /// What happens
    #[arg(long, value_enum, default_value = "trace")]
    scenario: Scenario,
    /// How long the load lasts: 10s to 24h
    #[arg(long, default_value = "3m", value_parser = length)]
    duration: Duration,
    /// Highest rate of the load, in records per second
    #[arg(long, value_name = "R", default_value = "3000", value_parser = positive)]
    peak: f64,
    /// Load to replay instead of the scenario's: lines of `t_seconds,records_per_second`
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value = "24", value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// Most workers [default: what examples/orders.yaml says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1000))]
    max_replicas: Option<i32>,
    /// Folder for report.json, report.html, demo.svg and demo.log
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// No colours
    #[arg(long)]
    no_color: bool,
    /// What to write to demo.log: error, warn, info, debug, trace, or a tracing filter such as sluice=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "SLUICE_LOG")]
    log: String,
    /// Kubeconfig of a cluster to play in [default: none, but one in this process, with a broker of its own]
    #[arg(long, value_name = "PATH", group = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", group = "cluster")]
    context: Option<String>,
    /// Namespace to make, and to delete at the end
    #[arg(long, short, value_name = "NAME", default_value = "sluice-demo", value_parser = NonEmptyStringValueParser::new())]
    namespace: String,
    /// In a cluster: Kafka as this computer reaches it: host:port, separated by commas
    #[arg(long, value_name = "HOST:PORT,…", requires = "cluster", value_parser = NonEmptyStringValueParser::new())]
    kafka_host: Option<String>,
    /// In a cluster: Kafka as pods reach it [default: as this computer does]
    #[arg(long, value_name = "HOST:PORT,…", requires = "cluster")]
    kafka_pod: Option<String>,
    /// In a cluster: image with this program as its entry point, for the workers
    #[arg(long, requires = "cluster", value_parser = NonEmptyStringValueParser::new())]
    image: Option<String>,
}

/// Shorter, nothing could be seen; longer, the report could not be read: it has a point for each second.
const LENGTHS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);

fn length(text: &str) -> Result<Duration, String> {
    let length = super::worker::duration(text).ok().filter(|length| LENGTHS.contains(length));
    length.ok_or_else(|| "expected 10s to 24h, such as 90s, 3m or 1h30m".to_owned())
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
    let out = args.out.clone();
    std::fs::create_dir_all(&out).map_err(|error| unwritten(&out, &error))?;
    log_to(&out.join("demo.log"), &args.log)?;
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
            say("left as it is; the next demo takes it away");
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
    writeln!(std::io::stdout().lock(), "{}", report.text(width()))?;
    let json = serde_json::to_string_pretty(&Files { report, events })?;
    let html = report_page::html(report, &json)?;
    for (name, text) in [("report.json", json), ("report.html", html), ("demo.svg", plot::svg(report)?)] {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(|error| unwritten(&path, &error))?;
        say(&format!("wrote {}", path.display()));
    }
    Ok(if report.met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    format!("failed to write {}: {error}; name another folder with --out", path.display()).into()
}

/// Columns of the terminal that stdout is, or what COLUMNS says.
fn width() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let seen = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    told.or_else(seen).filter(|columns| *columns > 0)
}

/// Sends log lines to a file: the view has the screen.
fn log_to(path: &Path, filter: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("{filter:?} is not a log filter: {error}; use a level such as info"))?;
    let file = std::fs::File::create(path).map_err(|error| unwritten(path, &error))?;
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
    fn a_demo_is_neither_too_short_to_see_nor_too_long_to_read() {
        assert_eq!(length("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(length("24h"), Ok(Duration::from_hours(24)));
        for text in ["0", "9s", "-5s", "99d", "25h", "soon", ""] {
            assert!(length(text).unwrap_err().starts_with("expected 10s to 24h, such as "), "{text}");
        }
    }
}
