//! A SOCKS5 proxy in this process (RFC 1928, RFC 1929; CONNECT only), for a client library that opens connections by
//! itself and has no other hook than a proxy. Each requested target is checked and connected to in `dial.rs`, like any
//! other.
//!
//! The proxy listens on loopback, and nothing else in the pod can use it: the password is random and never leaves the
//! process. The user name identifies one client, so that a client can be told which of its own connections failed.
//!
//! What brokers send is counted here, because krafka cannot be told when to stop (`meter.rs`).

mod meter;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::dial::{DialError, shown};
use super::egress::Egress;
use super::limits::Limits;
use super::names;

pub(super) use self::meter::Round;
use self::meter::{Meter, Pool};

/// Time limit for the greeting of a connection. It comes from this process.
const GREETING: Duration = Duration::from_secs(2);

/// Size of the buffer for reading from a broker, in bytes.
const PIECE: usize = 16 << 10;

/// Pause after the system failed to accept a connection, mostly for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

const VERSION: u8 = 5;
const BY_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;

/// Reply codes of RFC 1928.
mod reply {
    pub(super) const CONNECTED: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
    pub(super) const UNREACHABLE: u8 = 4;
    pub(super) const UNKNOWN_COMMAND: u8 = 7;
    pub(super) const UNKNOWN_KIND: u8 = 8;
}

/// The proxy. Dropping it closes its connections.
pub(super) struct Tunnel {
    address: SocketAddr,
    password: String,
    limits: Limits,
    pool: Pool,
    clients: Clients,
    next: AtomicU64,
    #[allow(dead_code, reason = "dropping it ends the task")]
    listening: AbortOnDropHandle<()>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password is left out.
        formatter.debug_struct("Tunnel").field("address", &self.address).finish_non_exhaustive()
    }
}

/// One client's access to the proxy.
#[derive(Debug)]
pub(super) struct Pass {
    tunnel: Arc<Tunnel>,
    client: Arc<Client>,
}

#[derive(Debug)]
struct Client {
    user: String,
    /// Where the client's brokers may be.
    egress: Egress,
    /// How names without a dot are looked up.
    home: Home,
    connections: Semaphore,
    meter: Meter,
    /// Why a connection was not made, and how many more times to report it. A denial takes precedence.
    trouble: Mutex<Option<(DialError, u32)>>,
}

/// Number of times that a denial is reported: a client that was denied waits before its next attempt, and is asked
/// again meanwhile.
const TOLD: u32 = 10;

/// How a client's brokers' names without a dot are looked up.
#[derive(Debug, Clone, Default)]
pub(super) enum Home {
    /// As this process looks them up.
    #[default]
    Here,
    /// As a Service of this namespace.
    Namespace(String),
    /// Not at all, because the namespace is unknown.
    Unknown,
}

impl Home {
    /// Returns the name that a broker advertises in the form in which it is looked up.
    fn locate(&self, target: String) -> Result<String, DialError> {
        let is_short = target.rsplit_once(':').is_some_and(|(host, _)| names::is_short(host));
        match self {
            Self::Namespace(namespace) if is_short => Ok(names::of_namespace(&target, namespace)),
            Self::Unknown if is_short => Err(DialError::Unresolved {
                host: shown(&target),
                detail: "a broker advertises this name, which lacks a namespace; make it advertise a name with its namespace (advertised.listeners)".to_owned(),
            }),
            _ => Ok(target),
        }
    }
}

/// The clients that may use the proxy.
type Clients = Arc<Mutex<Vec<Arc<Client>>>>;

