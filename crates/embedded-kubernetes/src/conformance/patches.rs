//! Rules F15 and F16: patches and server-side apply.

use serde_json::{Value, json};

use super::{Bed, Reply, conformance, version, widget};

conformance! {
    /// Catalogue: F15.
    json_patch_applies_or_is_refused;
    /// Catalogue: F15.
    strategic_merge_is_by_key_for_built_in_kinds_only;
    /// Catalogue: F15.
    other_content_types_are_refused;
    /// Catalogue: F16.
    apply_creates_updates_and_removes;
    /// Catalogue: F16.
    apply_conflicts_name_manager_and_field;
    /// Catalogue: F16.
    applied_lists_are_merged_by_key;
    /// Catalogue: F16.
    options_of_apply_are_checked;
    /// Catalogue: F16.
    fields_set_by_admission_have_no_owner;
    dry_runs_change_nothing;
}

async fn json_patch(bed: &Bed, path: &str, operations: Value) -> Reply {
    bed.call_as("PATCH", path, "application/json-patch+json", &operations).await
}

async fn apply(bed: &Bed, path: &str, manager: &str, object: Value) -> Reply {
    bed.call_as("PATCH", &format!("{path}?fieldManager={manager}"), "application/apply-patch+yaml", &object).await
}

async fn fields_set_by_admission_have_no_owner(bed: &Bed) {
    let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "nowhere", "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "x"}]}});
    let made = bed.ok("POST", &bed.core("pods"), pod).await;
    assert_eq!(made["spec"]["preemptionPolicy"], "PreemptLowerPriority");
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    let names: Vec<&String> = fields.as_object().unwrap().keys().collect();
    let defaults = ["f:dnsPolicy", "f:enableServiceLinks", "f:restartPolicy", "f:schedulerName", "f:securityContext"];
    let given = ["f:automountServiceAccountToken", "f:containers", "f:nodeName", "f:terminationGracePeriodSeconds"];
    let mut expected: Vec<&str> = defaults.into_iter().chain(given).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

async fn json_patch_applies_or_is_refused(bed: &Bed) {
    bed.create("a", json!({"color": "red", "size": 1})).await;
    let patch = json!([
        {"op": "test", "path": "/spec/color", "value": "red"},
        {"op": "replace", "path": "/spec/color", "value": "blue"},
        {"op": "remove", "path": "/spec/size"},
    ]);
    let (code, patched) = json_patch(bed, &bed.widget("a"), patch.clone()).await;
    assert_eq!((code, &patched["spec"]), (200, &json!({"color": "blue", "replicas": 1})), "{patched}");
    let (code, refused) = json_patch(bed, &bed.widget("a"), patch).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")));
}

async fn strategic_merge_is_by_key_for_built_in_kinds_only(bed: &Bed) {
    const STRATEGIC: &str = "application/strategic-merge-patch+json";
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [
        {"name": "one", "image": "x:1"}, {"name": "two", "image": "x:1"}]}});
    bed.ok("POST", &bed.core("pods"), pod).await;
    let patch = json!({"spec": {"containers": [{"name": "two", "image": "x:2"}]}});
    let (code, patched) = bed.call_as("PATCH", &bed.core("pods/a"), STRATEGIC, &patch).await;
    assert_eq!(code, 200, "{patched}");
    let images: Vec<&Value> =
        patched["spec"]["containers"].as_array().unwrap().iter().map(|container| &container["image"]).collect();
    assert_eq!(images, [&json!("x:1"), &json!("x:2")]);
    bed.create("a", json!({})).await;
    let (code, _) = bed.call_as("PATCH", &bed.widget("a"), STRATEGIC, &json!({"spec": {"size": 1}})).await;
    assert_eq!(code, 415);
}

async fn other_content_types_are_refused(bed: &Bed) {
    bed.create("a", json!({})).await;
    assert_eq!(bed.call("PATCH", &bed.widget("a"), json!({})).await.0, 415);
    assert_eq!(bed.call_as("POST", &bed.widgets(), "text/plain", &json!({})).await.0, 415);
}

