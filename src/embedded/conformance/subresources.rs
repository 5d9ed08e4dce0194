//! F7 and F8: status and scale.

use serde_json::{Value, json};

use super::{Bed, conformance, generation, version};

conformance! {
    f07_the_object_ignores_status_and_the_status_ignores_the_rest;
    f08_scale_is_read_and_written_through_its_paths;
    f08_scale_has_preconditions_of_its_own;
    f08_deployments_scale;
}

async fn f07_the_object_ignores_status_and_the_status_ignores_the_rest(bed: &Bed) {
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

async fn f08_scale_is_read_and_written_through_its_paths(bed: &Bed) {
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

async fn f08_scale_has_preconditions_of_its_own(bed: &Bed) {
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

async fn f08_deployments_scale(bed: &Bed) {
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
