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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::dial::{DialError, printable};
use super::egress::Egress;
use super::limits::Limits;
use super::service_names;

pub(super) use self::meter::RoundBudget;
use self::meter::{Meter, Pool};

/// Time limit for the greeting of a connection. It comes from this process.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// Size of the buffer for reading from a broker, in bytes.
const PIECE: usize = 16 << 10;

/// Pause after the system failed to accept a connection, mostly for lack of file descriptors.
const PAUSE_AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

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
    clients: ProxyClients,
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
pub(super) struct ProxyHandle {
    tunnel: Arc<Tunnel>,
    client: Arc<ProxyClient>,
}

#[derive(Debug)]
struct ProxyClient {
    user: String,
    /// Where the client's brokers may be.
    egress: Egress,
    /// How names without a dot are looked up.
    short_names: ShortNames,
    connections: Semaphore,
    meter: Meter,
    /// Why a connection was not made, and how many more times to report it. A denial takes precedence.
    last_error: Mutex<Option<(DialError, u32)>>,
}

/// Number of times that a denial is reported: a client that was denied waits before its next attempt, and is asked
/// again meanwhile.
const DENIAL_REPORTS: u32 = 10;

/// How a client's brokers' names without a dot are looked up.
#[derive(Debug, Clone, Default)]
pub(super) enum ShortNames {
    /// As this process looks them up.
    #[default]
    ThisProcess,
    /// As a Service of this namespace.
    Namespace(String),
    /// Not at all, because the namespace is unknown.
    Unknown,
}

impl ShortNames {
    /// Returns the name that a broker advertises in the form in which it is looked up.
    fn qualify(&self, target: String) -> Result<String, DialError> {
        let is_short = target.rsplit_once(':').is_some_and(|(host, _)| service_names::is_short(host));
        match self {
            Self::Namespace(namespace) if is_short => Ok(service_names::qualify(&target, namespace)),
            Self::Unknown if is_short => Err(DialError::Unresolved {
                host: printable(&target),
                detail: "a broker advertises this name, which lacks a namespace; make it advertise a name with its namespace (advertised.listeners)".to_owned(),
            }),
            _ => Ok(target),
        }
    }
}

/// The clients that may use the proxy.
type ProxyClients = Arc<Mutex<Vec<Arc<ProxyClient>>>>;

impl Tunnel {
    /// Starts the proxy. Connections to brokers must be made within `connect_timeout`.
    pub(super) async fn open(limits: Limits, connect_timeout: Duration) -> io::Result<Arc<Self>> {
        let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        let listener = TcpListener::bind(&loopback[..]).await?;
        let address = listener.local_addr()?;
        let mut secret = [0; 16];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut secret).map_err(|_| io::Error::other("the system's random number generator failed"))?;
        let password = format!("{:032x}", u128::from_be_bytes(secret));
        let clients = ProxyClients::default();
        let server = ProxyServer {
            connect_timeout,
            password: password.clone(),
            connections: Semaphore::new(limits.connections),
            limits,
            clients: Arc::clone(&clients),
        };
        let listener = AbortOnDropHandle::new(tokio::spawn(server.listen(listener)));
        let pool = Pool::new(limits.in_flight_bytes);
        Ok(Arc::new(Self { address, password, limits, pool, clients, next: AtomicU64::new(0), listening: listener }))
    }

    /// Registers a client, whose brokers may be where `egress` allows.
    pub(super) fn register_client(self: &Arc<Self>, egress: Egress, short_names: ShortNames) -> ProxyHandle {
        let client = Arc::new(ProxyClient {
            user: self.next.fetch_add(1, Ordering::Relaxed).to_string(),
            egress,
            short_names,
            connections: Semaphore::new(self.limits.connections_per_cluster),
            meter: Meter::new(self.pool.clone()),
            last_error: Mutex::default(),
        });
        self.clients.lock().push(Arc::clone(&client));
        ProxyHandle { tunnel: Arc::clone(self), client }
    }
}

impl ProxyHandle {
    /// Returns the address of the proxy, the user and the password.
    pub(super) fn login(&self) -> (String, &str, &str) {
        (self.tunnel.address.to_string(), &self.client.user, &self.tunnel.password)
    }

    /// Returns how many bytes brokers have sent in this round, or before the first one.
    pub(super) fn sent(&self) -> u64 {
        self.client.meter.sent()
    }

    /// Begins a round, in which brokers may send `bytes`.
    pub(super) fn round(&self, bytes: u64) -> RoundBudget<'_> {
        self.client.meter.round(bytes)
    }

    /// Returns why a connection was not made recently, if one was not.
    pub(super) fn last_error(&self) -> Option<DialError> {
        let mut last_error = self.client.last_error.lock();
        let (error, left) = last_error.take()?;
        if left > 1 {
            *last_error = Some((error.clone(), left - 1));
        }
        Some(error)
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        let mut clients = self.tunnel.clients.lock();
        clients.retain(|client| !Arc::ptr_eq(client, &self.client));
    }
}

impl ProxyClient {
    /// Keeps the error for [`ProxyHandle::last_error`], unless a more important one is kept already.
    fn record_error(&self, error: DialError) {
        let weight = |error: &DialError| match error {
            DialError::Refused { .. } => 2,
            DialError::LimitExceeded { .. } => 1,
            _ => 0,
        };
        let mut last_error = self.last_error.lock();
        if last_error.as_ref().is_none_or(|(before, _)| weight(before) <= weight(&error)) {
            let reports = if matches!(error, DialError::Refused { .. }) { DENIAL_REPORTS } else { 1 };
            *last_error = Some((error, reports));
        }
    }
}

