//! `sluice local`: a small Kubernetes on this computer, in one process: an API server and a node that runs pods as
//! processes. It needs no other program and cleans up everything it started.
//!
//! The modules: [`files`] reads and applies the files given with `-f`, [`kubeconfig`] writes the kubeconfig, and
//! [`node`] runs only the node, for an existing cluster.

mod files;
pub(super) mod kubeconfig;
mod node;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;

use super::folder::Folder;
use super::termination::TerminationSignals;
use embedded_kubernetes::cluster::{Cluster, Setup};
use embedded_kubernetes::node::{Image, Images, SHUTDOWN};

/// The name of the image that is this program.
pub(super) const OWN_IMAGE: &str = "sluice";
/// The common name of the certificate of the API server.
pub(super) const CERTIFICATE_NAME: &str = "sluice local";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// If the pods take longer than this to end, a message explains the wait.
const QUIET_SHUTDOWN: Duration = Duration::from_millis(300);

/// Arguments of `sluice local`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run only a node, for an existing cluster: its pods run here as processes
    Node(node::Args),
}

#[derive(Debug, clap::Args)]
struct ClusterArgs {
    /// Keep all state in the folder DIR across restarts [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Serve at this port of 127.0.0.1; 0 chooses a free port
    #[arg(long, value_name = "PORT", default_value = "0")]
    port: u16,
    /// Write the kubeconfig to FILE [default: `kubeconfig` in the data folder]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Apply the objects in FILE; may be given several times
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Arguments of the node, with and without a cluster of its own.
#[derive(Debug, clap::Args)]
struct NodeArgs {
    /// Run COMMAND for pods of the image NAME; may be given several times
    ///
    /// Example: --image web="python3 -m http.server". The image `sluice` is this program.
    #[arg(long = "image", value_name = "NAME=COMMAND")]
    images: Vec<Image>,
    /// Log level (error, warn, info, debug or trace), or a tracing filter such as sluice=debug
    #[arg(long, value_name = "FILTER", default_value = "warn", env = "SLUICE_LOG")]
    log: String,
}

pub(super) fn run(args: Args) -> super::Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.command {
        Some(Command::Node(args)) => runtime.block_on(node::run(args)),
        None => runtime.block_on(run_cluster(args.cluster)),
    }
}

async fn run_cluster(args: ClusterArgs) -> super::Outcome {
    super::init_logging(&args.node.log, super::LogFormat::Text)?;
    // Mistakes in the arguments are reported before anything is started.
    let Some(objects) = files::read(&args.files) else { return Ok(ExitCode::FAILURE) };
    let mut signals = TerminationSignals::listen()?;
    let folder = Folder::new(args.data_dir.as_deref(), "local")?;
    let listener = bind(args.port).await?;
    let setup = Setup {
        listener,
        folder: folder.path().to_owned(),
        keep: folder.is_kept(),
        images: images(&args.node.images)?,
        certificate_name: CERTIFICATE_NAME.to_owned(),
    };
    let mut cluster = Cluster::start(setup)?;
    let kubeconfig = args.kubeconfig.clone().unwrap_or_else(|| folder.path().join("kubeconfig"));
    let token = cluster.token().to_owned();

    let outcome = async {
        kubeconfig::write(&kubeconfig, cluster.address(), cluster.authority(), &token)?;
        files::install(cluster.client()).await?;
        if !files::apply(cluster.client(), &objects).await {
            return Ok(ExitCode::FAILURE);
        }
        print_instructions(cluster.address(), &kubeconfig)?;
        tokio::select! {
            _ = signals.next() => Ok(ExitCode::SUCCESS),
            why = cluster.failed() => Err(why.into()),
        }
    };
    let outcome: super::Outcome = outcome.await;
    let mut stopping = Box::pin(cluster.stop());
    if tokio::time::timeout(QUIET_SHUTDOWN, &mut stopping).await.is_err() {
        eprintln!("sluice: waiting at most {} s for pods to end; press Ctrl-C again to kill them", SHUTDOWN.as_secs());
        tokio::select! {
            () = &mut stopping => {}
            // When this process ends, the supervisors of the pods' processes kill them.
            _ = signals.next() => {}
        }
    }
    drop(stopping);
    kubeconfig::remove(&kubeconfig, &token);
    cluster.flush().map_err(|error| format!("failed to flush {} to disk: {error}", folder.path().display()))?;
    outcome
}

/// Returns the table of images: these rows, and after them a row for this program.
pub(super) fn images(rows: &[Image]) -> Result<Images, Failure> {
    let own = std::env::current_exe().map_err(|error| format!("failed to find this program: {error}"))?;
    let own = Image::new(OWN_IMAGE, vec![own.display().to_string()]);
    Ok(Images::new(rows.iter().cloned().chain([own]).collect()))
}

async fn bind(port: u16) -> Result<TcpListener, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let fix = "choose another port with --port, or leave it out to use a free one";
    TcpListener::bind(address).await.map_err(|error| format!("failed to listen on {address}: {error}; {fix}").into())
}

/// Prints three lines: the address, how to configure kubectl, and a first command.
fn print_instructions(address: SocketAddr, kubeconfig: &std::path::Path) -> std::io::Result<()> {
    let kubeconfig = std::path::absolute(kubeconfig)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "A Kubernetes cluster with one node is running at https://{address}. Press Ctrl-C to stop it and its pods."
    )?;
    writeln!(out, "  export KUBECONFIG={}", kubeconfig.display())?;
    writeln!(out, "  kubectl get pods --all-namespaces --watch    # stream jobs also need `sluice operator`")?;
    out.flush()
}
