//! What is filled in and refused in built-in objects, where operators run into it.

use serde_json::{Value, json};

use super::{Answer, Bed, conformance, generation, version};

conformance! {
    f02_what_defaults_fill_in_is_no_change;
    f04_to_a_patch_the_uid_is_a_field_like_others;
    f08_a_number_that_is_not_there_cannot_be_read;
    f26_pods_have_a_priority_and_tolerate_an_unwell_node;
    a_deployment_must_be_such_that_it_can_be_rolled_out;
    a_pod_changes_in_one_direction_only;
    a_key_is_in_one_of_two_maps;
}

/// The fields that an answer blames, each once.
fn blamed(answer: &Answer) -> Vec<&str> {
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

async fn f02_what_defaults_fill_in_is_no_change(bed: &Bed) {
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

async fn f04_to_a_patch_the_uid_is_a_field_like_others(bed: &Bed) {
    bed.create("a", json!({})).await;
    let wrong = json!({"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}});
    assert_eq!(blamed(&bed.merge(&bed.widget("a"), wrong.clone()).await), ["metadata.uid"]);
    bed.ok("POST", &bed.core("configmaps"), json!({"metadata": {"name": "a"}})).await;
    assert_eq!(blamed(&bed.merge(&bed.core("configmaps/a"), wrong).await), ["metadata.uid"]);
}

async fn f08_a_number_that_is_not_there_cannot_be_read(bed: &Bed) {
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

async fn f26_pods_have_a_priority_and_tolerate_an_unwell_node(bed: &Bed) {
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

async fn a_deployment_must_be_such_that_it_can_be_rolled_out(bed: &Bed) {
    let refused = |changes: Value| async move {
        let deployment = crate::patch::merge(&deployment(), &json!({"spec": changes}));
        bed.call("POST", &bed.apps("deployments"), deployment).await
    };
    let none = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}});
    assert_eq!(blamed(&refused(none).await), ["spec.strategy.rollingUpdate.maxUnavailable"]);
    let both = json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}});
    assert_eq!(blamed(&refused(both).await), ["spec.strategy.rollingUpdate"]);
    let late = json!({"minReadySeconds": 5, "progressDeadlineSeconds": 5});
    assert_eq!(blamed(&refused(late).await), ["spec.progressDeadlineSeconds"]);
    let unselected = json!({"selector": null});
    assert_eq!(blamed(&refused(unselected).await), ["spec.selector", "spec.template.metadata.labels"]);
}

async fn a_pod_changes_in_one_direction_only(bed: &Bed) {
    bed.ok("POST", &bed.core("pods"), pod()).await;
    let change = |changes: Value| async move { bed.merge(&bed.core("pods/p"), json!({"spec": changes})).await };
    assert_eq!(change(json!({"activeDeadlineSeconds": 100})).await.0, 200);
    for later in [json!(101), Value::Null] {
        let fields = change(json!({"activeDeadlineSeconds": later})).await;
        assert_eq!(blamed(&fields), ["spec.activeDeadlineSeconds"]);
    }
    assert_eq!(change(json!({"activeDeadlineSeconds": 99})).await.0, 200);
    assert_eq!(blamed(&change(json!({"terminationGracePeriodSeconds": 5})).await), ["spec"]);
    let more = json!({"containers": [{"name": "c", "image": "x"}, {"name": "d", "image": "x"}]});
    assert_eq!(blamed(&change(more).await), ["spec.containers"]);
    // What is tolerated stays so: the two that every pod has are put back.
    let (code, changed) = change(json!({"tolerations": [{"key": "k", "operator": "Exists"}]})).await;
    assert_eq!((code, changed["spec"]["tolerations"].as_array().unwrap().len()), (200, 3));
    assert_eq!(blamed(&change(json!({"tolerations": null})).await), ["spec.tolerations"]);
    let (code, status) = bed.call("PUT", &bed.core("pods/p/status"), pod()).await;
    assert_eq!((code, &status["status"]["qosClass"]), (200, &json!("BestEffort")));
}

async fn a_key_is_in_one_of_two_maps(bed: &Bed) {
    let map = json!({"metadata": {"name": "m"}, "data": {"k": "1"}, "binaryData": {"k": "MQ==", "not a key": "MQ=="}});
    let refused = bed.call("POST", &bed.core("configmaps"), map).await;
    assert_eq!(blamed(&refused), ["binaryData[not a key]", "data[k]"]);
}