impl Tunnel {
    /// Starts the proxy. Connections to brokers must be made within `patience`.
    pub(super) async fn open(limits: Limits, patience: Duration) -> io::Result<Arc<Self>> {
        let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        let listener = TcpListener::bind(&loopback[..]).await?;
        let address = listener.local_addr()?;
        let mut secret = [0; 16];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut secret).map_err(|_| io::Error::other("the system's random number generator failed"))?;
        let password = format!("{:032x}", u128::from_be_bytes(secret));
        let clients = Clients::default();
        let door = Door {
            patience,
            password: password.clone(),
            connections: Semaphore::new(limits.connections),
            limits,
            clients: Arc::clone(&clients),
        };
        let listener = AbortOnDropHandle::new(tokio::spawn(door.listen(listener)));
        let pool = Pool::new(limits.in_flight_bytes);
        Ok(Arc::new(Self { address, password, limits, pool, clients, next: AtomicU64::new(0), listening: listener }))
    }

    /// Registers a client, whose brokers may be where `egress` allows.
    pub(super) fn pass(self: &Arc<Self>, egress: Egress, home: Home) -> Pass {
        let client = Arc::new(Client {
            user: self.next.fetch_add(1, Ordering::Relaxed).to_string(),
            egress,
            home,
            connections: Semaphore::new(self.limits.connections_per_cluster),
            meter: Meter::new(self.pool.clone()),
            trouble: Mutex::default(),
        });
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&client));
        Pass { tunnel: Arc::clone(self), client }
    }
}

impl Pass {
    /// Returns the address of the proxy, the user and the password.
    pub(super) fn way(&self) -> (String, &str, &str) {
        (self.tunnel.address.to_string(), &self.client.user, &self.tunnel.password)
    }

    /// Returns how many bytes brokers have sent in this round, or before the first one.
    pub(super) fn sent(&self) -> u64 {
        self.client.meter.sent()
    }

    /// Begins a round, in which brokers may send `bytes`.
    pub(super) fn round(&self, bytes: u64) -> Round<'_> {
        self.client.meter.round(bytes)
    }

    /// Returns why a connection was not made recently, if one was not.
    pub(super) fn trouble(&self) -> Option<DialError> {
        let mut trouble = self.client.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let (error, left) = trouble.take()?;
        if left > 1 {
            *trouble = Some((error.clone(), left - 1));
        }
        Some(error)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut clients = self.tunnel.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|client| !Arc::ptr_eq(client, &self.client));
    }
}

impl Client {
    fn note(&self, error: DialError) {
        let weight = |error: &DialError| match error {
            DialError::Refused { .. } => 2,
            DialError::LimitExceeded { .. } => 1,
            _ => 0,
        };
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_ref().is_none_or(|(before, _)| weight(before) <= weight(&error)) {
            let told = if matches!(error, DialError::Refused { .. }) { TOLD } else { 1 };
            *trouble = Some((error, told));
        }
    }
}

/// The state of the listening task.
struct Door {
    limits: Limits,
    connections: Semaphore,
    patience: Duration,
    password: String,
    clients: Clients,
}

impl Door {
    async fn listen(self, listener: TcpListener) {
        let door = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let door = Arc::clone(&door);
                        // An error ends one connection, and its client notices that.
                        connections.spawn(async move { _ = door.serve(stream).await });
                    }
                    Err(error) => {
                        warn!(%error, "failed to accept a connection to brokers");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Serves one connection to its end.
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let greeted = timeout(GREETING, self.greet(&mut stream)).await?;
        let Some((client, target)) = greeted? else { return Ok(()) };
        let _places = match self.places(&client) {
            Ok(places) => places,
            Err(error) => {
                client.note(error);
                return answer(&mut stream, reply::FAILED).await;
            }
        };
        let connecting = async { client.egress.connect(&client.home.locate(target)?, self.patience).await };
        let mut broker = match connecting.await {
            Ok(broker) => broker,
            Err(error) => {
                let code = match error {
                    DialError::Refused { .. } => reply::REFUSED,
                    _ => reply::UNREACHABLE,
                };
                client.note(error);
                return answer(&mut stream, code).await;
            }
        };
        broker.set_nodelay(true)?;
        let cut = client.meter.cut();
        answer(&mut stream, reply::CONNECTED).await?;
        let ((mut from_client, mut to_client), (from_broker, mut to_broker)) = (stream.split(), broker.split());
        // Neither side of Kafka's protocol closes only one direction of a connection.
        tokio::select! {
            ended = tokio::io::copy(&mut from_client, &mut to_broker) => ended.map(drop),
            ended = counted(&client, from_broker, &mut to_client) => ended,
            () = cut.cancelled() => Ok(()),
        }
    }

