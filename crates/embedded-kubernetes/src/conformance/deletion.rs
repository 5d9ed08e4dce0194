//! Rules F10, F11, F13 and F14: preconditions, finalizers, propagation and owners.

use serde_json::{Value, json};

use super::{Bed, conformance, version, widget};

conformance! {
    /// Catalogue: F10.
    failed_delete_precondition_is_a_conflict;
    /// Catalogue: F10.
    object_without_finalizers_is_removed_at_once;
    /// Catalogue: F10.
    second_deletion_of_a_finalized_object_changes_nothing;
    /// Catalogue: F11.
    finalizers_cannot_be_added_during_deletion;
    /// Catalogue: F13.
    foreground_deletion_sets_a_finalizer;
    /// Catalogue: F14.
    second_controller_is_refused;
    collections_are_deleted_by_selector;
}

const HOLD: &str = "example.test/hold";

async fn failed_delete_precondition_is_a_conflict(bed: &Bed) {
    bed.create("a", json!({})).await;
    for wrong in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let (code, refused) = bed.call("DELETE", &bed.widget("a"), json!({"preconditions": wrong})).await;
        assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")));
    }
    let uid = bed.get(&bed.widget("a")).await["metadata"]["uid"].clone();
    bed.ok("DELETE", &bed.widget("a"), json!({"preconditions": {"uid": uid}})).await;
}

async fn object_without_finalizers_is_removed_at_once(bed: &Bed) {
    let made = bed.create("a", json!({"color": "red"})).await;
    let mut watch = bed.watch(&bed.widgets(), &format!("resourceVersion={}", version(&made))).await;
    let gone = bed.ok("DELETE", &bed.widget("a"), Value::Null).await;
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["spec"]["color"]), (&json!("DELETED"), &json!("red")));
    assert!(version(&event["object"]) > version(&made), "the deletion has its own revision");
    let (code, missing) = bed.call("DELETE", &bed.widget("a"), Value::Null).await;
    assert_eq!((code, &missing["message"]), (404, &json!("widgets.example.test \"a\" not found")));
}

async fn held(bed: &Bed) -> Value {
    let mut object = widget("a", json!({}));
    object["metadata"]["finalizers"] = json!([HOLD]);
    bed.ok("POST", &bed.widgets(), object).await;
    bed.ok("DELETE", &bed.widget("a"), Value::Null).await
}

async fn second_deletion_of_a_finalized_object_changes_nothing(bed: &Bed) {
    let deleting = held(bed).await;
    assert!(deleting["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(deleting["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = bed.ok("DELETE", &bed.widget("a"), Value::Null).await;
    assert_eq!(version(&again), version(&deleting));
    let (code, _) = bed.merge(&bed.widget("a"), json!({"spec": {"size": 1}})).await;
    assert_eq!(code, 200, "the specification can still be changed");
    let (code, last) = bed.merge(&bed.widget("a"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!((code, &last["kind"]), (200, &json!("Widget")));
    assert_eq!(bed.call("GET", &bed.widget("a"), Value::Null).await.0, 404);
}

async fn finalizers_cannot_be_added_during_deletion(bed: &Bed) {
    held(bed).await;
    let more = json!({"metadata": {"finalizers": [HOLD, "example.test/more"]}});
    let (code, refused) = bed.merge(&bed.widget("a"), more).await;
    assert_eq!(code, 422);
    let message = "no new finalizers can be added if the object is being deleted, found new finalizers \
                   []string{\"example.test/more\"}";
    assert!(refused["message"].as_str().unwrap().contains(message), "{refused}");
    let (code, same) = bed.merge(&bed.widget("a"), json!({"metadata": {"deletionTimestamp": null}})).await;
    assert_eq!(code, 200);
    assert!(same["metadata"]["deletionTimestamp"].is_string(), "a deletion cannot be undone");
    bed.merge(&bed.widget("a"), json!({"metadata": {"finalizers": null}})).await;
}

async fn foreground_deletion_sets_a_finalizer(bed: &Bed) {
    bed.create("a", json!({})).await;
    // The garbage collector does the rest.
    let deleting = bed.ok("DELETE", &bed.widget("a"), json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(deleting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    bed.merge(&bed.widget("a"), json!({"metadata": {"finalizers": null}})).await;
    let both = json!({"propagationPolicy": "Foreground", "orphanDependents": true});
    bed.create("b", json!({})).await;
    assert_eq!(bed.call("DELETE", &bed.widget("b"), both).await.0, 422);
}

async fn second_controller_is_refused(bed: &Bed) {
    let owner =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name, "controller": true});
    let mut object = widget("a", json!({}));
    object["metadata"]["ownerReferences"] = json!([owner("x"), owner("y")]);
    let (code, refused) = bed.call("POST", &bed.widgets(), object.clone()).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("metadata.ownerReferences")));
    object["metadata"]["ownerReferences"] = json!([owner("x")]);
    bed.ok("POST", &bed.widgets(), object).await;
}

async fn collections_are_deleted_by_selector(bed: &Bed) {
    for (name, color) in [("a", "red"), ("b", "red"), ("c", "blue")] {
        let mut object = widget(name, json!({}));
        object["metadata"]["labels"] = json!({"color": color});
        bed.ok("POST", &bed.widgets(), object).await;
    }
    bed.ok("DELETE", &format!("{}?labelSelector=color%3Dred", bed.widgets()), Value::Null).await;
    let left = bed.get(&bed.widgets()).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
}
