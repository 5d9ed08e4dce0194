//! `sluice local`: a small Kubernetes on this machine, in one process: an API server and a node that runs pods as
//! processes. Nothing but this program is needed, and nothing of it is left when it ends.
//!
//! The parts: [`files`] reads and applies what `-f` names, [`kubeconfig`] lets kubectl in, [`node`] is the node
//! alone, for a cluster that is there already.

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
use super::signals::Signals;
use embedded_kubernetes::cluster::{Cluster, Setup};
use embedded_kubernetes::node::{Image, Images, SHUTDOWN};

/// The name of the image that is this program.
pub(super) const OWN_IMAGE: &str = "sluice";
/// The common name of the certificate of the API server.
pub(super) const CERTIFICATE_NAME: &str = "sluice local";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Pods that end within this time are not worth a word.
const PATIENCE: Duration = Duration::from_millis(300);

/// Arguments of `sluice local`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    whole: Whole,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Only the node, for a cluster that is there already: its pods run here as processes
    Node(node::Args),
}

#[derive(Debug, clap::Args)]
struct Whole {
    /// Folder to keep everything in, over restarts [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Port of 127.0.0.1 to serve at; 0: any that is free
    #[arg(long, value_name = "PORT", default_value = "0")]
    port: u16,
    /// Kubeconfig to write [default: `kubeconfig` in the folder]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// File with objects to apply; may be given several times
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    run: Run,
}

/// What the node needs to know of the machine.
#[derive(Debug, clap::Args)]
struct Run {
    /// Command that stands for an image, such as web="python3 -m http.server"; may be given several times. The image
    /// `sluice` is this program
    #[arg(long = "image", value_name = "NAME=COMMAND")]
    images: Vec<Image>,
    /// What to log: error, warn, info, debug, trace, or a tracing filter such as sluice=debug
    #[arg(long, value_name = "FILTER", default_value = "warn", env = "SLUICE_LOG")]
    log: String,
}

pub(super) fn run(args: Args) -> super::Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.part {
        Some(Part::Node(args)) => runtime.block_on(node::run(args)),
        None => runtime.block_on(whole(args.whole)),
    }
}

async fn whole(args: Whole) -> super::Outcome {
    super::init_logging(&args.run.log, super::LogFormat::Text)?;
    // What can be wrong with the arguments is said before anything is started.
    let Some(objects) = files::read(&args.files) else { return Ok(ExitCode::FAILURE) };
    let mut signals = Signals::listen()?;
    let folder = Folder::new(args.data_dir.as_deref(), "local")?;
    let listener = bind(args.port).await?;
    let setup = Setup {
        listener,
        folder: folder.path().to_owned(),
        keep: folder.is_kept(),
        images: images(&args.run.images)?,
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
        say_how_to_use(cluster.address(), &kubeconfig)?;
        tokio::select! {
            _ = signals.next() => Ok(ExitCode::SUCCESS),
            why = cluster.failed() => Err(why.into()),
        }
    };
    let outcome: super::Outcome = outcome.await;
    let mut stopping = Box::pin(cluster.stop());
    if tokio::time::timeout(PATIENCE, &mut stopping).await.is_err() {
        eprintln!("sluice: waiting for pods to end, at most {} s; Ctrl-C once more kills them", SHUTDOWN.as_secs());
        tokio::select! {
            () = &mut stopping => {}
            // Their supervisors do it, as soon as this process is gone.
            _ = signals.next() => {}
        }
    }
    drop(stopping);
    kubeconfig::remove(&kubeconfig, &token);
    cluster.flush().map_err(|error| format!("failed to flush {} to the disk: {error}", folder.path().display()))?;
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
    let mend = "give another port with --port, or none for one that is free";
    TcpListener::bind(address).await.map_err(|error| format!("failed to serve at {address}: {error}; {mend}").into())
}

/// Three lines: what there is, how to get at it, what to do first.
fn say_how_to_use(address: SocketAddr, kubeconfig: &std::path::Path) -> std::io::Result<()> {
    let kubeconfig = std::path::absolute(kubeconfig)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "A small Kubernetes is up at https://{address}, with one node; Ctrl-C ends it and its pods.")?;
    writeln!(out, "  export KUBECONFIG={}", kubeconfig.display())?;
    writeln!(out, "  kubectl get pods --all-namespaces --watch    # stream jobs need `sluice operator` beside it")?;
    out.flush()
}
