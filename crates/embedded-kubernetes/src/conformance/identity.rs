//! Rules F1 to F6: revisions, writes without a change, creation, updates, names and generations.

use serde_json::{Value, json};

use super::{Bed, conformance, generation, version, widget};

conformance! {
    /// Catalogue: F1.
    each_change_takes_a_later_revision;
    /// Catalogue: F2.
    write_without_a_change_is_not_stored;
    /// Catalogue: F3.
    creation_sets_and_drops_server_fields;
    /// Catalogue: F3.
    existing_name_is_a_conflict;
    /// Catalogue: F3.
    generated_name_has_the_requested_prefix;
    /// Catalogue: F4.
    update_without_a_version_needs_a_built_in_kind;
    /// Catalogue: F4.
    stale_version_or_wrong_uid_is_a_conflict;
    /// Catalogue: F5.
    names_must_agree_with_the_path;
    /// Catalogue: F5.
    schemas_prune_default_and_refuse;
    /// Catalogue: F5.
    new_default_appears_when_an_older_object_is_read;
    /// Catalogue: F6.
    generation_counts_changes_of_the_specification;
    creation_needs_an_existing_namespace;
    string_data_of_a_secret_is_stored_as_bytes;
}

async fn string_data_of_a_secret_is_stored_as_bytes(bed: &Bed) {
    let secret = json!({"metadata": {"name": "a"}, "data": {"a": "MQ==", "b": "MQ=="}, "stringData": {"b": "2"}});
    let secret = bed.ok("POST", &bed.core("secrets"), secret).await;
    assert_eq!(secret["data"], json!({"a": "MQ==", "b": "Mg=="}));
    assert_eq!(secret["stringData"], Value::Null);
}

async fn each_change_takes_a_later_revision(bed: &Bed) {
    let first = bed.create("a", json!({})).await;
    let other = bed.ok("POST", &bed.core("configmaps"), json!({"metadata": {"name": "a"}})).await;
    assert!(version(&other) > version(&first));
    let list = bed.get(&bed.widgets()).await;
    assert!(version(&list) >= version(&other));
}

async fn write_without_a_change_is_not_stored(bed: &Bed) {
    let created = bed.create("a", json!({"color": "red"})).await;
    let mut watch = bed.watch(&bed.widgets(), &format!("resourceVersion={}", version(&created))).await;
    let put = bed.ok("PUT", &bed.widget("a"), created.clone()).await;
    assert_eq!(version(&put), version(&created));
    let (code, patched) = bed.merge(&bed.widget("a"), json!({"spec": {"color": "red"}})).await;
    assert_eq!((code, version(&patched), generation(&patched)), (200, version(&created), 1));
    bed.merge(&bed.widget("a"), json!({"spec": {"color": "blue"}})).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["object"]["spec"]["color"], "blue", "the first event is of the first change");
}

async fn creation_sets_and_drops_server_fields(bed: &Bed) {
    let mut object = widget("a", json!({"color": "red"}));
    object["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    object["metadata"]["generation"] = 7.into();
    object["status"] = json!({"note": "x"});
    let created = bed.ok("POST", &bed.widgets(), object.clone()).await;
    let metadata = &created["metadata"];
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["creationTimestamp"].is_string());
    assert_eq!(generation(&created), 1);
    assert_eq!(metadata["deletionTimestamp"], Value::Null);
    assert_eq!(created["status"], Value::Null);
    object["metadata"] = json!({"name": "b", "resourceVersion": "5"});
    let (code, refused) = bed.call("POST", &bed.widgets(), object).await;
    assert_eq!(code, 500);
    assert_eq!(refused["message"], "resourceVersion should not be set on objects to be created");
}

async fn existing_name_is_a_conflict(bed: &Bed) {
    bed.create("a", json!({})).await;
    let (code, refused) = bed.call("POST", &bed.widgets(), widget("a", json!({}))).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(refused["message"], "widgets.example.test \"a\" already exists");
}

async fn generated_name_has_the_requested_prefix(bed: &Bed) {
    let made = bed.ok("POST", &bed.core("configmaps"), json!({"metadata": {"generateName": "x-"}})).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");
    let (code, refused) = bed.call("POST", &bed.core("configmaps"), json!({"metadata": {}})).await;
    assert_eq!(code, 422);
    let message = "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    assert_eq!(refused["message"], message);
}

async fn update_without_a_version_needs_a_built_in_kind(bed: &Bed) {
    bed.create("a", json!({})).await;
    let (code, refused) = bed.call("PUT", &bed.widget("a"), widget("a", json!({"size": 1}))).await;
    assert_eq!(code, 422, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("must be specified for an update"), "{refused}");
    bed.ok("POST", &bed.core("configmaps"), json!({"metadata": {"name": "a"}})).await;
    let path = bed.core("configmaps/a");
    let put = bed.ok("PUT", &path, json!({"metadata": {"name": "a"}, "data": {"x": "1"}})).await;
    assert_eq!(put["data"]["x"], "1");
}

