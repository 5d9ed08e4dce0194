//! A SOCKS5 listener in this process (RFC 1928, 1929; CONNECT alone), for a client library that dials by itself and has no
//! hook but a proxy. What it asks for is judged and dialled in `dial.rs`, as if we had been asked to.
//!
//! It listens on loopback, and nobody else in the pod can use it: the password is random and never leaves the process. The
//! user names one client, so that each can be told what became of its own connections.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::dial::DialError;
use super::egress::Egress;

/// The first words of a connection take at most so long. They come from this process.
const GREETING: Duration = Duration::from_secs(2);

/// A client has at most so many connections at a time: more than a cluster has brokers, far fewer than a process has files.
const MOST_CONNECTIONS: usize = 500;

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
    connections: Semaphore,
    /// Why a connection was not made, and how often that is still to be told; a refusal, if there was one.
    trouble: Mutex<Option<(DialError, u32)>>,
}

/// A refusal is told so often: whoever was refused waits before the next try, and is asked again meanwhile.
const TOLD: u32 = 10;

/// Those with a pass.
type Clients = Arc<Mutex<Vec<Arc<Client>>>>;

impl Tunnel {
    /// Listens. A connection is to be made within `patience`.
    pub(super) async fn open(egress: Egress, patience: Duration) -> io::Result<Arc<Self>> {
        let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        let listener = TcpListener::bind(&loopback[..]).await?;
        let address = listener.local_addr()?;
        let mut secret = [0; 16];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut secret).map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let password = format!("{:032x}", u128::from_be_bytes(secret));
        let clients = Clients::default();
        let door = Door { egress, patience, password: password.clone(), clients: Arc::clone(&clients) };
        let listener = AbortOnDropHandle::new(tokio::spawn(door.listen(listener)));
        Ok(Arc::new(Self { address, password, clients, next: AtomicU64::new(0), listening: listener }))
    }

    /// A way through for one more client.
    pub(super) fn pass(self: &Arc<Self>) -> Pass {
        let user = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let client = Client { user, connections: Semaphore::new(MOST_CONNECTIONS), trouble: Mutex::default() };
        let client = Arc::new(client);
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&client));
        Pass { tunnel: Arc::clone(self), client }
    }
}

impl Pass {
    /// Where the proxy listens, and the user and the password that it lets in.
    pub(super) fn way(&self) -> (String, &str, &str) {
        (self.tunnel.address.to_string(), &self.client.user, &self.tunnel.password)
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
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |error: &DialError| matches!(error, DialError::Refused { .. });
        if refused(&error) {
            *trouble = Some((error, TOLD));
        } else if !trouble.as_ref().is_some_and(|(before, _)| refused(before)) {
            *trouble = Some((error, 1));
        }
    }
}

/// What the listener's task has.
struct Door {
    egress: Egress,
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
        let Ok(_place) = client.connections.try_acquire() else {
            let detail = format!("the cluster has {MOST_CONNECTIONS} connections already");
            client.note(DialError::Failed { host: target, detail });
            return answer(&mut stream, reply::FAILED).await;
        };
        let mut broker = match self.egress.connect(&target, self.patience).await {
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
        answer(&mut stream, reply::CONNECTED).await?;
        let ((mut from_client, mut to_client), (mut from_broker, mut to_broker)) = (stream.split(), broker.split());
        // Neither side of Kafka's protocol closes only half of a connection.
        tokio::select! {
            ended = tokio::io::copy(&mut from_client, &mut to_broker) => ended.map(drop),
            ended = tokio::io::copy(&mut from_broker, &mut to_client) => ended.map(drop),
        }
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
