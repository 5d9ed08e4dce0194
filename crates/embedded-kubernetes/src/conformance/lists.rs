//! Rules F18, F21 and F28: lists, their pages, versions and selectors; discovery.

use serde_json::{Value, json};

use super::{Bed, conformance, version};

conformance! {
    /// Catalogue: F18.
    pages_of_a_list_show_one_revision;
    /// Catalogue: F18.
    list_at_a_future_version_times_out;
    /// Catalogue: F18.
    expired_continue_token_comes_with_a_new_one;
    /// Catalogue: F18.
    list_at_an_exact_version_shows_that_version;
    /// Catalogue: F21.
    lists_are_selected_by_labels_and_fields;
    /// Catalogue: F28.
    discovery_shows_the_kinds;
    /// Catalogue: F28.
    aggregated_discovery_is_one_document;
    metadata_can_be_listed_alone;
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

async fn three(bed: &Bed) {
    for name in ["a", "b", "c"] {
        bed.create(name, json!({})).await;
    }
}

async fn pages_of_a_list_show_one_revision(bed: &Bed) {
    three(bed).await;
    let first = bed.get(&format!("{}?limit=1", bed.widgets())).await;
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a"], &json!(2)));
    bed.ok("DELETE", &bed.widget("b"), Value::Null).await;
    bed.create("d", json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = bed.get(&format!("{}?limit=5&continue={token}", bed.widgets())).await;
    assert_eq!(names(&rest), ["b", "c"]);
    assert_eq!(version(&rest), version(&first));
    assert_eq!(rest["metadata"]["continue"].as_str().unwrap_or_default(), "");
    assert_eq!(bed.call("GET", &format!("{}?continue=zzz", bed.widgets()), Value::Null).await.0, 400);
}

async fn list_at_a_future_version_times_out(bed: &Bed) {
    let (code, late) = bed.call("GET", &format!("{}?resourceVersion=999999999999", bed.widgets()), Value::Null).await;
    assert_eq!((code, &late["reason"]), (504, &json!("Timeout")), "{late}");
    assert!(late["message"].as_str().unwrap().contains("Too large resource version"));
}

async fn expired_continue_token_comes_with_a_new_one(bed: &Bed) {
    // Measured on a 1.20 server. A 1.34 server continues to serve the token from its cache long after a compaction.
    let Some(server) = bed.ours() else { return };
    three(bed).await;
    let first = bed.get(&format!("{}?limit=1", bed.widgets())).await;
    bed.ok("DELETE", &bed.widget("b"), Value::Null).await;
    server.store().compact(server.store().revision());
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (code, expired) = bed.call("GET", &format!("{}?limit=5&continue={token}", bed.widgets()), Value::Null).await;
    assert_eq!((code, &expired["reason"]), (410, &json!("Expired")));
    let token = expired["metadata"]["continue"].as_str().unwrap();
    let rest = bed.get(&format!("{}?limit=5&continue={token}", bed.widgets())).await;
    assert_eq!(names(&rest), ["c"]);
}

async fn list_at_an_exact_version_shows_that_version(bed: &Bed) {
    three(bed).await;
    let then = version(&bed.get(&bed.widgets()).await);
    bed.ok("DELETE", &bed.widget("b"), Value::Null).await;
    let path = format!("{}?resourceVersion={then}&resourceVersionMatch=Exact", bed.widgets());
    let list = bed.get(&path).await;
    assert_eq!((names(&list), version(&list)), (vec!["a", "b", "c"], then));
    let list = bed.get(&format!("{}?resourceVersion={then}&resourceVersionMatch=NotOlderThan", bed.widgets())).await;
    assert!(version(&list) >= then);
    assert_eq!(bed.call("GET", &format!("{}?resourceVersionMatch=Exact", bed.widgets()), Value::Null).await.0, 422);
}

async fn lists_are_selected_by_labels_and_fields(bed: &Bed) {
    three(bed).await;
    bed.merge(&bed.widget("b"), json!({"metadata": {"labels": {"x": "1"}}})).await;
    let list = |query: &str| format!("{}?{query}", bed.widgets());
    assert_eq!(names(&bed.get(&list("labelSelector=x%3D1")).await), ["b"]);
    assert_eq!(names(&bed.get(&list("labelSelector=!x")).await), ["a", "c"]);
    assert_eq!(names(&bed.get(&list("fieldSelector=metadata.name%3Dc")).await), ["c"]);
    assert_eq!(bed.call("GET", &list("fieldSelector=spec.none%3Dc"), Value::Null).await.0, 400);
    assert_eq!(bed.call("GET", &list("labelSelector=a%20in"), Value::Null).await.0, 400);
    let all_namespaces = "/apis/example.test/v1/widgets?labelSelector=x%3D1";
    assert!(names(&bed.get(all_namespaces).await).contains(&"b"));
}

async fn discovery_shows_the_kinds(bed: &Bed) {
    let groups = bed.get("/apis").await;
    let groups: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    for group in ["apps", "batch", "policy", "example.test", "rbac.authorization.k8s.io"] {
        assert!(groups.contains(&group), "{group}");
    }
    let resources = bed.get("/apis/example.test/v1").await;
    let widgets = resources["resources"].as_array().unwrap().iter().find(|one| one["name"] == "widgets").unwrap();
    assert_eq!((&widgets["kind"], &widgets["shortNames"]), (&json!("Widget"), &json!(["wd"])));
    assert!(resources["resources"].as_array().unwrap().iter().any(|one| one["name"] == "widgets/scale"));
    assert_eq!(bed.get("/version").await["major"], "1");
    assert_eq!(bed.call("GET", "/readyz", Value::Null).await.0, 200);
    assert_eq!(bed.call("GET", "/apis/none/v1/things", Value::Null).await.0, 404);
    let (code, missing) = bed.call("GET", "/api/v1/things", Value::Null).await;
    assert_eq!((code, &missing["message"]), (404, &json!("the server could not find the requested resource")));
}

async fn aggregated_discovery_is_one_document(bed: &Bed) {
    let discovery = kube::discovery::Discovery::new(bed.client.clone()).run_aggregated().await.unwrap();
    let (widget, capabilities) =
        discovery.resolve_gvk(&kube::core::GroupVersionKind::gvk("example.test", "v1", "Widget")).unwrap();
    assert_eq!(widget.plural, "widgets");
    assert!(capabilities.supports_operation(kube::discovery::verbs::WATCH));
    let plain = kube::discovery::Discovery::new(bed.client.clone()).run().await.unwrap();
    assert!(plain.has_group("apps") && plain.has_group(""));
}

async fn metadata_can_be_listed_alone(bed: &Bed) {
    three(bed).await;
    let api: kube::Api<kube::core::DynamicObject> = kube::Api::namespaced_with(
        bed.client.clone(),
        &bed.namespace,
        &kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("example.test", "v1", "Widget")),
    );
    let list = api.list_metadata(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 3);
}
