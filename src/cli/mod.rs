//! The command line: one file for each command.
//!
//! Exit codes: 0 well, 1 the thing asked about is not well, 2 wrong usage. Results go to stdout, progress to stderr.

mod cluster;
mod crd;
mod decide;
mod demo;
mod egress;
mod folder;
mod jobfile;
mod load;
mod local;
mod nearest;
mod operator;
mod resume;
mod signals;
mod simulate;
mod supervise;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Keeps stream jobs inside their latency target with as few workers as that takes.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the custom resource definitions as YAML.
    Crd(crd::Args),
    /// Run the controller in a cluster.
    Operator(operator::Args),
    /// Let Sluice go on after somebody else has written a job's number of workers.
    Resume(resume::Args),
    /// Run the reference worker.
    Worker(worker::Args),
    /// Write records to a topic at the rates of a trace.
    Load(load::Args),
    /// Say what would happen to a job under a load, with which policy: a table, and a plot.
    Simulate(simulate::Args),
    /// Read observations as JSON lines, and print a decision for each.
    Decide(decide::Args),
    /// Show Sluice at work, all in this process and its workers: load, operator, a live view and a report.
    Demo(demo::Args),
    /// Run a small Kubernetes on this machine, with pods as processes.
    Local(local::Args),
    #[command(name = embedded_kubernetes::node::supervise::COMMAND, hide = true)]
    Supervise(supervise::Args),
}

/// Runs the command and turns its outcome into an exit code.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Crd(args) => crd::run(&args),
        Command::Operator(args) => operator::run(args),
        Command::Resume(args) => resume::run(&args),
        Command::Worker(args) => worker::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Decide(args) => decide::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Local(args) => local::run(args),
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

/// What a command ends in: an exit code, or an error for the person who typed it.
type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Sends log lines to stderr. `filter` is a level, or a tracing filter such as `info,sluice=debug`.
fn init_logging(filter: &str, format: LogFormat) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("{filter:?} is not a log filter: {error}; use a level such as info"))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
}

/// A token that SIGTERM and SIGINT cancel.
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

/// The hub, on Kafka and HTTP, on threads of its own, within this policy and these limits. `in_cluster`: this is a pod, where names without a dot
/// are those of the job's namespace.
fn hub(
    clock: sluice_base::clock::Clock,
    egress: sluice_signals::Egress,
    limits: sluice_signals::Limits,
    in_cluster: bool,
) -> Result<sluice_signals::Hub, Box<dyn std::error::Error + Send + Sync>> {
    use std::sync::Arc;
    let connect =
        sluice_signals::KafkaConnect::new(clock.clone(), egress.clone()).within(limits).in_cluster(in_cluster);
    let scraper = Arc::new(sluice_signals::HttpScraper::new(clock.clone(), egress)?);
    let threads = sluice_signals::Threads::start()?;
    Ok(sluice_signals::Hub::on(threads, limits, clock, Arc::new(connect), scraper))
}
