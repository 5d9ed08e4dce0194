//! A listener whose connections are TLS.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take to agree on a key.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many clients may be at that at once; one more ends the oldest, so that clients that say nothing keep none out.
const HANDSHAKES: usize = 128;

/// Connections whose client has agreed on a key. One that is slow at it holds up no other.
pub struct Handshakes {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    under_way: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
    /// The oldest first.
    ends: VecDeque<AbortHandle>,
}

impl Handshakes {
    /// Who connects there is served by this configuration.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        Self { listener, acceptor: TlsAcceptor::from(config), under_way: JoinSet::new(), ends: VecDeque::new() }
    }
}

impl Listener for Handshakes {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                (stream, address) = Listener::accept(&mut self.listener) => {
                    self.ends.retain(|end| !end.is_finished());
                    if self.ends.len() >= HANDSHAKES && let Some(oldest) = self.ends.pop_front() {
                        oldest.abort();
                    }
                    let shaking = self.acceptor.accept(stream);
                    let end = self.under_way.spawn(async move {
                        // Whoever fails at it was no client of ours, or does not trust us: nothing to be done here.
                        let stream = tokio::time::timeout(HANDSHAKE, shaking).await.ok()?.ok()?;
                        Some((stream, address))
                    });
                    self.ends.push_back(end);
                }
                Some(done) = self.under_way.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
