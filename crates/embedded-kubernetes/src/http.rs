//! Serves the API over HTTP on loopback, in plain text or with TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::serve::Listener;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::api::Server;
use super::tls::Identity;
use sluice_base::tls_listener::TlsListener;

/// Serves until `stop` is cancelled. Addresses that other machines can reach are refused: this server is not meant for
/// them.
pub async fn serve(server: Server, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    require_loopback(listener.local_addr()?)?;
    run(server, listener, stop).await
}

/// Serves with TLS, under the same conditions as [`serve`].
pub async fn serve_tls(
    server: Server,
    listener: TcpListener,
    identity: Identity,
    stop: CancellationToken,
) -> io::Result<()> {
    require_loopback(listener.local_addr()?)?;
    run(server, TlsListener::new(listener, identity.config), stop).await
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
    // Watches last as long as their clients want: they are cut off, not waited for.
    tokio::select! {
        outcome = serving => outcome,
        () = ended.cancelled() => Ok(()),
    }
}

fn require_loopback(address: SocketAddr) -> io::Result<()> {
    let is_loopback = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if is_loopback {
        return Ok(());
    }
    let message = format!(
        "failed to serve at {address}: other machines could reach this server; use a loopback address such as 127.0.0.1"
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
