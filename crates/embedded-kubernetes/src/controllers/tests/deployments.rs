//! Tests of `Deployments`, `ReplicaSets` and `StatefulSets`.

use serde_json::{Value, json};

use super::World;
use super::world::{apps, template, workload};
use crate::meta;

fn image(pod: &Value) -> &str {
    meta::text(pod, "/spec/containers/0/image")
}

fn condition<'a>(object: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let all = object["status"]["conditions"].as_array().expect("conditions");
    let found = all.iter().find(|condition| condition["type"] == kind).expect("the condition");
    (meta::text(found, "/status"), meta::text(found, "/reason"))
}

#[tokio::test(start_paused = true)]
async fn deployment_becomes_available() {
    let world = World::with_node().await;
    world.create(workload("Deployment", 3, json!({})));
    world.settle().await;
    let deployment = world.get(&apps("deployments"), "a").unwrap();
    let status = &deployment["status"];
    for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[count], 3, "{count}");
    }
    assert_eq!(status["observedGeneration"], deployment["metadata"]["generation"]);
    assert!(status.get("unavailableReplicas").is_none());
    assert_eq!(condition(&deployment, "Available"), ("True", "MinimumReplicasAvailable"));
    assert_eq!(condition(&deployment, "Progressing"), ("True", "NewReplicaSetAvailable"));
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    let pods = world.pods();
    let hash = pods[0]["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert!(meta::name(&pods[0]).starts_with(&format!("a-{hash}-")));
    let set = world.get(&apps("replicasets"), &format!("a-{hash}")).unwrap();
    assert_eq!(set["status"]["fullyLabeledReplicas"], 3);
    assert!(meta::controlled_by(&pods[0], meta::uid(&set)));
    assert_eq!(world.events("a").len(), 1, "{:?}", world.events("a"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn rolling_update_keeps_within_its_limits() {
    let world = World::with_node().await;
    let rolling = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    world.create(workload("Deployment", 3, rolling));
    world.settle().await;
    world.change(&apps("deployments"), "a", |deployment| deployment["spec"]["template"] = template("x:2", &[]));
    for _ in 0..400 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let pods: Vec<Value> = world.pods().into_iter().filter(|pod| !meta::deleting(pod)).collect();
        let ready = pods.iter().filter(|pod| meta::condition(pod, "Ready") == Some("True")).count();
        assert!((3..=4).contains(&pods.len()) && ready >= 3, "{} pods, {ready} ready", pods.len());
    }
    assert!(world.pods().iter().all(|pod| image(pod) == "x:2"));
    let deployment = world.get(&apps("deployments"), "a").unwrap();
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    assert_eq!(condition(&deployment, "Progressing"), ("True", "NewReplicaSetAvailable"));
    // Back to the first template: its set is used again with the next revision.
    world.change(&apps("deployments"), "a", |deployment| deployment["spec"]["template"] = template("x:1", &[]));
    world.settle().await;
    let sets = world.user.list(&apps("replicasets"), Some("default"));
    assert_eq!(sets.len(), 2);
    let newest = sets.iter().find(|set| set.value["spec"]["replicas"] == 3).unwrap();
    assert_eq!(newest.value["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(newest.value["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn stuck_rollout_exceeds_its_deadline() {
    let world = World::with_node().await;
    world.create(workload("Deployment", 2, json!({"progressDeadlineSeconds": 60})));
    world.settle().await;
    world.change(&apps("deployments"), "a", |deployment| {
        deployment["spec"]["template"] = template("x:2", &["broken"]);
    });
    world.after(30).await;
    let deployment = world.get(&apps("deployments"), "a").unwrap();
    assert_eq!(condition(&deployment, "Progressing"), ("True", "ReplicaSetUpdated"));
    world.after(90).await;
    let deployment = world.get(&apps("deployments"), "a").unwrap();
    assert_eq!(condition(&deployment, "Progressing"), ("False", "ProgressDeadlineExceeded"));
    assert_eq!(condition(&deployment, "Available"), ("True", "MinimumReplicasAvailable"), "the old pods still run");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn recreate_ends_the_old_pods_first() {
    let world = World::with_node().await;
    world.create(workload("Deployment", 2, json!({"strategy": {"type": "Recreate"}})));
    world.settle().await;
    world.change(&apps("deployments"), "a", |deployment| deployment["spec"]["template"] = template("x:2", &[]));
    let mut empty = false;
    for _ in 0..100 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let pods = world.pods();
        let old = pods.iter().filter(|pod| image(pod) == "x:1").count();
        assert!(old == 0 || old == pods.len(), "both templates at the same time");
        empty |= old == 0;
    }
    world.settle().await;
    assert!(empty && world.pods().len() == 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn paused_deployment_is_scaled_but_not_rolled() {
    let world = World::with_node().await;
    world.create(workload("Deployment", 2, json!({})));
    world.settle().await;
    world.change(&apps("deployments"), "a", |deployment| {
        deployment["spec"]["paused"] = true.into();
        deployment["spec"]["replicas"] = 4.into();
        deployment["spec"]["template"] = template("x:2", &[]);
    });
    world.settle().await;
    assert_eq!(world.pods().len(), 4);
    assert!(world.pods().iter().all(|pod| image(pod) == "x:1"));
    let deployment = world.get(&apps("deployments"), "a").unwrap();
    assert_eq!(condition(&deployment, "Progressing"), ("Unknown", "DeploymentPaused"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn scaling_during_a_rollout_is_proportional() {
    let world = World::new();
    world.add_node("n", "100");
    world.run_kubelet();
    world.create(workload("Deployment", 8, json!({})));
    world.settle().await;
    world.change(&apps("deployments"), "a", |deployment| {
        deployment["spec"]["template"] = template("x:2", &["broken"]);
    });
    world.settle().await;
    let sizes = || -> Vec<i64> {
        let sets = world.user.list(&apps("replicasets"), Some("default"));
        let mut sizes: Vec<i64> = sets.iter().filter_map(|set| set.value["spec"]["replicas"].as_i64()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(), [4, 6], "two pods more than desired, two old ones fewer");
    world.change(&apps("deployments"), "a", |deployment| deployment["spec"]["replicas"] = 16.into());
    world.settle().await;
    assert_eq!(sizes(), [8, 12], "the same proportions at twice the size");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn old_replica_sets_are_deleted_beyond_the_limit() {
    let world = World::with_node().await;
    world.create(workload("Deployment", 1, json!({"revisionHistoryLimit": 1})));
    for number in 2..6 {
        world.settle().await;
        world.change(&apps("deployments"), "a", |deployment| {
            deployment["spec"]["template"] = template(&format!("x:{number}"), &[]);
        });
    }
    world.settle().await;
    assert_eq!(world.user.list(&apps("replicasets"), Some("default")).len(), 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn replica_set_adopts_and_releases_pods() {
    let world = World::with_node().await;
    let mut orphan = template("x:1", &[]);
    orphan["apiVersion"] = "v1".into();
    orphan["kind"] = "Pod".into();
    orphan["metadata"]["name"] = "orphan".into();
    orphan["metadata"]["namespace"] = "default".into();
    world.create(orphan);
    world.create(workload("ReplicaSet", 2, json!({})));
    world.settle().await;
    let set = world.get(&apps("replicasets"), "a").unwrap();
    let pods = crate::kinds::Resource::new("", "pods");
    assert_eq!(world.pods().len(), 2);
    assert!(meta::controlled_by(&world.get(&pods, "orphan").unwrap(), meta::uid(&set)));
    world.change(&pods, "orphan", |pod| pod["metadata"]["labels"]["app"] = "other".into());
    world.settle().await;
    assert_eq!(world.pods().len(), 3);
    assert!(meta::controller(&world.get(&pods, "orphan").unwrap()).is_none());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn creation_that_fails_for_all_pods_is_tried_rarely() {
    let world = World::with_node().await;
    world
        .create(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": {"pods": "2"}}}));
    world.settle().await;
    let before = world.server.store().revision();
    world.create(workload("ReplicaSet", 100, json!({})));
    world.after(10).await;
    let set = world.get(&apps("replicasets"), "a").unwrap();
    assert_eq!(set["status"]["replicas"], 2);
    assert_eq!(condition(&set, "ReplicaFailure"), ("True", "FailedCreate"));
    assert!(world.server.store().revision() - before < 80, "{}", world.server.store().revision() - before);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn stateful_set_starts_and_stops_pods_in_order() {
    let world = World::with_node().await;
    world.create(workload("StatefulSet", 3, json!({"serviceName": "s"})));
    world.after(1).await;
    assert_eq!(world.pods().len(), 1, "the second waits for the first");
    world.settle().await;
    let names: Vec<String> = world.pods().iter().map(|pod| meta::name(pod).to_owned()).collect();
    assert_eq!(names, ["a-0", "a-1", "a-2"]);
    let pod = &world.pods()[1];
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"], "a-1");
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("a-1"), &json!("s")));
    let set = world.get(&apps("statefulsets"), "a").unwrap();
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], set["status"]["updateRevision"]);
    for count in ["replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"] {
        assert_eq!(set["status"][count], 3, "{count}");
    }
    world.change(&apps("statefulsets"), "a", |set| set["spec"]["replicas"] = 1.into());
    world.settle().await;
    assert_eq!(world.pods().len(), 1);
    assert_eq!(meta::name(&world.pods()[0]), "a-0");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn stateful_set_rolls_down_to_its_partition() {
    let world = World::with_node().await;
    let parallel = json!({"podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
    world.create(workload("StatefulSet", 3, parallel));
    world.after(1).await;
    assert_eq!(world.pods().len(), 3, "all at once");
    world.settle().await;
    world.change(&apps("statefulsets"), "a", |set| set["spec"]["template"] = template("x:2", &[]));
    world.settle().await;
    assert_eq!(world.pods().iter().map(image).collect::<Vec<_>>(), ["x:1", "x:2", "x:2"]);
    let set = world.get(&apps("statefulsets"), "a").unwrap();
    assert_eq!((&set["status"]["currentReplicas"], &set["status"]["updatedReplicas"]), (&json!(1), &json!(2)));
    assert_ne!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    // A pod below the partition comes back as it was.
    world.delete(&crate::kinds::Resource::new("", "pods"), "a-0", "Background").unwrap();
    world.settle().await;
    assert_eq!(world.pods().iter().map(image).collect::<Vec<_>>(), ["x:1", "x:2", "x:2"]);
    world.change(&apps("statefulsets"), "a", |set| {
        set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
    });
    world.settle().await;
    assert_eq!(world.pods().iter().map(image).collect::<Vec<_>>(), ["x:2", "x:2", "x:2"]);
    let set = world.get(&apps("statefulsets"), "a").unwrap();
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn stateful_set_with_volume_claims_is_refused() {
    let world = World::with_node().await;
    let claims = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]});
    world.create(workload("StatefulSet", 3, claims));
    world.settle().await;
    assert!(world.pods().is_empty());
    assert_eq!(world.events("a")[0].0, "FailedCreate");
    world.end().await;
}
