//! HTTP: health and metrics.
//!
//! The operator is live if it answers and no reconcile hangs. It is ready if it stands by, or if it leads and its
//! caches are synced. A missing custom resource definition makes the operator unready but not dead: a restart would not
//! install the definition.

pub mod access;
pub mod metrics;
pub mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use sluice_base::clock::Clock;
use sluice_base::tls_listener::TlsListener;

use access::Access;
use metrics::Metrics;

/// A reconcile that takes this long hangs. Each of its few requests has a timeout of at most 10 s.
const HANGS_AFTER: Duration = Duration::from_mins(10);

/// The state from which /livez and /readyz answer. Cheap to clone; all clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    standby: AtomicBool,
    synced: AtomicBool,
    /// Start time of each reconcile that is under way, and its unique number.
    under_way: Mutex<BTreeSet<(Instant, u64)>>,
    /// Number of reconciles that have begun.
    begun: AtomicU64,
}

/// Marks a reconcile as under way until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    health: Health,
    begun: (Instant, u64),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.health.under_way().remove(&self.begun);
    }
}

impl Health {
    /// Records that this replica waits for the lease.
    pub fn standing_by(&self) {
        self.0.standby.store(true, Ordering::Relaxed);
    }

    /// Records that this replica leads. It is ready once its caches are synced.
    pub fn leading(&self) {
        self.0.standby.store(false, Ordering::Relaxed);
    }

    /// Records that the caches are synced.
    pub fn synced(&self) {
        self.0.synced.store(true, Ordering::Relaxed);
    }

    /// Records that a reconcile begins.
    pub(crate) fn reconciling(&self, now: Instant) -> UnderWay {
        let begun = (now, self.0.begun.fetch_add(1, Ordering::Relaxed));
        self.under_way().insert(begun);
        UnderWay { health: self.clone(), begun }
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeSet<(Instant, u64)>> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers /livez. The kubelet restarts a process whose reconcile hangs, and a stand-by takes over.
    pub(crate) fn alive(&self, now: Instant) -> (StatusCode, &'static str) {
        let oldest = self.under_way().first().copied();
        if oldest.is_some_and(|(begun, _)| now.saturating_duration_since(begun) >= HANGS_AFTER) {
            (StatusCode::SERVICE_UNAVAILABLE, "a reconcile hangs\n")
        } else {
            (StatusCode::OK, "ok\n")
        }
    }

    /// Answers /readyz.
    fn state(&self) -> (StatusCode, &'static str) {
        if self.0.standby.load(Ordering::Relaxed) {
            (StatusCode::OK, "standby\n")
        } else if self.0.synced.load(Ordering::Relaxed) {
            (StatusCode::OK, "leader\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "caches not synced: are the custom resource definitions installed?\n")
        }
    }
}

/// Listens on `address`. Port 0 selects a free port.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("failed to listen on {address}: {error}; choose another address with --listen"),
        )
    })
}

/// Serves /livez, /readyz and /metrics until `stop` is cancelled. With `access`, /metrics requires its authorization;
/// with `tls`, everything is served over TLS only.
pub async fn run(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    access: Option<Access>,
    tls: Option<Arc<ServerConfig>>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = router(health, metrics, access);
    let stopped = async move { stop.cancelled().await };
    match tls {
        None => axum::serve(listener, router).with_graceful_shutdown(stopped).await,
        Some(config) => axum::serve(TlsListener::new(listener, config), router).with_graceful_shutdown(stopped).await,
    }
}

fn router(health: Health, metrics: Metrics, access: Option<Access>) -> axum::Router {
    let metrics = move |headers: HeaderMap| {
        let (metrics, access) = (metrics.clone(), access.clone());
        async move {
            let refused = match &access {
                Some(access) => access.check(&headers).await.err(),
                None => None,
            };
            refused.map_or_else(|| page(&metrics).into_response(), IntoResponse::into_response)
        }
    };
    axum::Router::new()
        .route("/livez", get(|State(health): State<Health>| async move { health.alive(Clock::system().monotonic()) }))
        .route("/readyz", get(|State(health): State<Health>| async move { health.state() }))
        .with_state(health)
        .route("/metrics", get(metrics))
}

fn page(metrics: &Metrics) -> impl IntoResponse + use<> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    metrics.encode().map_or_else(
        || (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new()),
        |text| (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text),
    )
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(method: &str, path: &str) -> (StatusCode, usize) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = router(Health::default(), Metrics::default(), None).oneshot(request).await.unwrap();
        let status = answer.status();
        (status, axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap().len())
    }

    /// Catalogue: S26.
    #[tokio::test(start_paused = true)]
    async fn only_a_hanging_reconcile_fails_the_liveness_check() {
        let (health, clock) = (Health::default(), Clock::system());
        let hanging = health.reconciling(clock.monotonic());
        for _ in 0..3 {
            tokio::time::advance(HANGS_AFTER / 4).await;
            drop(health.reconciling(clock.monotonic()));
            assert_eq!(health.alive(clock.monotonic()).0, StatusCode::OK);
        }
        let younger = health.reconciling(clock.monotonic());
        tokio::time::advance(HANGS_AFTER / 4).await;
        assert_eq!(health.alive(clock.monotonic()).0, StatusCode::SERVICE_UNAVAILABLE);
        drop(hanging);
        assert_eq!(health.alive(clock.monotonic()).0, StatusCode::OK);
        drop(younger);
    }

    /// Catalogue: S29.
    #[tokio::test]
    async fn only_health_and_metrics_are_served() {
        assert_eq!(ask("GET", "/livez").await, (StatusCode::OK, "ok\n".len()));
        assert_eq!(ask("GET", "/readyz?verbose").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask("GET", "/metrics").await.0, StatusCode::OK);
        for path in [
            "/",
            "/debug/pprof/",
            "/debug/pprof/heap",
            "/config",
            "/env",
            "/metrics/x",
            "/readyz/../metrics",
            "//metrics",
        ] {
            assert_eq!(ask("GET", path).await, (StatusCode::NOT_FOUND, 0), "{path}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(ask(method, "/livez").await, (StatusCode::METHOD_NOT_ALLOWED, 0), "{method}");
        }
    }
}
