//! The server in memory: a `tower::Service` that a client takes for a connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use tower::Service;

use super::api::Server;

/// Answers requests without a network. `kube::Client::new(InMemory::new(server), "default")` is a client of it.
#[derive(Debug, Clone)]
pub struct InMemory(Server);

impl InMemory {
    /// A connection to the server.
    pub fn new(server: Server) -> Self {
        Self(server)
    }
}

impl<B> Service<Request<B>> for InMemory
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.0.clone();
        let request = request.map(Body::new);
        Box::pin(async move { Ok(server.answer(request).await) })
    }
}
