//! An in-memory connection to the server: a `tower::Service` that a client uses like a network connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, Response, header};
use tower::Service;

use super::api::Server;
use super::store::Store;

/// Answers requests without a network. `kube::Client::new(InMemory::new(server), "default")` is a client that uses it.
#[derive(Debug, Clone)]
pub struct InMemory {
    server: Server,
    authorization: Option<HeaderValue>,
}

impl InMemory {
    /// Creates a connection to the server.
    pub fn new(server: Server) -> Self {
        Self { server, authorization: None }
    }

    /// Returns the store of the server.
    pub(super) fn store(&self) -> &Store {
        self.server.store()
    }

    /// Adds a bearer token to each request.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.authorization = HeaderValue::from_str(&format!("Bearer {token}")).ok();
        self
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
        let server = self.server.clone();
        let mut request = request.map(Body::new);
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        Box::pin(async move { Ok(server.answer(request).await) })
    }
}
