//! Rules F19 to F22: watches.

use serde_json::{Value, json};

use super::{Bed, conformance, version};

conformance! {
    /// Catalogue: F19.
    changes_arrive_in_order_from_a_version;
    /// Catalogue: F19.
    expired_version_is_an_error_event_with_code_410;
    /// Catalogue: F19.
    watch_without_a_version_starts_with_existing_objects;
    /// Catalogue: F20.
    initial_events_end_with_a_bookmark;
    /// Catalogue: F21.
    selection_changes_are_added_and_deleted_events;
    /// Catalogue: F21.
    single_object_can_be_watched;
    /// Catalogue: F22.
    watch_ends_at_its_timeout;
}

async fn changes_arrive_in_order_from_a_version(bed: &Bed) {
    let made = bed.create("a", json!({})).await;
    bed.merge(&bed.widget("a"), json!({"spec": {"size": 1}})).await;
    let mut watch = bed.watch(&bed.widgets(), &format!("resourceVersion={}", version(&made))).await;
    bed.create("b", json!({})).await;
    bed.ok("DELETE", &bed.widget("a"), Value::Null).await;
    let mut last = version(&made);
    for (kind, name) in [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")] {
        let event = watch.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!(kind), &json!(name)));
        assert!(version(&event["object"]) > last);
        last = version(&event["object"]);
    }
}

async fn expired_version_is_an_error_event_with_code_410(bed: &Bed) {
    let Some(server) = bed.ours() else { return };
    let made = bed.create("a", json!({})).await;
    bed.create("b", json!({})).await;
    server.store().compact(server.store().revision());
    let mut watch = bed.watch(&bed.widgets(), &format!("resourceVersion={}", version(&made))).await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(watch.next().await, None);
}

async fn watch_without_a_version_starts_with_existing_objects(bed: &Bed) {
    bed.create("a", json!({})).await;
    for query in ["", "resourceVersion=0"] {
        let mut watch = bed.watch(&bed.widgets(), query).await;
        assert_eq!(watch.brief().await, ("ADDED".to_owned(), "a".to_owned()));
    }
}

async fn initial_events_end_with_a_bookmark(bed: &Bed) {
    let made = bed.create("a", json!({})).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = bed.watch(&bed.widgets(), query).await;
    assert_eq!(watch.brief().await, ("ADDED".to_owned(), "a".to_owned()));
    let mark = watch.next().await.unwrap();
    assert_eq!((&mark["type"], &mark["object"]["kind"]), (&json!("BOOKMARK"), &json!("Widget")));
    assert_eq!(mark["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert!(version(&mark["object"]) >= version(&made));
    bed.create("b", json!({})).await;
    assert_eq!(watch.brief().await, ("ADDED".to_owned(), "b".to_owned()));
}

async fn selection_changes_are_added_and_deleted_events(bed: &Bed) {
    let made = bed.create("a", json!({})).await;
    let query = format!("resourceVersion={}&labelSelector=x%3D1", version(&made));
    let mut watch = bed.watch(&bed.widgets(), &query).await;
    let label = |value: Value| json!({"metadata": {"labels": {"x": value}}});
    bed.merge(&bed.widget("a"), label(json!("1"))).await;
    bed.merge(&bed.widget("a"), json!({"spec": {"size": 1}})).await;
    let (_, unlabelled) = bed.merge(&bed.widget("a"), label(Value::Null)).await;
    bed.merge(&bed.widget("a"), json!({"spec": {"size": 2}})).await;
    bed.merge(&bed.widget("a"), label(json!("1"))).await;
    for kind in ["ADDED", "MODIFIED"] {
        assert_eq!(watch.brief().await.0, kind);
    }
    let gone = watch.next().await.unwrap();
    assert_eq!((&gone["type"], version(&gone["object"])), (&json!("DELETED"), version(&unlabelled)));
    assert_eq!(watch.brief().await.0, "ADDED");
}

async fn single_object_can_be_watched(bed: &Bed) {
    let made = bed.create("a", json!({})).await;
    let query = format!("resourceVersion={}&fieldSelector=metadata.name%3Da", version(&made));
    let mut watch = bed.watch(&bed.widgets(), &query).await;
    bed.create("b", json!({})).await;
    bed.merge(&bed.widget("a"), json!({"spec": {"size": 1}})).await;
    assert_eq!(watch.brief().await, ("MODIFIED".to_owned(), "a".to_owned()));
}

async fn watch_ends_at_its_timeout(bed: &Bed) {
    let made = bed.create("a", json!({})).await;
    let mut watch = bed.watch(&bed.widgets(), &format!("resourceVersion={}&timeoutSeconds=1", version(&made))).await;
    assert_eq!(watch.next().await, None);
}
