//! The server over HTTP on loopback: plain, or with TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::api::Server;
use super::tls::Identity;

/// How long a client may take to agree on a key.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many clients may be at that at once; the others wait in the queue of the system.
const HANDSHAKES: usize = 128;

/// Serves until it is stopped. Addresses that other machines can reach are refused: this is no server for them.
pub async fn serve(server: Server, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    loopback(listener.local_addr()?)?;
    run(server, listener, stop).await
}

/// The same with TLS.
pub async fn serve_tls(
    server: Server,
    listener: TcpListener,
    identity: Identity,
    stop: CancellationToken,
) -> io::Result<()> {
    loopback(listener.local_addr()?)?;
    let acceptor = TlsAcceptor::from(identity.config);
    run(server, Handshakes { listener, acceptor, under_way: JoinSet::new() }, stop).await
}

async fn run<L>(server: Server, listener: L, stop: CancellationToken) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let router = Router::new().fallback(move |request: Request<Body>| {
        let server = server.clone();
        async move { server.answer(request).await }
    });
    let ended = stop.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    // Watches last as long as their clients like: they are cut off, not waited for.
    tokio::select! {
        outcome = serving => outcome,
        () = ended.cancelled() => Ok(()),
    }
}

fn loopback(address: SocketAddr) -> io::Result<()> {
    let inside = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if inside {
        return Ok(());
    }
    let message =
        format!("failed to serve at {address}: it is not a loopback address, and others must not reach this server");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Connections whose client has agreed on a key. One that is slow at it holds up no other.
struct Handshakes {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    under_way: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl Listener for Handshakes {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                (stream, address) = Listener::accept(&mut self.listener), if self.under_way.len() < HANDSHAKES => {
                    let shaking = self.acceptor.accept(stream);
                    self.under_way.spawn(async move {
                        // Whoever fails at it was no client of ours, or does not trust us: nothing to be done here.
                        let stream = tokio::time::timeout(HANDSHAKE, shaking).await.ok()?.ok()?;
                        Some((stream, address))
                    });
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