async fn apply_creates_updates_and_removes(bed: &Bed) {
    let (code, made) = apply(bed, &bed.widget("a"), "m1", widget("a", json!({"color": "red", "size": 1}))).await;
    assert_eq!(code, 201, "{made}");
    let (code, again) = apply(bed, &bed.widget("a"), "m1", widget("a", json!({"color": "red", "size": 1}))).await;
    assert_eq!((code, version(&again)), (200, version(&made)), "applying the same again is not a write");
    let (code, less) = apply(bed, &bed.widget("a"), "m1", widget("a", json!({"color": "red"}))).await;
    assert_eq!(code, 200);
    assert_eq!(less["spec"], json!({"color": "red", "replicas": 1}), "a field that is no longer applied is removed");
    let managers: Vec<&Value> =
        less["metadata"]["managedFields"].as_array().unwrap().iter().map(|entry| &entry["manager"]).collect();
    assert_eq!(managers, [&json!("m1")]);
}

async fn apply_conflicts_name_manager_and_field(bed: &Bed) {
    apply(bed, &bed.widget("a"), "m1", widget("a", json!({"color": "red"}))).await;
    let (code, refused) = apply(bed, &bed.widget("a"), "m2", widget("a", json!({"color": "blue"}))).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    assert_eq!(refused["message"], "Apply failed with 1 conflict: conflict with \"m1\": .spec.color");
    let (code, _) = apply(bed, &bed.widget("a"), "m2", widget("a", json!({"color": "red"}))).await;
    assert_eq!(code, 200, "the same value is shared");
    let forced = format!("{}?fieldManager=m3&force=true", bed.widget("a"));
    let object = widget("a", json!({"color": "green"}));
    let (code, _) = bed.call_as("PATCH", &forced, "application/apply-patch+yaml", &object).await;
    assert_eq!(code, 200);
    // An update takes ownership of a field, too, and then conflicts with the next apply.
    bed.merge(&bed.widget("a"), json!({"spec": {"color": "black"}})).await;
    let (code, refused) = apply(bed, &bed.widget("a"), "m3", widget("a", json!({"color": "green"}))).await;
    assert_eq!(code, 409);
    let message = refused["message"].as_str().unwrap();
    assert!(message.starts_with("Apply failed with 1 conflict: conflict with \"conformance\" using example.test/v1"));
}

async fn applied_lists_are_merged_by_key(bed: &Bed) {
    let part = |name: &str, count: i64| json!({"parts": [{"name": name, "count": count}]});
    apply(bed, &bed.widget("a"), "m1", widget("a", part("x", 1))).await;
    let (code, both) = apply(bed, &bed.widget("a"), "m2", widget("a", part("y", 2))).await;
    assert_eq!(code, 200, "{both}");
    assert_eq!(both["spec"]["parts"].as_array().unwrap().len(), 2);
    let (_, one) = apply(bed, &bed.widget("a"), "m1", widget("a", json!({}))).await;
    assert_eq!(one["spec"]["parts"], json!([{"name": "y", "count": 2}]));
}

async fn options_of_apply_are_checked(bed: &Bed) {
    const APPLY: &str = "application/apply-patch+yaml";
    let (code, refused) = bed.call_as("PATCH", &bed.widget("a"), APPLY, &widget("a", json!({}))).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("fieldManager")));
    let status = bed.widget("a/status");
    assert_eq!(
        apply(bed, &status, "m1", widget("a", json!({}))).await.0,
        404,
        "applying a status does not create the object"
    );
    bed.create("a", json!({})).await;
    let forced = format!("{}?force=true", bed.widget("a"));
    assert_eq!(bed.merge(&forced, json!({})).await.0, 422);
}

async fn dry_runs_change_nothing(bed: &Bed) {
    let dry = |path: String| format!("{path}?dryRun=All");
    let (code, made) = bed.call("POST", &dry(bed.widgets()), widget("a", json!({}))).await;
    assert_eq!((code, &made["metadata"]["resourceVersion"]), (201, &Value::Null));
    assert_eq!(bed.call("GET", &bed.widget("a"), Value::Null).await.0, 404);
    let real = bed.create("a", json!({})).await;
    let (code, changed) = bed.merge(&dry(bed.widget("a")), json!({"spec": {"size": 1}})).await;
    assert_eq!((code, &changed["spec"]["size"]), (200, &json!(1)));
    bed.ok("DELETE", &dry(bed.widget("a")), Value::Null).await;
    assert_eq!(version(&bed.get(&bed.widget("a")).await), version(&real));
    assert_eq!(bed.call("POST", &format!("{}?dryRun=x", bed.widgets()), widget("b", json!({}))).await.0, 422);
}
