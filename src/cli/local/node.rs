//! `sluice local node`: only a node, for an existing cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::cluster::ClusterArgs;
use embedded_kubernetes::logs::Logs;
use embedded_kubernetes::node::supervise::own_program;
use embedded_kubernetes::node::{Node, Settings};

/// The taint that keeps the cluster's other pods off this node.
const TAINT: &str = "sluice.dev/local";

/// Arguments of `sluice local node`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Register the node under NAME
    #[arg(long, value_name = "NAME", default_value = "sluice-local")]
    name: String,
    /// Keep logs and volumes in the folder DIR
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Also run pods that do not tolerate the taint sluice.dev/local
    #[arg(long)]
    no_taint: bool,
    #[command(flatten)]
    node: super::NodeArgs,
}

pub(super) async fn run(args: Args) -> crate::cli::Outcome {
    crate::cli::init_logging(&args.node.log, crate::cli::LogFormat::Text)?;
    let client = args.cluster.client().await?;
    let folder = std::path::absolute(&args.data_dir)?;
    let logs = Logs::new(folder.join("logs"));
    let settings = Settings {
        name: args.name.clone(),
        images: super::images(&args.node.images)?,
        folder: folder.join("node"),
        logs: logs.clone(),
        supervisor: own_program()?,
        taint: (!args.no_taint).then(|| TAINT.to_owned()),
    };
    let node = Node::new(settings, client, sluice_base::clock::Clock::system())?;
    let stop = crate::cli::stop_on_signal()?;
    eprintln!("node {}: running pods as processes; their logs are in {}", args.name, logs.folder().display());
    node.run(stop).await;
    Ok(ExitCode::SUCCESS)
}
