//! The command line: one file for each command.
//!
//! Exit codes: 0 well, 1 the thing asked about is not well, 2 wrong usage. Results go to stdout, progress to stderr.

mod crd;
mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps stream jobs inside their latency target with as few workers as that takes.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the custom resource definitions as YAML.
    Crd(crd::Args),
    /// Show the whole thing on a cluster and a Kafka: load, workers, operator, a live view and a report.
    Demo(demo::Args),
}

/// Runs the command and turns its outcome into an exit code.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Crd(args) => crd::run(&args),
        Command::Demo(args) => demo::run(args),
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
