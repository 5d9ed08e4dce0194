//! The connection on which faults are injected.

use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, Response, Uri, header};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{Faults, Harm, stream};
use crate::service::InMemory;
use crate::status::Status;

/// The error of a broken connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("connection reset by peer")]
pub struct Broken;

/// An in-memory connection to the server with planned faults.
#[derive(Debug, Clone)]
pub struct Faulty {
    pub(super) faults: Faults,
    pub(super) life: u32,
    pub(super) crashed: CancellationToken,
    pub(super) server: InMemory,
}

impl<B> Service<Request<B>> for Faulty
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Broken>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (connection, request) = (self.clone(), request.map(Body::new));
        Box::pin(async move {
            if connection.crashed.is_cancelled() || connection.faults.too_many() {
                // A crashed client gets no answers.
                pending::<()>().await;
            }
            let recorded = connection.faults.record_request(connection.life, &request);
            match recorded {
                None => Ok(connection.forward(None, request).await),
                Some((number, None)) => Ok(connection.forward(Some(number), request).await),
                Some((number, Some(harm))) => connection.inject(number, harm, request).await,
            }
        })
    }
}

impl Faulty {
    async fn forward(&self, number: Option<usize>, request: Request<Body>) -> Response<Body> {
        let Ok(answer) = self.server.clone().call(request).await;
        if let Some(number) = number {
            self.faults.record_answer(number, answer.status().as_u16(), true);
        }
        answer
    }

    async fn inject(&self, number: usize, harm: Harm, request: Request<Body>) -> Result<Response<Body>, Broken> {
        match harm {
            Harm::Crash => {
                self.forward(Some(number), request).await;
                self.crashed.cancel();
                pending().await
            }
            Harm::CrashBefore => {
                self.crashed.cancel();
                pending().await
            }
            Harm::Lost => {
                self.forward(Some(number), request).await;
                Err(Broken)
            }
            Harm::Late(seconds) => {
                self.forward_later(seconds, number, request);
                Err(Broken)
            }
            Harm::CrashLate(seconds) => {
                self.forward_later(seconds, number, request);
                self.crashed.cancel();
                pending().await
            }
            Harm::Reset => Err(Broken),
            Harm::Silent => pending().await,
            Harm::Delay(seconds) => {
                sleep(duration(seconds)).await;
                Ok(self.forward(Some(number), request).await)
            }
            Harm::Refuse(code) => {
                self.faults.record_answer(number, code, false);
                Ok(refusal(code))
            }
            Harm::Expire if !is_watch(&request) => {
                self.faults.record_answer(number, 410, false);
                Ok(refusal(410))
            }
            Harm::At(revision) => Ok(self.forward(Some(number), at_revision(request, revision)).await),
            Harm::Cut(_)
            | Harm::Stall(_)
            | Harm::Hold(..)
            | Harm::Overtaken(..)
            | Harm::Twice
            | Harm::Expire
            | Harm::Gap(..) => {
                let streams = is_watch(&request);
                let answer = self.forward(Some(number), request).await;
                let store = self.server.store().clone();
                Ok(if streams { answer.map(|body| stream::with_fault(body, harm, store)) } else { answer })
            }
        }
    }

    /// Forwards the request after a delay, even if its sender has crashed by then.
    fn forward_later(&self, seconds: u32, number: usize, request: Request<Body>) {
        let connection = self.clone();
        tokio::spawn(async move {
            sleep(duration(seconds)).await;
            connection.forward(Some(number), request).await;
        });
    }
}

fn duration(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn is_watch(request: &Request<Body>) -> bool {
    super::act(request, &super::ResourcePath::default()) == super::Act::Watch
}

/// Creates an answer with this code, and with the reason that the real server uses for it.
fn refusal(code: u16) -> Response<Body> {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    let status = Status::new(code, reason, format!("a planned fault: {code}"));
    let mut answer = Response::new(Body::from(status.to_value().to_string()));
    *answer.status_mut() = axum::http::StatusCode::from_u16(code).unwrap_or_default();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(code, 429 | 503) {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// Changes a request to read at a revision if it accepts any version (`resourceVersion=0`). A request for the latest
/// version stays unchanged, because no server may answer it from a cache that lags behind.
fn at_revision(mut request: Request<Body>, revision: u64) -> Request<Body> {
    let query = request.uri().query().unwrap_or_default();
    if !query.split('&').any(|pair| pair == "resourceVersion=0") {
        return request;
    }
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("resourceVersion"));
    let version = [format!("resourceVersion={revision}"), "resourceVersionMatch=Exact".to_owned()];
    let query: Vec<String> = kept.map(str::to_owned).chain(version).collect();
    if let Ok(uri) = format!("{}?{}", request.uri().path(), query.join("&")).parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}
