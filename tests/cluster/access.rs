//! Who may read the operator's metrics, by the reviews of a real API server.

use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use sluice::clock::Clock;
use sluice::serve::access::Access;

use super::bed::Bed;

fn bearer(token: &str) -> HeaderMap {
    [(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
}

#[tokio::test]
async fn t10_s27_the_metrics_are_for_whom_the_cluster_lets_read_them() {
    let bed = Bed::new("access", 1).await;
    let accounts = Api::<ServiceAccount>::namespaced(bed.client.clone(), &bed.namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "scraper"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let issued = accounts.create_token_request("scraper", &PostParams::default(), &request).await.unwrap();
    let token = issued.status.unwrap().token;
    let fresh = || Access::new(bed.client.clone(), Clock::system());

    let (status, why) = fresh().check(&bearer("nobody-knows-it")).await.unwrap_err();
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{why}");
    let (status, why) = fresh().check(&bearer(&token)).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN, "{why}");

    let name = format!("{}-reads-metrics", bed.namespace);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "scraper", "namespace": bed.namespace}],
    });
    let (roles, bindings) =
        (Api::<ClusterRole>::all(bed.client.clone()), Api::<ClusterRoleBinding>::all(bed.client.clone()));
    let apply = PatchParams::apply("test").force();
    roles.patch(&name, &apply, &Patch::Apply(&role)).await.unwrap();
    bindings.patch(&name, &apply, &Patch::Apply(&binding)).await.unwrap();
    // The API server's own caches take a moment.
    let allowed = async {
        while fresh().check(&bearer(&token)).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(30), allowed).await;
    let removed =
        (roles.delete(&name, &DeleteParams::default()).await, bindings.delete(&name, &DeleteParams::default()).await);
    waited.expect("the scraper may read the metrics");
    assert!(removed.0.is_ok() && removed.1.is_ok());
    bed.end().await;
}