    /// Reserves one of the client's connections and one of the process's.
    fn places<'a>(&'a self, client: &'a Client) -> Result<[SemaphorePermit<'a>; 2], DialError> {
        let Limits { connections, connections_per_cluster, .. } = self.limits;
        let exceeded = |detail: String| DialError::LimitExceeded { detail };
        if let Some(bytes) = client.meter.exceeded() {
            return Err(too_large(bytes));
        }
        let own = client.connections.try_acquire().map_err(|_| {
            exceeded(format!(
                "the cluster already has {connections_per_cluster} connections, the limit of a cluster"
            ))
        })?;
        let all = self.connections.try_acquire().map_err(|_| {
            exceeded(format!("the operator already has {connections} connections to brokers, its limit; ask Sluice's administrator for more open files (ulimit -n)"))
        })?;
        Ok([own, all])
    }

    /// Reads the client and its target; `None` if it was rejected.
    async fn greet(&self, stream: &mut TcpStream) -> io::Result<Option<(Arc<Client>, String)>> {
        let (version, methods) = (stream.read_u8().await?, text(stream).await?);
        if version != VERSION || !methods.contains(&BY_PASSWORD) {
            stream.write_all(&[VERSION, 0xff]).await?;
            return Ok(None);
        }
        stream.write_all(&[VERSION, BY_PASSWORD]).await?;
        let _version = stream.read_u8().await?;
        let (user, password) = (text(stream).await?, text(stream).await?);
        let Some(client) = self.client(&user, &password) else {
            stream.write_all(&[1, 1]).await?;
            return Ok(None);
        };
        stream.write_all(&[1, 0]).await?;
        let mut request = [0; 4];
        stream.read_exact(&mut request).await?;
        let [_, command, _, kind] = request;
        let host = match kind {
            1 => Some(SocketAddr::new(IpAddr::from(stream.read_u32().await?.to_be_bytes()), 0)),
            4 => Some(SocketAddr::new(IpAddr::from(stream.read_u128().await?.to_be_bytes()), 0)),
            3 => None,
            _ => {
                answer(stream, reply::UNKNOWN_KIND).await?;
                return Ok(None);
            }
        };
        let target = if let Some(mut address) = host {
            address.set_port(stream.read_u16().await?);
            address.to_string()
        } else {
            let name = text(stream).await?;
            format!("{}:{}", String::from_utf8_lossy(&name), stream.read_u16().await?)
        };
        if command != CONNECT {
            answer(stream, reply::UNKNOWN_COMMAND).await?;
            return Ok(None);
        }
        Ok(Some((client, target)))
    }

    fn client(&self, user: &[u8], password: &[u8]) -> Option<Arc<Client>> {
        let ours = self.password.as_bytes();
        // The time of the comparison does not depend on how many bytes are right.
        let differs = ours.iter().zip(password).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 || ours.len() != password.len() {
            return None;
        }
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.iter().find(|client| client.user.as_bytes() == user).cloned()
    }
}

/// Copies what the broker sends until it has sent too much.
async fn counted(client: &Client, mut broker: ReadHalf<'_>, to_client: &mut WriteHalf<'_>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = broker.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        if let Err(bytes) = client.meter.take(u64::try_from(length).unwrap_or(u64::MAX)).await {
            client.note(too_large(bytes));
            return Ok(());
        }
        to_client.write_all(piece.get(..length).unwrap_or_default()).await?;
    }
}

/// Returns the error for brokers of a cluster that have sent more than this in one round.
fn too_large(bytes: u64) -> DialError {
    let detail = format!(
        "its brokers sent more than {} MiB in one round, the limit; use a topic with fewer partitions, or a group with fewer members and less commit metadata",
        bytes >> 20
    );
    DialError::LimitExceeded { detail }
}

/// Reads bytes that are preceded by their number.
async fn text(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Sends the reply to a request. The client does not use the address in it.
async fn answer(stream: &mut TcpStream, code: u8) -> io::Result<()> {
    stream.write_all(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

#[cfg(test)]
mod tests;
