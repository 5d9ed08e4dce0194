//! Checks with the access reviews of a real API server who may read the operator's metrics and what users may do with
//! jobs.

use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sluice_base::clock::Clock;
use sluice_operator::serve::access::Access;

use super::bed::Bed;
use super::helm::helm;

fn bearer(token: &str) -> HeaderMap {
    [(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
}

/// Catalogue: T10, S27.
#[tokio::test]
async fn metrics_require_a_known_token_with_permission() {
    let bed = Bed::new("access", 1).await;
    let accounts = Api::<ServiceAccount>::namespaced(bed.client.clone(), &bed.namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "scraper"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let issued = accounts.create_token_request("scraper", &PostParams::default(), &request).await.unwrap();
    let token = issued.status.unwrap().token;
    let fresh = || Access::new(bed.client.clone(), Clock::system());

    let (status, why) = fresh().check(&bearer("unknown-token")).await.unwrap_err();
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
    // The API server's caches need some time.
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

/// Returns whether a user may do something with jobs; `what` is a resource as in a role, such as `streamjobs/scale`.
async fn may(client: &Client, namespace: &str, user: &str, verb: &str, what: &str) -> bool {
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let review = serde_json::from_value(json!({"spec": {"user": user, "resourceAttributes": {
        "namespace": namespace, "verb": verb, "group": "sluice.dev", "resource": resource, "subresource": subresource}}}));
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    reviews.create(&PostParams::default(), &review.unwrap()).await.unwrap().status.unwrap().allowed
}

/// Catalogue: T10, S37.
#[tokio::test]
async fn viewers_and_editors_of_a_namespace_may_use_its_jobs_only() {
    let bed = Bed::new("roles", 1).await;
    let charts = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/sluice");
    let rendered = helm(&["template", &bed.namespace, charts, "--show-only", "templates/roles.yaml"]);
    let roles = Api::<ClusterRole>::all(bed.client.clone());
    let bindings = Api::<RoleBinding>::namespaced(bed.client.clone(), &bed.namespace);
    let apply = PatchParams::apply("test").force();
    let mut made = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&rendered) {
        let role: serde_json::Value = serde::Deserialize::deserialize(document).unwrap();
        made.push(role["metadata"]["name"].as_str().unwrap().to_owned());
        roles.patch(made.last().unwrap(), &apply, &Patch::Apply(&role)).await.unwrap();
    }
    for (user, role) in [("viewer", "view"), ("editor", "edit")] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
        });
        bindings.patch(user, &apply, &Patch::Apply(&binding)).await.unwrap();
    }
    let ask = |user, verb, what| may(&bed.client, &bed.namespace, user, verb, what);
    // The controller that aggregates the roles needs some time.
    let aggregated = async {
        while !(ask("viewer", "get", "streamjobs").await && ask("editor", "create", "streamjobs").await) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(30), aggregated).await;
    let mut wrong = Vec::new();
    for (user, verb, what, expected) in [
        ("viewer", "watch", "streamjobs", true),
        ("viewer", "get", "streamjobs/status", true),
        ("viewer", "create", "streamjobs", false),
        ("viewer", "patch", "streamjobs/scale", false),
        ("editor", "patch", "streamjobs", true),
        ("editor", "delete", "streamjobs", true),
        ("editor", "patch", "streamjobs/scale", true),
        ("editor", "patch", "streamjobs/status", false),
        ("editor", "update", "streamjobs/finalizers", false),
    ] {
        if ask(user, verb, what).await != expected {
            wrong.push((user, verb, what));
        }
    }
    let elsewhere = may(&bed.client, "default", "editor", "get", "streamjobs").await;
    for name in &made {
        roles.delete(name, &DeleteParams::default()).await.unwrap();
    }
    waited.expect("the roles are aggregated into the cluster's roles");
    assert_eq!(made.len(), 2);
    assert!(wrong.is_empty() && !elsewhere, "{wrong:?}, elsewhere {elsewhere}");
    bed.end().await;
}
