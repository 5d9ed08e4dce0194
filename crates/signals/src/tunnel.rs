//! A SOCKS5 listener in this process (RFC 1928, 1929; CONNECT alone), for a client library that dials by itself and has no
//! hook but a proxy. What it asks for is judged and dialled in `dial.rs`, as if we had been asked to.
//!
//! It listens on loopback, and nobody else in the pod can use it: the password is random and never leaves the process. The
//! user names one client, so that each can be told what became of its own connections.
//!
//! What brokers send is counted here, for krafka cannot be told when to stop (`meter.rs`).

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

/// The first words of a connection take at most so long. They come from this process.
const GREETING: Duration = Duration::from_secs(2);

/// What is read of a broker at a time, in bytes.
const PIECE: usize = 16 << 10;

/// Pause after the system would not give a connection, mostly for want of files.
const PAUSE: Duration = Duration::from_millis(100);

const VERSION: u8 = 5;
const BY_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;

/// Replies of RFC 1928.
mod reply {
    pub(super) const CONNECTED: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
    pub(super) const UNREACHABLE: u8 = 4;
    pub(super) const UNKNOWN_COMMAND: u8 = 7;
    pub(super) const UNKNOWN_KIND: u8 = 8;
}

/// The listener. Dropped, it takes its connections along.
pub(super) struct Tunnel {
    address: SocketAddr,
    password: String,
    limits: Limits,
    pool: Pool,
    clients: Clients,
    next: AtomicU64,
    #[allow(dead_code, reason = "dropped with the rest, it ends")]
    listening: AbortOnDropHandle<()>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        formatter.debug_struct("Tunnel").field("address", &self.address).finish_non_exhaustive()
    }
}

/// One client's way through the tunnel.
#[derive(Debug)]
pub(super) struct Pass {
    tunnel: Arc<Tunnel>,
    client: Arc<Client>,
}

#[derive(Debug)]
struct Client {
    user: String,
    /// Where its brokers may be.
    egress: Egress,
    /// The namespace in which a name without a dot is looked up.
    home: Home,
    connections: Semaphore,
    meter: Meter,
    /// Why a connection was not made, and how often that is still to be told; a refusal, if there was one.
    trouble: Mutex<Option<(DialError, u32)>>,
}

/// A refusal is told so often: whoever was refused waits before the next try, and is asked again meanwhile.
const TOLD: u32 = 10;

/// What a name without a dot is to a client's brokers.
#[derive(Debug, Clone, Default)]
pub(super) enum Home {
    /// The host of that name, as this process looks it up.
    #[default]
    Here,
    /// A Service of this namespace.
    Namespace(String),
    /// It is not known.
    Unknown,
}

impl Home {
    /// What a broker names, as it is to be looked up.
    fn locate(&self, target: String) -> Result<String, DialError> {
        let is_short = target.rsplit_once(':').is_some_and(|(host, _)| names::is_short(host));
        match self {
            Self::Namespace(namespace) if is_short => Ok(names::of_namespace(&target, namespace)),
            Self::Unknown if is_short => Err(DialError::Unresolved {
                host: shown(&target),
                detail: "a broker calls itself so, and in which namespace that is cannot be told; let it advertise a name with its namespace (advertised.listeners)".to_owned(),
            }),
            _ => Ok(target),
        }
    }
}

/// Those with a pass.
type Clients = Arc<Mutex<Vec<Arc<Client>>>>;

impl Tunnel {
    /// Listens. A connection is to be made within `patience`.
    pub(super) async fn open(limits: Limits, patience: Duration) -> io::Result<Arc<Self>> {
        let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        let listener = TcpListener::bind(&loopback[..]).await?;
        let address = listener.local_addr()?;
        let mut secret = [0; 16];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut secret).map_err(|_| io::Error::other("the system gives no random numbers"))?;
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

    /// A way through for one more client, whose brokers may be where `egress` says.
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
    /// Where the proxy listens, and the user and the password that it lets in.
    pub(super) fn way(&self) -> (String, &str, &str) {
        (self.tunnel.address.to_string(), &self.client.user, &self.tunnel.password)
    }

    /// What brokers have sent in this round, or before the first, in bytes.
    pub(super) fn sent(&self) -> u64 {
        self.client.meter.sent()
    }

    /// Begins a round, in which brokers may send so many bytes.
    pub(super) fn round(&self, bytes: u64) -> Round<'_> {
        self.client.meter.round(bytes)
    }

    /// Why a connection was not made lately, if one was not.
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

/// What the listener's task has.
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
                        // An error is the end of one connection; its client sees that.
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

    /// One connection, to its end.
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
        // Neither side of Kafka's protocol closes only half of a connection.
        tokio::select! {
            ended = tokio::io::copy(&mut from_client, &mut to_broker) => ended.map(drop),
            ended = counted(&client, from_broker, &mut to_client) => ended,
            () = cut.cancelled() => Ok(()),
        }
    }

    /// A place for one more connection of the client, and one of the process.
    fn places<'a>(&'a self, client: &'a Client) -> Result<[SemaphorePermit<'a>; 2], DialError> {
        let Limits { connections, connections_per_cluster, .. } = self.limits;
        let exceeded = |detail: String| DialError::LimitExceeded { detail };
        if let Some(bytes) = client.meter.exceeded() {
            return Err(too_large(bytes));
        }
        let own = client.connections.try_acquire().map_err(|_| {
            exceeded(format!(
                "the cluster has {connections_per_cluster} connections already, the most that one may have"
            ))
        })?;
        let all = self.connections.try_acquire().map_err(|_| {
            exceeded(format!("the operator has {connections} connections to brokers already, the most that it may have; ask its administrator for more files (ulimit -n)"))
        })?;
        Ok([own, all])
    }

    /// Who is there, and where it wants to go; `None` if it was turned away.
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
        // In a time that does not depend on how much of it is right.
        let differs = ours.iter().zip(password).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 || ours.len() != password.len() {
            return None;
        }
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.iter().find(|client| client.user.as_bytes() == user).cloned()
    }
}

/// What the broker sends, until it has sent too much.
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

/// The brokers of a cluster have sent more than this in one round.
fn too_large(bytes: u64) -> DialError {
    let detail = format!(
        "its brokers have sent more than the {} MiB that one round may have; name a topic with fewer partitions, or a group with fewer members and less metadata in its commits",
        bytes >> 20
    );
    DialError::LimitExceeded { detail }
}

/// Bytes after their number.
async fn text(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The reply to a request; the address in it is of no use to anybody.
async fn answer(stream: &mut TcpStream, code: u8) -> io::Result<()> {
    stream.write_all(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

#[cfg(test)]
mod tests;
