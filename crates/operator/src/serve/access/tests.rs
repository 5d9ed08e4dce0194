//! Tests against a scripted API server.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// Returns an authorizer, and the number of requests to its API server, which knows the tokens `reader` and `other` and
/// allows only the first to read.
fn access() -> (Access, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            review["status"] = match path.as_str() {
                "/apis/authentication.k8s.io/v1/tokenreviews" => match review["spec"]["token"].as_str().unwrap() {
                    "down" => return Ok(Response::builder().status(500).body(Body::from(b"no".to_vec())).unwrap()),
                    "silent" => std::future::pending().await,
                    name @ ("reader" | "other") => {
                        json!({"authenticated": true, "user": {"username": name, "groups": ["g"]}})
                    }
                    "nameless" => json!({"authenticated": true, "user": {"groups": ["g"]}}),
                    // The answer has a user but is not authenticated.
                    _ => json!({"authenticated": false, "user": {"username": "reader"}}),
                },
                "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                    assert_eq!(review["spec"]["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
                    assert_eq!(review["spec"]["groups"], json!(["g"]));
                    json!({"allowed": review["spec"]["user"] == "reader"})
                }
                other => panic!("unexpected request for {other}"),
            };
            let body = Body::from(serde_json::to_vec(&review).unwrap());
            Ok::<_, std::convert::Infallible>(Response::builder().status(201).body(body).unwrap())
        }
    });
    (Access::new(Client::new(service, "default"), Clock::system()), asked)
}

fn headers(authorization: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
}

async fn status(access: &Access, authorization: &str) -> u16 {
    access.check(&headers(authorization)).await.map_or_else(|(status, _)| status.as_u16(), |()| 200)
}

/// Catalogue: S27.
#[tokio::test(start_paused = true)]
async fn metrics_require_authorization() {
    let (access, _) = access();
    assert_eq!(access.check(&HeaderMap::new()).await.unwrap_err().0, StatusCode::UNAUTHORIZED);
    for (authorization, expected) in [
        ("Bearer reader", 200),
        ("Bearer other", 403),
        ("Bearer unknown", 401),
        ("Bearer nameless", 401),
        ("Bearer ", 401),
        ("Basic reader", 401),
        ("reader", 401),
        ("Bearer down", 503),
        ("Bearer silent", 503),
    ] {
        assert_eq!(status(&access, authorization).await, expected, "{authorization}");
    }
    assert_eq!(status(&access, &format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1))).await, 401);
}

/// Catalogue: S27.
#[tokio::test(start_paused = true)]
async fn decisions_are_cached_for_30_s_and_failures_are_not() {
    let (access, asked) = access();
    for _ in 0..10 {
        assert_eq!(status(&access, "Bearer reader").await, 200);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "one review of the token and one of the permission");
    tokio::time::sleep(CACHED_FOR).await;
    assert_eq!(status(&access, "Bearer reader").await, 200);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    for _ in 0..2 {
        assert_eq!(status(&access, "Bearer down").await, 503);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 6);
}

/// Catalogue: S27.
#[tokio::test(start_paused = true)]
async fn invalid_tokens_do_not_grow_the_cache() {
    let (access, _) = access();
    for number in 0..2 * MAX_CACHED {
        assert_eq!(status(&access, &format!("Bearer {number}")).await, 401);
    }
    assert_eq!(access.0.cached.lock().unwrap().len(), MAX_CACHED);
    let silent = headers("Bearer silent");
    let many = (0..MAX_REVIEWS).map(|_| access.check(&silent));
    let more = async { access.check(&headers("Bearer reader")).await.unwrap_err() };
    let (_, (code, why)) = futures::future::join(futures::future::join_all(many), more).await;
    assert_eq!((code, why.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "too many concurrent authorization requests"));
}
