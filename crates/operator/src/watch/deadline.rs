//! A client of the API server with a deadline for each request.
//!
//! If a peer disappears silently, a load balancer loses its backend or an answer stops in the middle, the client's own
//! connection waits forever, and a cache whose first list is lost would never be filled.
//!
//! Architecture invariant: no request to the API server waits forever.

use std::time::Duration;

use axum::http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;

/// Deadline of a request. The API server ends requests that are not watches after 60 s (`--request-timeout`), so no
/// answer can arrive later.
const DEADLINE: Duration = Duration::from_secs(65);

/// Returns a client whose requests fail after `DEADLINE`. For a watch the deadline applies to the start of the answer
/// only: its stream may be silent for minutes, and has a limit in the watcher.
pub(crate) fn within_deadline(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let late = format!(
                "{} {} was not answered within {} s",
                request.method(),
                request.uri().path(),
                DEADLINE.as_secs()
            );
            timeout(DEADLINE, answer(&client, request)).await.unwrap_or_else(|_| Err(kube::Error::Service(late.into())))
        }
    });
    Client::new(service, namespace)
}

async fn answer(client: &Client, request: Request<Body>) -> kube::Result<Response<Body>> {
    let query = request.uri().query().unwrap_or_default();
    let streams = query.split('&').any(|pair| pair == "watch=true");
    let (head, body) = client.send(request).await?.into_parts();
    let body = if streams { body } else { Body::from(body.collect_bytes().await?) };
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use axum::body::{Body as Sent, Bytes};
    use futures::{StreamExt as _, stream};
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{Api, ListParams, WatchParams};

    use super::*;
    use sluice_base::clock::Clock;

    /// Returns a client whose server sends the beginning of an answer and then nothing more.
    fn stalled(beginning: &'static str) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let first = stream::iter([Ok::<_, Infallible>(Bytes::from(beginning))]);
            Ok::<_, Infallible>(Response::new(Sent::from_stream(first.chain(stream::pending()))))
        });
        within_deadline(Client::new(service, "team"))
    }

    async fn fails_in_time(client: Client) {
        let clock = Clock::system();
        let begun = clock.monotonic();
        let error = Api::<Pod>::default_namespaced(client).list(&ListParams::default()).await.unwrap_err();
        assert_eq!(clock.monotonic() - begun, DEADLINE);
        let message = error.to_string();
        assert!(message.contains("GET /api/v1/namespaces/team/pods was not answered within 65 s"), "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn unanswered_request_fails_at_the_deadline() {
        let service = tower::service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
        fails_in_time(within_deadline(Client::new(service, "team"))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_answer_fails_at_the_deadline() {
        fails_in_time(stalled("{\"items\": [")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn silent_watch_continues() {
        let line = concat!(
            r#"{"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": "7", "annotations": {}}}}"#,
            "\n"
        );
        let pods = Api::<Pod>::default_namespaced(stalled(line));
        let mut watch = Box::pin(pods.watch(&WatchParams::default(), "1").await.unwrap());
        assert!(watch.next().await.unwrap().is_ok());
        let more = timeout(Duration::from_mins(4), watch.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
