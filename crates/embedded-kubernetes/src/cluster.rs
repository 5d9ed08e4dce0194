//! A complete cluster in this process: a server on loopback, the controllers, and a node.

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
/// Interval between flushes of the journal to the disk: a power failure loses at most the changes of 1 s.
const FLUSH: Duration = Duration::from_secs(1);

/// The settings of a cluster.
#[derive(Debug)]
pub struct Setup {
    /// The listener to serve on; a loopback address.
    pub listener: TcpListener,
    /// The folder for logs and volumes. Only this user can read it.
    pub folder: PathBuf,
    /// Whether to keep the objects in the folder, and to start with those that are already there.
    pub keep: bool,
    /// The command that each image stands for.
    pub images: Images,
    /// Common name of the TLS certificate.
    pub certificate_name: String,
}

/// Why a cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate or the token could not be generated.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The journal in the folder could not be read.
    #[error(transparent)]
    Kept(#[from] JournalError),
    /// The listener's address or this program's path is unknown, or the node's folders could not be created.
    #[error("failed to start the embedded cluster: {0}")]
    Io(#[from] io::Error),
}

/// A running cluster. Dropping it leaves its tasks to the runtime, and its pods to their supervisors.
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
    /// Starts all parts. The server answers requests as soon as this returns.
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

    /// Returns the address at which the cluster serves TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate authority that signed the server's certificate, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the bearer token of the administrator.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Returns an in-memory client with the rights of the administrator.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until a part has failed, and returns the reason.
    pub async fn failed(&mut self) -> String {
        let address = self.address;
        tokio::select! {
            why = self.store.failed() => why,
            ended = &mut self.serving => match ended {
                Ok(Ok(())) => "the server has stopped unexpectedly".to_owned(),
                Ok(Err(error)) => format!("failed to serve at {address}: {error}"),
                Err(error) => format!("failed to serve at {address}: {error}"),
            }
        }
    }

    /// Stops all parts. Pods are asked to end, and killed after at most [`super::node::SHUTDOWN`]. If the caller does
    /// not wait that long, the supervisors kill the pods when this process ends.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(controllers) = self.controllers.take() {
            controllers.ended().await;
        }
        // The task fails only if it panicked, and then the supervisors have killed the pods.
        let _ = (&mut self.node).await;
        self.flushing.abort();
    }

    /// Flushes the journal to the disk.
    pub fn flush(&self) -> io::Result<()> {
        self.store.flush()
    }
}

/// Flushes the journal to the disk at a fixed interval.
async fn flush(store: Store) {
    loop {
        tokio::time::sleep(FLUSH).await;
        let store = store.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.flush()).await {
            tracing::warn!(error = %error, "failed to flush the data folder; retrying");
        }
    }
}
