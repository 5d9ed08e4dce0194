//! Defaults and validation of built-in objects, as far as operators depend on them.

use serde_json::{Value, json};

use super::{Bed, Reply, conformance, generation, version};

conformance! {
    /// Catalogue: F2.
    filled_in_defaults_are_not_a_change;
    /// Catalogue: F4.
    wrong_uid_in_a_patch_is_a_field_error;
    /// Catalogue: F8.
    scale_without_a_replica_count_is_an_error;
    /// Catalogue: F26.
    pods_get_a_priority_and_default_tolerations;
    deployment_that_cannot_roll_out_is_refused;
    pod_allows_few_changes_in_one_direction;
    key_must_not_be_in_data_and_binary_data;
}

/// Returns the fields that an answer reports as invalid, each once.
fn invalid_fields(answer: &Reply) -> Vec<&str> {
    assert_eq!((answer.0, &answer.1["reason"]), (422, &json!("Invalid")), "{}", answer.1);
    let causes = answer.1["details"]["causes"].as_array().unwrap();
    let mut fields: Vec<&str> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    fields.dedup();
    fields
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d"}, "spec": {
        "paused": true, "replicas": 0, "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    }})
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "nowhere", "automountServiceAccountToken": false, "containers": [{"name": "c", "image": "x"}]}})
}

async fn filled_in_defaults_are_not_a_change(bed: &Bed) {
    let made = bed.ok("POST", &bed.apps("deployments"), deployment()).await;
    let put = bed.ok("PUT", &bed.apps("deployments/d"), deployment()).await;
    assert_eq!((generation(&made), generation(&put)), (1, 1));
    let widget = super::widget("a", json!({"color": "red"}));
    let made = bed.ok("POST", &bed.widgets(), widget.clone()).await;
    let mut same = widget;
    same["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let put = bed.ok("PUT", &bed.widget("a"), same).await;
    assert_eq!((version(&put), generation(&put)), (version(&made), 1));
}

async fn wrong_uid_in_a_patch_is_a_field_error(bed: &Bed) {
    bed.create("a", json!({})).await;
    let wrong = json!({"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}});
    assert_eq!(invalid_fields(&bed.merge(&bed.widget("a"), wrong.clone()).await), ["metadata.uid"]);
    bed.ok("POST", &bed.core("configmaps"), json!({"metadata": {"name": "a"}})).await;
    assert_eq!(invalid_fields(&bed.merge(&bed.core("configmaps/a"), wrong).await), ["metadata.uid"]);
}

async fn scale_without_a_replica_count_is_an_error(bed: &Bed) {
    bed.ok(
        "POST",
        &bed.widgets(),
        json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": "a"}}),
    )
    .await;
    let (code, refused) = bed.call("GET", &bed.widget("a/scale"), Value::Null).await;
    assert_eq!((code, &refused["reason"]), (500, &json!("InternalError")));
    let message = "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist";
    assert_eq!(refused["message"], message);
    let (code, refused) = bed.merge(&bed.widget("a/scale"), json!({})).await;
    assert_eq!(code, 400, "{refused}");
    let (code, _) = bed.merge(&bed.widget("a/scale"), json!({"spec": {"replicas": 2}})).await;
    assert_eq!(code, 200);
}

async fn pods_get_a_priority_and_default_tolerations(bed: &Bed) {
    let made = bed.ok("POST", &bed.core("pods"), pod()).await;
    let spec = &made["spec"];
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    let tolerations = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .map(|key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
    assert_eq!(spec["tolerations"], json!(tolerations));
    let mut other = pod();
    other["metadata"]["name"] = "q".into();
    other["spec"]["priorityClassName"] = "none-such".into();
    let (code, refused) = bed.call("POST", &bed.core("pods"), other).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")));
    assert_eq!(refused["message"], "pods \"q\" is forbidden: no PriorityClass with name none-such was found");
}

async fn deployment_that_cannot_roll_out_is_refused(bed: &Bed) {
    let refused = |changes: Value| async move {
        let deployment = crate::patch::merge(&deployment(), &json!({"spec": changes}));
        bed.call("POST", &bed.apps("deployments"), deployment).await
    };
    let none = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}});
    assert_eq!(invalid_fields(&refused(none).await), ["spec.strategy.rollingUpdate.maxUnavailable"]);
    let both = json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}});
    assert_eq!(invalid_fields(&refused(both).await), ["spec.strategy.rollingUpdate"]);
    let late = json!({"minReadySeconds": 5, "progressDeadlineSeconds": 5});
    assert_eq!(invalid_fields(&refused(late).await), ["spec.progressDeadlineSeconds"]);
    let unselected = json!({"selector": null});
    assert_eq!(invalid_fields(&refused(unselected).await), ["spec.selector", "spec.template.metadata.labels"]);
}

async fn pod_allows_few_changes_in_one_direction(bed: &Bed) {
    bed.ok("POST", &bed.core("pods"), pod()).await;
    let change = |changes: Value| async move { bed.merge(&bed.core("pods/p"), json!({"spec": changes})).await };
    assert_eq!(change(json!({"activeDeadlineSeconds": 100})).await.0, 200);
    for later in [json!(101), Value::Null] {
        let fields = change(json!({"activeDeadlineSeconds": later})).await;
        assert_eq!(invalid_fields(&fields), ["spec.activeDeadlineSeconds"]);
    }
    assert_eq!(change(json!({"activeDeadlineSeconds": 99})).await.0, 200);
    assert_eq!(invalid_fields(&change(json!({"terminationGracePeriodSeconds": 5})).await), ["spec"]);
    let more = json!({"containers": [{"name": "c", "image": "x"}, {"name": "d", "image": "x"}]});
    assert_eq!(invalid_fields(&change(more).await), ["spec.containers"]);
    // Tolerations cannot be removed: the two default ones are added again.
    let (code, changed) = change(json!({"tolerations": [{"key": "k", "operator": "Exists"}]})).await;
    assert_eq!((code, changed["spec"]["tolerations"].as_array().unwrap().len()), (200, 3));
    assert_eq!(invalid_fields(&change(json!({"tolerations": null})).await), ["spec.tolerations"]);
    let (code, status) = bed.call("PUT", &bed.core("pods/p/status"), pod()).await;
    assert_eq!((code, &status["status"]["qosClass"]), (200, &json!("BestEffort")));
}

async fn key_must_not_be_in_data_and_binary_data(bed: &Bed) {
    let map = json!({"metadata": {"name": "m"}, "data": {"k": "1"}, "binaryData": {"k": "MQ==", "not a key": "MQ=="}});
    let refused = bed.call("POST", &bed.core("configmaps"), map).await;
    assert_eq!(invalid_fields(&refused), ["binaryData[not a key]", "data[k]"]);
}
