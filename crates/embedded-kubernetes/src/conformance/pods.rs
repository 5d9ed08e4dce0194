//! Rule F12 and others: the grace period and the binding of pods.

use serde_json::{Value, json};

use super::{Bed, conformance, generation};

conformance! {
    /// Catalogue: F12.
    pod_without_a_node_is_removed_at_once;
    /// Catalogue: F12.
    grace_period_of_a_pod_can_only_be_shortened;
    pod_is_bound_only_once;
    pods_have_defaults_that_mostly_cannot_change;
}

async fn pod(bed: &Bed, name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "x"}], "automountServiceAccountToken": false},
    });
    match node {
        Some(node) => pod["spec"]["nodeName"] = node.into(),
        // A scheduler that does not exist leaves the pod without a node.
        None => pod["spec"]["schedulerName"] = "none-such".into(),
    }
    bed.ok("POST", &bed.core("pods"), pod).await
}

async fn pod_without_a_node_is_removed_at_once(bed: &Bed) {
    pod(bed, "a", None).await;
    let gone = bed.ok("DELETE", &bed.core("pods/a"), Value::Null).await;
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(bed.call("GET", &bed.core("pods/a"), Value::Null).await.0, 404);
}

async fn grace_period_of_a_pod_can_only_be_shortened(bed: &Bed) {
    let made = pod(bed, "a", Some("nowhere")).await;
    assert_eq!(generation(&made), 1);
    let terminating = bed.ok("DELETE", &bed.core("pods/a"), Value::Null).await;
    assert_eq!(terminating["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(terminating["metadata"]["deletionTimestamp"].is_string());
    let path = bed.core("pods/a?gracePeriodSeconds=60");
    let longer = bed.ok("DELETE", &path, Value::Null).await;
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = bed.ok("DELETE", &bed.core("pods/a"), json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    bed.ok("DELETE", &bed.core("pods/a"), json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(bed.call("GET", &bed.core("pods/a"), Value::Null).await.0, 404);
}

async fn pod_is_bound_only_once(bed: &Bed) {
    pod(bed, "a", None).await;
    let binding = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": node}});
    bed.ok("POST", &bed.core("pods/a/binding"), binding("n")).await;
    let bound = bed.get(&bed.core("pods/a")).await;
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(bed.call("POST", &bed.core("pods/a/binding"), binding("m")).await.0, 409);
    bed.ok("DELETE", &bed.core("pods/a"), json!({"gracePeriodSeconds": 0})).await;
}

async fn pods_have_defaults_that_mostly_cannot_change(bed: &Bed) {
    let made = pod(bed, "a", None).await;
    assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 30);
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let (code, refused) = bed.merge(&bed.core("pods/a"), json!({"spec": {"restartPolicy": "Never"}})).await;
    assert_eq!(code, 422, "{refused}");
    let (code, refused) = bed.call("POST", &bed.core("pods"), json!({"metadata": {"name": "b"}, "spec": {}})).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("spec.containers")));
}