async fn stale_version_or_wrong_uid_is_a_conflict(bed: &Bed) {
    let first = bed.create("a", json!({})).await;
    let (_, second) = bed.merge(&bed.widget("a"), json!({"spec": {"size": 1}})).await;
    let mut stale = first.clone();
    stale["spec"]["size"] = 2.into();
    let (code, refused) = bed.call("PUT", &bed.widget("a"), stale).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")));
    assert_eq!(
        refused["message"],
        "Operation cannot be fulfilled on widgets.example.test \"a\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
    let version = first["metadata"]["resourceVersion"].clone();
    let (code, _) =
        bed.merge(&bed.widget("a"), json!({"metadata": {"resourceVersion": version}, "spec": {"size": 3}})).await;
    assert_eq!(code, 409);
    let mut other = second.clone();
    other["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000".into();
    let (code, refused) = bed.call("PUT", &bed.widget("a"), other).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")));
}

async fn names_must_agree_with_the_path(bed: &Bed) {
    let mut object = bed.create("a", json!({})).await;
    object["metadata"]["name"] = "b".into();
    let (code, refused) = bed.call("PUT", &bed.widget("a"), object.clone()).await;
    assert_eq!(code, 400);
    assert_eq!(refused["message"], "the name of the object (b) does not match the name on the URL (a)");
    object["metadata"] = json!({"name": "c", "namespace": "elsewhere"});
    let (code, refused) = bed.call("POST", &bed.widgets(), object).await;
    assert_eq!(code, 400);
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!(refused["message"], message);
    let (code, refused) = bed.call("POST", &bed.widgets(), widget("A_b", json!({}))).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("metadata.name")));
}

async fn schemas_prune_default_and_refuse(bed: &Bed) {
    let made = bed.create("a", json!({"color": "red", "unknown": 1})).await;
    assert_eq!(made["spec"], json!({"color": "red", "replicas": 1}));
    let (code, refused) = bed.call("POST", &bed.widgets(), widget("b", json!({"size": "big"}))).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")));
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.size");
    let (code, _) = bed.merge(&bed.widget("a"), json!({"spec": {"replicas": -1}})).await;
    assert_eq!(code, 422);
    let strict = format!("{}?fieldValidation=Strict", bed.widgets());
    let (code, refused) = bed.call("POST", &strict, widget("b", json!({"unknown": 1}))).await;
    let message = "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \
                   \"spec.unknown\"";
    assert_eq!((code, &refused["message"]), (400, &json!(message)));
}

async fn new_default_appears_when_an_older_object_is_read(bed: &Bed) {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let group = format!("{}.test", bed.namespace);
    let versions = |color: Value| {
        let spec = json!({"type": "object", "properties": {"color": color}});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        json!([{"name": "v1", "served": true, "storage": true, "schema": schema}])
    };
    let name = format!("gadgets.{group}");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": versions(json!({"type": "string"}))},
    });
    bed.ok("POST", DEFINITIONS, definition).await;
    let gadgets = format!("/apis/{group}/v1/namespaces/{}/gadgets", bed.namespace);
    bed.soon(&gadgets, |code, _| code == 200).await;
    let gadget = json!({"apiVersion": format!("{group}/v1"), "kind": "Gadget", "metadata": {"name": "a"}, "spec": {}});
    let made = bed.ok("POST", &gadgets, gadget).await;
    assert_eq!(made["spec"], json!({}));
    let default = json!({"spec": {"versions": versions(json!({"type": "string", "default": "red"}))}});
    assert_eq!(bed.merge(&format!("{DEFINITIONS}/{name}"), default).await.0, 200);
    let read = bed.soon(&format!("{gadgets}/a"), |_, object| object["spec"]["color"] == "red").await;
    assert_eq!(version(&read), version(&made));
    let list = bed.soon(&gadgets, |code, _| code == 200).await;
    assert_eq!(list["items"][0]["spec"]["color"], "red");
    // A write without any other change stores the new default.
    let put = bed.ok("PUT", &format!("{gadgets}/a"), read.clone()).await;
    assert!(version(&put) > version(&made));
    bed.ok("DELETE", &format!("{DEFINITIONS}/{name}"), Value::Null).await;
}

async fn generation_counts_changes_of_the_specification(bed: &Bed) {
    bed.create("a", json!({})).await;
    let (_, changed) = bed.merge(&bed.widget("a"), json!({"spec": {"size": 1}})).await;
    assert_eq!(generation(&changed), 2);
    let (_, labelled) = bed.merge(&bed.widget("a"), json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(generation(&labelled), 2);
    assert!(version(&labelled) > version(&changed));
    let (_, status) = bed.merge(&bed.widget("a/status"), json!({"status": {"note": "x"}})).await;
    assert_eq!(generation(&status), 2);
    bed.merge(&bed.widget("a"), json!({"metadata": {"finalizers": ["example.test/hold"]}})).await;
    let deleted = bed.ok("DELETE", &bed.widget("a"), Value::Null).await;
    assert_eq!(generation(&deleted), 3);
    bed.merge(&bed.widget("a"), json!({"metadata": {"finalizers": null}})).await;
}

async fn creation_needs_an_existing_namespace(bed: &Bed) {
    let (code, refused) =
        bed.call("POST", "/api/v1/namespaces/nowhere/configmaps", json!({"metadata": {"name": "a"}})).await;
    assert_eq!((code, &refused["message"]), (404, &json!("namespaces \"nowhere\" not found")));
}
