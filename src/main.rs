//! Entry point: installs the TLS provider, parses the arguments, runs the command and returns its exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("sluice: a TLS provider was already installed before main; this is a bug in the build");
        return ExitCode::FAILURE;
    }
    cli::run(cli::Cli::parse())
}
