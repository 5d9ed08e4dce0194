//! Rules F7, F8, F17 and F27: status, scale and leases.

use serde_json::{Value, json};

use super::{Bed, conformance, generation, version};

conformance! {
    /// Catalogue: F7.
    object_and_status_writes_are_separate;
    /// Catalogue: F8.
    scale_is_read_and_written_through_its_paths;
    /// Catalogue: F8.
    scale_checks_preconditions;
    /// Catalogue: F8.
    deployment_can_be_scaled;
    /// Catalogue: F17.
    scale_write_takes_ownership_of_the_count;
    /// Catalogue: F27.
    lease_is_a_plain_object;
}

async fn object_and_status_writes_are_separate(bed: &Bed) {
    let mut object = bed.create("a", json!({"color": "red"})).await;
    object["status"] = json!({"note": "x"});
    object["spec"]["color"] = "blue".into();
    let put = bed.ok("PUT", &bed.widget("a"), object).await;
    assert_eq!((&put["spec"]["color"], &put["status"]), (&json!("blue"), &Value::Null));
    let mut object = put.clone();
    object["status"] = json!({"note": "y"});
    object["spec"]["color"] = "green".into();
    object["metadata"]["labels"] = json!({"a": "b"});
    let put_status = bed.ok("PUT", &bed.widget("a/status"), object).await;
    assert_eq!(put_status["status"]["note"], "y");
    assert_eq!(put_status["spec"]["color"], "blue");
    assert_eq!(put_status["metadata"]["labels"], Value::Null);
    assert!(version(&put_status) > version(&put));
    assert_eq!(generation(&put_status), generation(&put));
}

async fn scale_is_read_and_written_through_its_paths(bed: &Bed) {
    bed.create("a", json!({"replicas": 3})).await;
    bed.merge(&bed.widget("a/status"), json!({"status": {"replicas": 2, "selector": "app=a"}})).await;
    let scale = bed.get(&bed.widget("a/scale")).await;
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"], json!({"replicas": 3}));
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=a"}));
    let (code, patched) = bed.merge(&bed.widget("a/scale"), json!({"spec": {"replicas": 5}})).await;
    assert_eq!((code, &patched["spec"]["replicas"]), (200, &json!(5)));
    let object = bed.get(&bed.widget("a")).await;
    assert_eq!((&object["spec"]["replicas"], generation(&object)), (&json!(5), 2));
    let mut put = patched.clone();
    put["spec"]["replicas"] = 0.into();
    let put = bed.ok("PUT", &bed.widget("a/scale"), put).await;
    assert_eq!(put["spec"], json!({}));
    assert_eq!(bed.get(&bed.widget("a")).await["spec"]["replicas"], 0);
}

async fn scale_checks_preconditions(bed: &Bed) {
    bed.create("a", json!({"replicas": 3})).await;
    let stale = bed.get(&bed.widget("a/scale")).await;
    bed.merge(&bed.widget("a"), json!({"spec": {"size": 1}})).await;
    let (code, _) = bed.call("PUT", &bed.widget("a/scale"), stale.clone()).await;
    assert_eq!(code, 409);
    let mut negative = stale;
    negative["spec"]["replicas"] = (-1).into();
    negative["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let (code, _) = bed.call("PUT", &bed.widget("a/scale"), negative).await;
    assert_eq!(code, 422);
    let (code, _) = bed.merge(&bed.widget("none/scale"), json!({"spec": {"replicas": 5}})).await;
    assert_eq!(code, 404);
}

async fn deployment_can_be_scaled(bed: &Bed) {
    let deployment = json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    }});
    let made = bed.ok("POST", &bed.apps("deployments"), deployment).await;
    assert_eq!(made["spec"]["replicas"], 1);
    assert_eq!(made["spec"]["strategy"]["rollingUpdate"], json!({"maxSurge": "25%", "maxUnavailable": "25%"}));
    let scale = bed.get(&bed.apps("deployments/web/scale")).await;
    assert_eq!(scale["status"]["selector"], "app=web");
    let (code, _) = bed.merge(&bed.apps("deployments/web/scale"), json!({"spec": {"replicas": 4}})).await;
    assert_eq!(code, 200);
    assert_eq!(bed.get(&bed.apps("deployments/web")).await["spec"]["replicas"], 4);
}

async fn scale_write_takes_ownership_of_the_count(bed: &Bed) {
    const APPLY: &str = "application/apply-patch+yaml";
    let workload = |replicas: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "paused": true, "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
        }})
    };
    let path = format!("{}?fieldManager=m1", bed.apps("deployments/web"));
    assert_eq!(bed.call_as("PATCH", &path, APPLY, &workload(json!(0))).await.0, 201);
    let scale = format!("{}?fieldManager=m2", bed.apps("deployments/web/scale"));
    assert_eq!(bed.merge(&scale, json!({"spec": {"replicas": 3}})).await.0, 200);
    let (code, refused) = bed.call_as("PATCH", &path, APPLY, &workload(json!(0))).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")));
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with("Apply failed with 1 conflict: conflict with \"m2\" with subresource \"scale\""),
        "{message}"
    );
    // An apply without the count leaves it unchanged.
    let mut without = workload(Value::Null);
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let (code, left) = bed.call_as("PATCH", &path, APPLY, &without).await;
    assert_eq!((code, &left["spec"]["replicas"]), (200, &json!(3)), "{left}");
    bed.merge(&scale, json!({"spec": {"replicas": 0}})).await;
}

async fn lease_is_a_plain_object(bed: &Bed) {
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", bed.namespace);
    // The times of a lease are set by its holder, and the server accepts any.
    let spec = json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2001-01-01T00:00:00.000001Z"});
    let made = bed.ok("POST", &leases, json!({"metadata": {"name": "l"}, "spec": spec})).await;
    assert_eq!((&made["spec"], generation(&made)), (&spec, 0));
    let mut taken = made.clone();
    taken["spec"]["holderIdentity"] = "b".into();
    bed.ok("PUT", &format!("{leases}/l"), taken.clone()).await;
    assert_eq!(bed.call("PUT", &format!("{leases}/l"), taken).await.0, 409, "one of two wins");
    let (code, refused) = bed.merge(&format!("{leases}/l"), json!({"spec": {"leaseDurationSeconds": 0}})).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("spec.leaseDurationSeconds")));
}
