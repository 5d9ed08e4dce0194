//! `sluice crd`: the custom resource definitions, as committed under `crds/`.

use std::io::Write as _;
use std::process::ExitCode;

/// Arguments of `sluice crd`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> super::Outcome {
    let mut text = String::new();
    for crd in sluice_api::crds() {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&crd)?);
    }
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
