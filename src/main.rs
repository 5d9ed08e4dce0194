//! TLS provider, parse, dispatch, exit code; no more.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("sluice: a TLS provider was installed before main; this is a defect of the build");
        return ExitCode::FAILURE;
    }
    cli::run(cli::Cli::parse())
}
