//! `sluice __supervise`: the process that a local node starts for each container. Hidden from the help.

use std::process::ExitCode;

use embedded_kubernetes::node::supervise::{SupervisorCommand, supervise};

/// Arguments of `sluice __supervise`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: SupervisorCommand,
}

pub(super) fn run(args: &Args) -> ExitCode {
    supervise(&args.command)
}
