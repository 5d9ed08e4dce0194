//! Against a scripted API server.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// Knows the tokens `reader` and `other`, and lets the first of them read; and how often it was asked.
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
                    // With a user, but not known.
                    _ => json!({"authenticated": false, "user": {"username": "reader"}}),
                },
                "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                    assert_eq!(review["spec"]["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
                    assert_eq!(review["spec"]["groups"], json!(["g"]));
                    json!({"allowed": review["spec"]["user"] == "reader"})
                }
                other => panic!("{other} is asked for"),
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

#[tokio::test(start_paused = true)]
async fn t10_s27_metrics_are_for_whom_the_cluster_knows_and_lets() {
    let (access, _) = access();
    assert_eq!(access.check(&HeaderMap::new()).await.unwrap_err().0, StatusCode::UNAUTHORIZED);
    for (authorization, expected) in [
        ("Bearer reader", 200),
        ("Bearer other", 403),
        ("Bearer nobody", 401),
        ("Bearer nameless", 401),
        ("Bearer ", 401),
        ("Basic reader", 401),
        ("reader", 401),
        ("Bearer down", 503),
        ("Bearer silent", 503),
    ] {
        assert_eq!(status(&access, authorization).await, expected, "{authorization}");
    }
    assert_eq!(status(&access, &format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1))).await, 401);
}

#[tokio::test(start_paused = true)]
async fn t10_s27_an_answer_holds_for_a_while_and_a_failure_does_not() {
    let (access, asked) = access();
    for _ in 0..10 {
        assert_eq!(status(&access, "Bearer reader").await, 200);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "a token, and a right");
    tokio::time::sleep(HOLDS).await;
    assert_eq!(status(&access, "Bearer reader").await, 200);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    for _ in 0..2 {
        assert_eq!(status(&access, "Bearer down").await, 503);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 6);
}

#[tokio::test(start_paused = true)]
async fn t10_s27_who_tries_tokens_fills_nothing() {
    let (access, _) = access();
    for number in 0..2 * MOST_KEPT {
        assert_eq!(status(&access, &format!("Bearer {number}")).await, 401);
    }
    assert_eq!(access.0.kept.lock().unwrap().len(), MOST_KEPT);
    let silent = headers("Bearer silent");
    let many = (0..MOST_ASKED).map(|_| access.check(&silent));
    let more = async { access.check(&headers("Bearer reader")).await.unwrap_err() };
    let (_, (code, why)) = futures::future::join(futures::future::join_all(many), more).await;
    assert_eq!((code, why.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "too many callers are being asked about"));
}
