//! The parts together, as a process has them: a server on loopback, the controllers, and a node of its own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api::{Options, Server, User};
use super::clock::Clock;
use super::controllers::{Controllers, Pace};
use super::http;
use super::logs::Logs;
use super::node::supervise::own_program;
use super::node::{Images, Node, Settings};
use super::service::InMemory;
use super::store::{HISTORY, JournalError, Store};
use super::tls::{self, Identity, TlsError};

/// The name of the node.
const NODE: &str = "local";
/// How often what is kept is flushed to the disk: more than this is never lost, not even with the power.
const FLUSH: Duration = Duration::from_secs(1);

/// What a cluster is started with.
#[derive(Debug)]
pub struct Setup {
    /// Where to serve; an address of loopback.
    pub listener: TcpListener,
    /// A folder for logs and volumes. For this user's eyes only.
    pub folder: PathBuf,
    /// Keep the objects in the folder, too, and begin with those that are there.
    pub keep: bool,
    /// Which command stands for which image.
    pub images: Images,
    /// Common name of the TLS certificate.
    pub certificate_name: String,
}

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No certificate, or no token.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The objects kept in the folder cannot be read.
    #[error(transparent)]
    Kept(#[from] JournalError),
    /// The address is not known, this program is not found, or the node has no folder.
    #[error("failed to start the embedded cluster: {0}")]
    Io(#[from] io::Error),
}

/// A cluster that runs. One that is dropped leaves its tasks to the runtime, and its pods to their supervisors.
pub struct Cluster {
    address: SocketAddr,
    authority: String,
    token: String,
    client: Client,
    store: Store,
    stop: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
    flushing: JoinHandle<()>,
    controllers: Option<Controllers>,
    node: JoinHandle<()>,
}

impl Cluster {
    /// Starts all parts. Requests are answered from here on.
    pub fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup { listener, folder, keep, images, certificate_name } = setup;
        let token = tls::token()?;
        let address = listener.local_addr()?;
        let identity = Identity::generate(&certificate_name)?;
        let authority = identity.authority.clone();
        let store = if keep { Store::open(&folder.join("store"), HISTORY)? } else { Store::new(HISTORY) };

        let time = sluice_base::clock::Clock::system();
        let logs = Logs::new(folder.join("logs"));
        let mut options = Options::new(Clock::new(time.clone()));
        options.tokens = vec![(token.clone(), User::admin())];
        options.logs = Some(logs.clone());
        let server = Server::with_store(options, store.clone());
        let client = Client::new(InMemory::new(server.clone()).with_token(&token), "default");
        let node = Settings {
            name: NODE.to_owned(),
            images,
            folder: folder.join("node"),
            logs,
            supervisor: own_program()?,
            taint: None,
        };
        let node = Node::new(node, client.clone(), time)?;

        let stop = CancellationToken::new();
        Ok(Self {
            address,
            authority,
            token,
            client,
            serving: tokio::spawn(http::serve_tls(server.clone(), listener, identity, stop.clone())),
            flushing: tokio::spawn(flush(store.clone())),
            controllers: Some(Controllers::start(&server, Pace::default(), &stop)),
            node: tokio::spawn(node.run(stop.clone())),
            store,
            stop,
        })
    }

    /// Where it serves, with TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that makes its own trusted, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What lets a client in.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A client that may do everything, in memory.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until something has failed, and says what.
    pub async fn failed(&mut self) -> String {
        let address = self.address;
        tokio::select! {
            why = self.store.failed() => why,
            ended = &mut self.serving => match ended {
                Ok(Ok(())) => "the server has ended by itself".to_owned(),
                Ok(Err(error)) => format!("failed to serve at {address}: {error}"),
                Err(error) => format!("failed to serve at {address}: {error}"),
            }
        }
    }

    /// Ends all parts. Pods are asked to end, and killed if they do not: at most [`super::node::SHUTDOWN`]. Whoever does not
    /// wait so long leaves the pods to their supervisors, which kill them when this process is gone.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(controllers) = self.controllers.take() {
            controllers.ended().await;
        }
        // It only fails if it has panicked, and then its supervisors have killed its pods.
        let _ = (&mut self.node).await;
        self.flushing.abort();
    }

    /// Hands what is kept to the disk.
    pub fn flush(&self) -> io::Result<()> {
        self.store.flush()
    }
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
