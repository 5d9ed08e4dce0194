//! The worker's HTTP endpoints: metrics, liveness and readiness.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;

/// Time without a turn of the consuming loop after which it counts as stuck. A turn is limited by request timeouts and
/// the handover, some tens of seconds; a loop that has not turned for this long never will.
const STUCK_AFTER: Duration = Duration::from_mins(3);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Builds the routes. While `stop` is cancelled the worker drains and is not ready. With `ready_early` it is ready
/// before it has joined its group.
pub(super) fn router(engine: Arc<Engine>, registry: Registry, stop: CancellationToken, ready_early: bool) -> Router {
    let registry = Arc::new(registry);
    let alive = Arc::clone(&engine);
    Router::new()
        .route("/metrics", get(move || std::future::ready(metrics(&registry))))
        .route("/livez", get(move || std::future::ready(livez(&alive))))
        .route("/readyz", get(move || std::future::ready(readyz(&engine, &stop, ready_early))))
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A broker that is unavailable is not a reason for a restart; a stuck loop is.
fn livez(engine: &Engine) -> Response {
    let last_turn = *engine.last_turn.lock();
    match last_turn.map(|at| engine.clock.monotonic().saturating_duration_since(at)) {
        Some(since) if since > STUCK_AFTER => {
            let text = format!("the consuming loop has been stuck for {} s\n", since.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        _ => "ok\n".into_response(),
    }
}

fn readyz(engine: &Engine, stop: &CancellationToken, ready_early: bool) -> Response {
    if stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else if ready_early || engine.joined.load(Relaxed) {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "has not joined the group yet\n").into_response()
    }
}