/// The state of the listening task.
struct ProxyServer {
    limits: Limits,
    connections: Semaphore,
    connect_timeout: Duration,
    password: String,
    clients: ProxyClients,
}

impl ProxyServer {
    async fn listen(self, listener: TcpListener) {
        let server = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let server = Arc::clone(&server);
                        // An error ends one connection, and its client notices that.
                        connections.spawn(async move { _ = server.serve(stream).await });
                    }
                    Err(error) => {
                        warn!(%error, "failed to accept a connection to brokers");
                        tokio::time::sleep(PAUSE_AFTER_ACCEPT_ERROR).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Serves one connection to its end.
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let greeting = timeout(GREETING_TIMEOUT, self.handshake(&mut stream)).await?;
        let Some((client, target)) = greeting? else { return Ok(()) };
        let _permits = match self.reserve_connections(&client) {
            Ok(permits) => permits,
            Err(error) => {
                client.record_error(error);
                return send_reply(&mut stream, reply::FAILED).await;
            }
        };
        let connecting =
            async { client.egress.connect(&client.short_names.qualify(target)?, self.connect_timeout).await };
        let mut broker = match connecting.await {
            Ok(broker) => broker,
            Err(error) => {
                let code = match error {
                    DialError::Refused { .. } => reply::REFUSED,
                    _ => reply::UNREACHABLE,
                };
                client.record_error(error);
                return send_reply(&mut stream, code).await;
            }
        };
        broker.set_nodelay(true)?;
        let close = client.meter.close_token();
        send_reply(&mut stream, reply::CONNECTED).await?;
        let ((mut from_client, mut to_client), (from_broker, mut to_broker)) = (stream.split(), broker.split());
        // Neither side of Kafka's protocol closes only one direction of a connection.
        tokio::select! {
            ended = tokio::io::copy(&mut from_client, &mut to_broker) => ended.map(drop),
            ended = copy_counted(&client, from_broker, &mut to_client) => ended,
            () = close.cancelled() => Ok(()),
        }
    }

    /// Reserves one of the client's connections and one of the process's.
    fn reserve_connections<'a>(&'a self, client: &'a ProxyClient) -> Result<[SemaphorePermit<'a>; 2], DialError> {
        let Limits { connections, connections_per_cluster, .. } = self.limits;
        let exceeded = |detail: String| DialError::LimitExceeded { detail };
        if let Some(bytes) = client.meter.exceeded() {
            return Err(round_too_large(bytes));
        }
        let own = client.connections.try_acquire().map_err(|_| {
            exceeded(format!("the cluster already has {connections_per_cluster} connections, the limit of a cluster"))
        })?;
        let all = self.connections.try_acquire().map_err(|_| {
            exceeded(format!("the operator already has {connections} connections to brokers, its limit; ask Sluice's administrator for more open files (ulimit -n)"))
        })?;
        Ok([own, all])
    }

    /// Reads the client and its target; `None` if it was rejected.
    async fn handshake(&self, stream: &mut TcpStream) -> io::Result<Option<(Arc<ProxyClient>, String)>> {
        let (version, methods) = (stream.read_u8().await?, read_bytes(stream).await?);
        if version != VERSION || !methods.contains(&BY_PASSWORD) {
            stream.write_all(&[VERSION, 0xff]).await?;
            return Ok(None);
        }
        stream.write_all(&[VERSION, BY_PASSWORD]).await?;
        let _version = stream.read_u8().await?;
        let (user, password) = (read_bytes(stream).await?, read_bytes(stream).await?);
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
                send_reply(stream, reply::UNKNOWN_KIND).await?;
                return Ok(None);
            }
        };
        let target = if let Some(mut address) = host {
            address.set_port(stream.read_u16().await?);
            address.to_string()
        } else {
            let name = read_bytes(stream).await?;
            format!("{}:{}", String::from_utf8_lossy(&name), stream.read_u16().await?)
        };
        if command != CONNECT {
            send_reply(stream, reply::UNKNOWN_COMMAND).await?;
            return Ok(None);
        }
        Ok(Some((client, target)))
    }

    fn client(&self, user: &[u8], password: &[u8]) -> Option<Arc<ProxyClient>> {
        let ours = self.password.as_bytes();
        // The time of the comparison does not depend on how many bytes are right.
        let differs = ours.iter().zip(password).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 || ours.len() != password.len() {
            return None;
        }
        let clients = self.clients.lock();
        clients.iter().find(|client| client.user.as_bytes() == user).cloned()
    }
}

/// Copies what the broker sends until it has sent too much.
async fn copy_counted(client: &ProxyClient, mut broker: ReadHalf<'_>, to_client: &mut WriteHalf<'_>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = broker.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        if let Err(bytes) = client.meter.count(u64::try_from(length).unwrap_or(u64::MAX)).await {
            client.record_error(round_too_large(bytes));
            return Ok(());
        }
        to_client.write_all(piece.get(..length).unwrap_or_default()).await?;
    }
}

/// Returns the error for brokers of a cluster that have sent more than this in one round.
fn round_too_large(bytes: u64) -> DialError {
    let detail = format!(
        "its brokers sent more than {} MiB in one round, the limit; use a topic with fewer partitions, or a group with fewer members and less commit metadata",
        bytes >> 20
    );
    DialError::LimitExceeded { detail }
}

/// Reads bytes that are preceded by their number.
async fn read_bytes(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Sends the reply to a request. The client does not use the address in it.
async fn send_reply(stream: &mut TcpStream, code: u8) -> io::Result<()> {
    stream.write_all(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

#[cfg(test)]
mod tests;
