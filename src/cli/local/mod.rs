//! `sluice local`: a small Kubernetes on this machine, in one process: an API server and a node that runs pods as
//! processes. Nothing but this program is needed, and nothing of it is left when it ends.
//!
//! The parts: [`files`] reads and applies what `-f` names, [`kubeconfig`] lets kubectl in, [`folder`] is where everything
//! is, [`node`] is the node alone, for a cluster that is there already.

mod files;
mod folder;
mod kubeconfig;
mod node;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::folder::Folder;
use crate::embedded::api::{Options, Server, User};
use crate::embedded::clock::Clock;
use crate::embedded::controllers::{Controllers, Pace};
use crate::embedded::http;
use crate::embedded::logs::Logs;
use crate::embedded::node::supervise::own_program;
use crate::embedded::node::{Image, Images, Node, SHUTDOWN, Settings};
use crate::embedded::service::InMemory;
use crate::embedded::store::{HISTORY, Store};
use crate::embedded::tls::{self, Identity};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The name of the node.
const NODE: &str = "local";
/// How often what is kept is flushed to the disk: more than this is never lost, not even with the power.
const FLUSH: Duration = Duration::from_secs(1);

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
    let token = tls::token()?;
    let folder = Folder::new(args.data_dir.as_deref(), &token)?;
    let listener = bind(args.port).await?;
    let address = listener.local_addr()?;
    let kubeconfig = args.kubeconfig.clone().unwrap_or_else(|| folder.path().join("kubeconfig"));
    let identity = Identity::generate()?;
    let store =
        if folder.is_kept() { Store::open(&folder.path().join("store"), HISTORY)? } else { Store::new(HISTORY) };

    let time = crate::clock::Clock::system();
    let logs = Logs::new(folder.path().join("logs"));
    let mut options = Options::new(Clock::new(time.clone()));
    options.tokens = vec![(token.clone(), User::admin())];
    options.logs = Some(logs.clone());
    let server = Server::with_store(options, store.clone());
    let client = Client::new(InMemory::new(server.clone()).with_token(&token), "default");
    let node = Settings {
        name: NODE.to_owned(),
        images: args.run.table()?,
        folder: folder.path().join("node"),
        logs,
        supervisor: own_program()?,
        taint: None,
    };
    let node = Node::new(node, client.clone(), time)?;
    kubeconfig::write(&kubeconfig, address, &identity.authority, &token)?;

    let stop = CancellationToken::new();
    let serving = tokio::spawn(http::serve_tls(server.clone(), listener, identity, stop.clone()));
    let flushing = tokio::spawn(flush(store.clone()));
    let controllers = Controllers::start(&server, Pace::default(), &stop);
    let mut running = tokio::spawn(node.run(stop.clone()));

    let outcome = async {
        files::install(&client).await?;
        if !files::apply(&client, &objects).await {
            return Ok(ExitCode::FAILURE);
        }
        say_how_to_use(address, &kubeconfig)?;
        tokio::select! {
            () = signals.next() => Ok(ExitCode::SUCCESS),
            why = store.failed() => Err(why.into()),
            ended = serving => match ended? {
                Ok(()) => Err("the server has ended by itself".into()),
                Err(error) => Err(format!("failed to serve at {address}: {error}").into()),
            }
        }
    };
    let outcome: super::Outcome = outcome.await;
    stop.cancel();
    controllers.ended().await;
    if tokio::time::timeout(PATIENCE, &mut running).await.is_err() {
        eprintln!("sluice: waiting for pods to end, at most {} s; Ctrl-C once more kills them", SHUTDOWN.as_secs());
        tokio::select! {
            _ = running => {}
            // Their supervisors do it, as soon as this process is gone.
            () = signals.next() => {}
        }
    }
    flushing.abort();
    kubeconfig::remove(&kubeconfig, &token);
    store.flush().map_err(|error| format!("failed to flush {} to the disk: {error}", folder.path().display()))?;
    outcome
}

impl Run {
    fn table(&self) -> Result<Images, Failure> {
        let own = std::env::current_exe().map_err(|error| format!("failed to find this program: {error}"))?;
        Ok(Images::new(self.images.clone(), &own))
    }
}

async fn bind(port: u16) -> Result<TcpListener, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mend = "give another port with --port, or none for one that is free";
    TcpListener::bind(address).await.map_err(|error| format!("failed to serve at {address}: {error}; {mend}").into())
}

/// Hands what is kept to the disk, again and again.
async fn flush(store: Store) {
    loop {
        tokio::time::sleep(FLUSH).await;
        let store = store.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.flush()).await {
            tracing::warn!(error = %error, "failed to flush the data folder to the disk; it is tried again");
        }
    }
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

/// Ctrl-C, SIGTERM, and a terminal that is closed.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
