//! The connection that faults happen on.

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

/// The connection has broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("connection reset by peer")]
pub struct Broken;

/// A connection to the server in memory, on which things go wrong as planned.
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
                // The dead ask for nothing.
                pending::<()>().await;
            }
            let heard = connection.faults.hear(connection.life, &request);
            match heard {
                None => Ok(connection.ask(None, request).await),
                Some((number, None)) => Ok(connection.ask(Some(number), request).await),
                Some((number, Some(harm))) => connection.harm(number, harm, request).await,
            }
        })
    }
}

impl Faulty {
    async fn ask(&self, number: Option<usize>, request: Request<Body>) -> Response<Body> {
        let Ok(answer) = self.server.clone().call(request).await;
        if let Some(number) = number {
            self.faults.answered(number, answer.status().as_u16(), true);
        }
        answer
    }

    async fn harm(&self, number: usize, harm: Harm, request: Request<Body>) -> Result<Response<Body>, Broken> {
        match harm {
            Harm::Crash => {
                self.ask(Some(number), request).await;
                self.crashed.cancel();
                pending().await
            }
            Harm::CrashBefore => {
                self.crashed.cancel();
                pending().await
            }
            Harm::Lost => {
                self.ask(Some(number), request).await;
                Err(Broken)
            }
            Harm::Late(seconds) => {
                self.later(seconds, number, request);
                Err(Broken)
            }
            Harm::CrashLate(seconds) => {
                self.later(seconds, number, request);
                self.crashed.cancel();
                pending().await
            }
            Harm::Reset => Err(Broken),
            Harm::Silent => pending().await,
            Harm::Delay(seconds) => {
                sleep(whole(seconds)).await;
                Ok(self.ask(Some(number), request).await)
            }
            Harm::Refuse(code) => {
                self.faults.answered(number, code, false);
                Ok(refusal(code))
            }
            Harm::Expire if !is_watch(&request) => {
                self.faults.answered(number, 410, false);
                Ok(refusal(410))
            }
            Harm::At(revision) => Ok(self.ask(Some(number), at(request, revision)).await),
            Harm::Cut(_)
            | Harm::Stall(_)
            | Harm::Hold(..)
            | Harm::Overtaken(..)
            | Harm::Twice
            | Harm::Expire
            | Harm::Gap(..) => {
                let streams = is_watch(&request);
                let answer = self.ask(Some(number), request).await;
                let store = self.server.store().clone();
                Ok(if streams { answer.map(|body| stream::harmed(body, harm, store)) } else { answer })
            }
        }
    }

    /// The request is on its way, whatever becomes of who has sent it.
    fn later(&self, seconds: u32, number: usize, request: Request<Body>) {
        let connection = self.clone();
        tokio::spawn(async move {
            sleep(whole(seconds)).await;
            connection.ask(Some(number), request).await;
        });
    }
}

fn whole(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn is_watch(request: &Request<Body>) -> bool {
    super::act(request, &super::ResourcePath::default()) == super::Act::Watch
}

/// An answer that nobody has thought about: the word that the real server has for the code.
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
    let status = Status::new(code, reason, format!("a fault that was planned: {code}"));
    let mut answer = Response::new(Body::from(status.to_value().to_string()));
    *answer.status_mut() = axum::http::StatusCode::from_u16(code).unwrap_or_default();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(code, 429 | 503) {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// The same request for the state at a revision, if whoever asks has said that any will do (`resourceVersion=0`). Who asks for
/// the newest gets it: no server may answer that from a cache that is behind.
fn at(mut request: Request<Body>, revision: u64) -> Request<Body> {
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
