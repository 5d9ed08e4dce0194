//! A listener for TLS connections.

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

/// Time limit of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of handshakes at a time. One more ends the oldest, so that silent clients cannot keep other clients
/// out.
const MAX_HANDSHAKES: usize = 128;

/// Accepts connections and completes their TLS handshakes. A slow handshake does not delay other connections.
pub struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
    /// Running handshakes, the oldest first.
    ends: VecDeque<AbortHandle>,
}

impl TlsListener {
    /// Creates a listener that serves connections with this configuration.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        Self { listener, acceptor: TlsAcceptor::from(config), handshakes: JoinSet::new(), ends: VecDeque::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                (stream, address) = Listener::accept(&mut self.listener) => {
                    self.ends.retain(|end| !end.is_finished());
                    if self.ends.len() >= MAX_HANDSHAKES && let Some(oldest) = self.ends.pop_front() {
                        oldest.abort();
                    }
                    let handshake = self.acceptor.accept(stream);
                    let end = self.handshakes.spawn(async move {
                        // A client that fails here does not speak TLS or does not trust the certificate. There is
                        // nothing to do.
                        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.ok()?.ok()?;
                        Some((stream, address))
                    });
                    self.ends.push_back(end);
                }
                Some(done) = self.handshakes.join_next() => {
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
