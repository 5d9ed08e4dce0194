//! The command line: one file for each command.
//!
//! Exit codes: 0 success, 1 the operation or the check failed, 2 wrong usage. Results go to stdout, progress to stderr.

mod cluster;
mod crd;
#[cfg(feature = "development")]
mod decide;
#[cfg(feature = "development")]
mod demo;
mod egress;
#[cfg(feature = "development")]
mod folder;
#[cfg(feature = "development")]
mod jobfile;
mod load;
#[cfg(feature = "development")]
mod local;
#[cfg(feature = "development")]
mod nearest;
mod operator;
mod resume;
#[cfg(feature = "development")]
mod simulate;
#[cfg(feature = "development")]
mod supervise;
#[cfg(feature = "development")]
mod termination;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Keep stream jobs within their latency target with as few workers as possible
#[derive(Debug, Parser)]
#[command(name = "sluice", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the custom resource definitions as YAML
    Crd(crd::Args),
    /// Run the operator: watch StreamJobs and scale their workers
    Operator(operator::Args),
    /// Resume autoscaling after another writer changed a job's replica count
    Resume(resume::Args),
    /// Run the reference worker: consume a Kafka topic and report progress to the operator
    Worker(worker::Args),
    /// Write records to a Kafka topic at a constant rate, in steps, or at the rates of a trace
    Load(load::Args),
    #[cfg(feature = "development")]
    /// Simulate a job under a load and compare autoscaling policies (table and plot)
    Simulate(simulate::Args),
    #[cfg(feature = "development")]
    /// Read observations as JSON lines from standard input and print a scaling decision for each
    Decide(decide::Args),
    #[cfg(feature = "development")]
    /// Run a complete demo: a cluster, Kafka, a load and the operator, with a live view and a report
    Demo(demo::Args),
    #[cfg(feature = "development")]
    /// Run a small Kubernetes on this computer, with pods as processes
    Local(local::Args),
    #[cfg(feature = "development")]
    #[command(name = embedded_kubernetes::node::supervise::COMMAND, hide = true)]
    Supervise(supervise::Args),
}

/// Runs the command and converts its outcome into an exit code.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Crd(args) => crd::run(&args),
        Command::Operator(args) => operator::run(args),
        Command::Resume(args) => resume::run(&args),
        Command::Worker(args) => worker::run(&args),
        Command::Load(args) => load::run(&args),
        #[cfg(feature = "development")]
        Command::Decide(args) => decide::run(&args),
        #[cfg(feature = "development")]
        Command::Simulate(args) => simulate::run(&args),
        #[cfg(feature = "development")]
        Command::Demo(args) => demo::run(args),
        #[cfg(feature = "development")]
        Command::Local(args) => local::run(args),
        #[cfg(feature = "development")]
        Command::Supervise(args) => Ok(supervise::run(&args)),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sluice: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The outcome of a command: an exit code, or an error to print.
type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

/// The format of log lines.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Human-readable lines
    Text,
    /// One JSON object per line
    Json,
}

/// Starts logging to stderr. `filter` is a level, or a tracing filter such as `info,sluice=debug`.
fn init_logging(filter: &str, format: LogFormat) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("invalid log filter {filter:?}: {error}; use a level such as info"))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
}

/// Returns a token that SIGTERM and SIGINT cancel.
fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(stop)
}

/// Creates the hub that samples Kafka and worker metrics within this egress policy and these limits. With `in_cluster`
/// (this process is a pod), host names without a dot are resolved in the job's namespace.
fn hub(
    clock: sluice_base::clock::Clock,
    egress: sluice_signals::Egress,
    limits: sluice_signals::Limits,
    in_cluster: bool,
) -> Result<sluice_signals::Hub, Box<dyn std::error::Error + Send + Sync>> {
    use std::sync::Arc;
    let connect =
        sluice_signals::KafkaConnect::new(clock.clone(), egress.clone()).with_limits(limits).in_cluster(in_cluster);
    let scraper = Arc::new(sluice_signals::HttpScraper::new(clock.clone(), egress)?);
    let threads = sluice_signals::Threads::start()?;
    Ok(sluice_signals::Hub::on_threads(threads, limits, clock, Arc::new(connect), scraper))
}
