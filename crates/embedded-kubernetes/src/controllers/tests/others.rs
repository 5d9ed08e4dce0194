//! Tests of the garbage collector, namespaces, jobs, disruption budgets, quotas and the scheduler.

use serde_json::{Value, json};

use super::World;
use super::world::{apps, template, workload};
use crate::kinds::Resource;
use crate::meta;

fn core(plural: &str) -> Resource {
    Resource::new("", plural)
}

fn map(name: &str, owner: Option<&Value>) -> Value {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    if let Some(owner) = owner {
        map["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": meta::name(owner), "uid": meta::uid(owner),
            "blockOwnerDeletion": true,
        }]);
    }
    map
}

#[tokio::test(start_paused = true)]
async fn dependents_are_deleted_with_their_owner() {
    let world = World::new();
    let owner = world.create(map("owner", None));
    let child = world.create(map("child", Some(&owner.value)));
    world.create(map("grandchild", Some(&child.value)));
    world.settle().await;
    assert!(world.get(&core("configmaps"), "grandchild").is_some());
    world.delete(&core("configmaps"), "owner", "Background").unwrap();
    world.settle().await;
    assert!(world.get(&core("configmaps"), "child").is_none());
    assert!(world.get(&core("configmaps"), "grandchild").is_none());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn new_object_of_the_same_name_is_another_owner() {
    let world = World::new();
    let owner = world.create(map("owner", None));
    world.delete(&core("configmaps"), "owner", "Background").unwrap();
    world.create(map("owner", None));
    world.create(map("child", Some(&owner.value)));
    world.settle().await;
    assert!(world.get(&core("configmaps"), "child").is_none());
    assert!(world.get(&core("configmaps"), "owner").is_some());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_removes_the_owner_last() {
    let world = World::new();
    let owner = world.create(map("owner", None));
    let mut child = map("child", Some(&owner.value));
    child["metadata"]["finalizers"] = json!(["example.test/hold"]);
    world.create(child);
    world.settle().await;
    world.delete(&core("configmaps"), "owner", "Foreground").unwrap();
    world.settle().await;
    let owner = world.get(&core("configmaps"), "owner").expect("it waits");
    assert_eq!(meta::finalizers(&owner), ["foregroundDeletion"]);
    assert!(meta::deleting(&world.get(&core("configmaps"), "child").unwrap()));
    world.change(&core("configmaps"), "child", |child| meta::set_finalizers(child, Vec::new()));
    world.settle().await;
    assert!(world.get(&core("configmaps"), "owner").is_none());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn orphaned_dependents_survive_their_owner() {
    let world = World::new();
    let owner = world.create(map("owner", None));
    world.create(map("child", Some(&owner.value)));
    world.settle().await;
    world.delete(&core("configmaps"), "owner", "Orphan").unwrap();
    world.settle().await;
    assert!(world.get(&core("configmaps"), "owner").is_none());
    assert_eq!(meta::owners(&world.get(&core("configmaps"), "child").unwrap()).count(), 0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn owner_in_another_namespace_counts_as_gone() {
    let world = World::new();
    let mut owner = map("owner", None);
    owner["metadata"]["namespace"] = "kube-public".into();
    let owner = world.create(owner);
    world.create(map("child", Some(&owner.value)));
    world.settle().await;
    assert!(world.get(&core("configmaps"), "child").is_none());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_present_owner_keeps_a_dependent() {
    let world = World::new();
    let (a, b) = (world.create(map("a", None)), world.create(map("b", None)));
    let mut child = map("child", Some(&a.value));
    let more = map("child", Some(&b.value))["metadata"]["ownerReferences"][0].clone();
    child["metadata"]["ownerReferences"].as_array_mut().unwrap().push(more);
    world.create(child);
    world.settle().await;
    world.delete(&core("configmaps"), "a", "Background").unwrap();
    world.settle().await;
    let child = world.get(&core("configmaps"), "child").expect("the other owner still exists");
    let owners: Vec<&str> = meta::owners(&child).map(|owner| meta::text(owner, "/name")).collect();
    assert_eq!(owners, ["b"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn deployment_is_deleted_with_its_pods() {
    for propagation in ["Background", "Foreground"] {
        let world = World::with_node().await;
        world.create(workload("Deployment", 2, json!({})));
        world.settle().await;
        world.delete(&apps("deployments"), "a", propagation).unwrap();
        world.settle().await;
        assert!(world.get(&apps("deployments"), "a").is_none());
        assert!(world.user.list(&apps("replicasets"), None).is_empty() && world.pods().is_empty());
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn namespace_is_removed_after_its_contents() {
    let world = World::with_node().await;
    let namespace = world.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t"}}));
    let mut inside = workload("Deployment", 2, json!({}));
    inside["metadata"]["namespace"] = "t".into();
    world.create(inside);
    let mut held = map("held", None);
    held["metadata"]["namespace"] = "t".into();
    held["metadata"]["finalizers"] = json!(["example.test/hold"]);
    world.create(held);
    world.settle().await;
    assert!(world.user.get(&core("serviceaccounts"), "t/default").is_some());
    world.user.delete(&namespace.value, "Background", None).unwrap();
    world.settle().await;
    let going = world.user.get(&core("namespaces"), "t").expect("the namespace waits for the object with a finalizer");
    assert_eq!(going.value["status"]["phase"], "Terminating");
    let conditions = going.value["status"]["conditions"].as_array().unwrap();
    let message = |kind: &str| {
        let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        meta::text(found, "/message").to_owned()
    };
    assert_eq!(
        message("NamespaceContentRemaining"),
        "Some resources are remaining: configmaps. has 1 resource instances"
    );
    assert_eq!(
        message("NamespaceFinalizersRemaining"),
        "Some content in the namespace has finalizers remaining: example.test/hold in 1 resource instances"
    );
    let mut held = world.user.get(&core("configmaps"), "t/held").unwrap().value.clone();
    meta::set_finalizers(&mut held, Vec::new());
    world.user.replace(&held, "").unwrap();
    world.settle().await;
    assert!(world.user.get(&core("namespaces"), "t").is_none());
    assert!(world.user.list(&core("pods"), Some("t")).is_empty());
    world.end().await;
}

fn job(labels: &[&str], spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "default"},
        "spec": {"template": template("x", labels)},
    });
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    if let Value::Object(spec) = spec {
        job["spec"].as_object_mut().unwrap().extend(spec);
    }
    job
}

fn jobs() -> Resource {
    Resource::new("batch", "jobs")
}

fn condition_types(job: &Value) -> Vec<&str> {
    let conditions = job["status"]["conditions"].as_array();
    conditions.into_iter().flatten().map(|condition| meta::text(condition, "/type")).collect()
}

#[tokio::test(start_paused = true)]
async fn job_runs_until_enough_pods_have_succeeded() {
    let world = World::with_node().await;
    world.create(job(&["brief"], json!({"completions": 3, "parallelism": 2})));
    world.after(1).await;
    assert_eq!(world.pods().len(), 2);
    world.settle().await;
    let done = world.get(&jobs(), "a").unwrap();
    assert_eq!(done["status"]["succeeded"], 3);
    assert_eq!(condition_types(&done), ["SuccessCriteriaMet", "Complete"]);
    assert!(done["status"]["completionTime"].is_string());
    assert_eq!(done["status"]["uncountedTerminatedPods"], json!({}));
    assert_eq!(world.pods().len(), 3);
    assert!(world.pods().iter().all(|pod| meta::finalizers(pod).is_empty()));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn job_fails_when_too_many_pods_have_failed() {
    let world = World::with_node().await;
    world.create(job(&["doomed"], json!({"backoffLimit": 2, "ttlSecondsAfterFinished": 300})));
    world.after(120).await;
    let done = world.get(&jobs(), "a").unwrap();
    assert_eq!(done["status"]["failed"], 3);
    assert_eq!(condition_types(&done), ["FailureTarget", "Failed"]);
    let failed = done["status"]["conditions"][1].clone();
    assert_eq!(
        (&failed["reason"], &failed["message"]),
        (&json!("BackoffLimitExceeded"), &json!("Job has reached the specified backoff limit"))
    );
    world.after(400).await;
    assert!(world.get(&jobs(), "a").is_none() && world.pods().is_empty(), "its time to live is over");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn job_is_ended_at_its_deadline() {
    let world = World::with_node().await;
    world.create(job(&[], json!({"activeDeadlineSeconds": 60})));
    world.after(30).await;
    assert_eq!(world.get(&jobs(), "a").unwrap()["status"]["active"], 1);
    world.after(60).await;
    let done = world.get(&jobs(), "a").unwrap();
    assert_eq!(condition_types(&done), ["FailureTarget", "Failed"]);
    assert_eq!(done["status"]["conditions"][1]["reason"], "DeadlineExceeded");
    assert!(world.pods().is_empty());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn orphaned_pods_of_a_job_lose_the_finalizer() {
    let world = World::with_node().await;
    world.create(job(&[], json!({})));
    world.settle().await;
    assert_eq!(meta::finalizers(&world.pods()[0]), ["batch.kubernetes.io/job-tracking"]);
    world.delete(&jobs(), "a", "Orphan").unwrap();
    world.settle().await;
    assert!(world.get(&jobs(), "a").is_none());
    assert!(meta::finalizers(&world.pods()[0]).is_empty() && meta::controller(&world.pods()[0]).is_none());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn budget_counts_allowed_disruptions() {
    let world = World::with_node().await;
    world.create(workload("Deployment", 4, json!({})));
    world.create(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "default"},
        "spec": {"maxUnavailable": "25%", "selector": {"matchLabels": {"app": "a"}}},
    }));
    world.settle().await;
    let budget = world.get(&Resource::new("policy", "poddisruptionbudgets"), "b").unwrap();
    let status = &budget["status"];
    for (key, count) in [("expectedPods", 4), ("currentHealthy", 4), ("desiredHealthy", 3), ("disruptionsAllowed", 1)] {
        assert_eq!(status[key], count, "{key}");
    }
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["conditions"][0]["reason"], "SufficientPods");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn unschedulable_pod_waits_and_reports_why() {
    let world = World::new();
    world.add_node("n", "10");
    let mut pod = template("x", &[]);
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "a".into();
    pod["metadata"]["namespace"] = "default".into();
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "5"}});
    world.create(pod);
    world.settle().await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
                   available: 1 Preemption is not helpful for scheduling.";
    let waiting = world.get(&core("pods"), "a").unwrap();
    let condition = &waiting["status"]["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Unschedulable")));
    assert_eq!(condition["message"], message);
    assert_eq!(world.events("a"), [("FailedScheduling".to_owned(), message.to_owned())]);
    world.change_node("n", "6");
    world.settle().await;
    assert_eq!(world.get(&core("pods"), "a").unwrap()["spec"]["nodeName"], "n");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn pods_are_spread_over_the_nodes_with_room() {
    let world = World::new();
    for node in ["l", "m", "n"] {
        world.add_node(node, "2");
    }
    world.run_kubelet();
    world.create(workload("ReplicaSet", 7, json!({})));
    world.settle().await;
    let on = |node: &str| world.pods().iter().filter(|pod| meta::text(pod, "/spec/nodeName") == node).count();
    assert_eq!([on("l"), on("m"), on("n"), on("")], [2, 2, 2, 1]);
    let waiting = world.pods().into_iter().find(|pod| meta::text(pod, "/spec/nodeName").is_empty()).unwrap();
    let message = meta::text(&waiting, "/status/conditions/0/message");
    assert!(message.starts_with("0/3 nodes are available: 3 Too many pods."), "{message}");
    // Freed resources are used.
    let gone = world.pods().into_iter().find(|pod| meta::text(pod, "/spec/nodeName") == "m").unwrap();
    world.change(&apps("replicasets"), "a", |set| set["spec"]["replicas"] = 6.into());
    world.settle().await;
    assert_eq!(world.pods().len(), 6, "the unscheduled pod is deleted first");
    world.user.delete(&gone, "Background", None).unwrap();
    world.settle().await;
    assert_eq!([on("l"), on("m"), on("n")], [2, 2, 2]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn quota_is_released_when_pods_end() {
    let world = World::with_node().await;
    world
        .create(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": {"pods": "3", "count/replicasets.apps": "1"}}}));
    world.settle().await;
    world.create(workload("ReplicaSet", 3, json!({})));
    world.settle().await;
    let used = || world.get(&core("resourcequotas"), "q").unwrap()["status"]["used"].clone();
    assert_eq!(used(), json!({"pods": "3", "count/replicasets.apps": "1"}));
    world.change(&apps("replicasets"), "a", |set| set["spec"]["replicas"] = 1.into());
    world.settle().await;
    assert_eq!(used()["pods"], "1");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn suspended_job_stops_pods_without_counting_failures() {
    let world = World::with_node().await;
    world.create(job(&[], json!({"parallelism": 2})));
    world.settle().await;
    world.change(&jobs(), "a", |job| job["spec"]["suspend"] = true.into());
    world.settle().await;
    let suspended = world.get(&jobs(), "a").unwrap();
    assert!(world.pods().is_empty());
    assert_eq!(condition_types(&suspended), ["Suspended"]);
    assert!(suspended["status"].get("failed").is_none() && suspended["status"].get("startTime").is_none());
    world.change(&jobs(), "a", |job| job["spec"]["suspend"] = false.into());
    world.settle().await;
    assert_eq!(world.pods().len(), 2);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn pod_of_a_lost_node_is_replaced_elsewhere() {
    let world = World::with_node().await;
    world.create(workload("ReplicaSet", 1, json!({})));
    world.settle().await;
    world.add_node("other", "10");
    let node = world.user.get(&core("nodes"), "n").unwrap();
    world.user.delete(&node.value, "Background", None).unwrap();
    world.after(30).await;
    assert_eq!(world.pods()[0]["spec"]["nodeName"], "n", "it may come back");
    world.after(30).await;
    assert_eq!(world.pods().len(), 1);
    assert_eq!(world.pods()[0]["spec"]["nodeName"], "other");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn scheduler_starts_over_after_missed_changes() {
    let world = World::new();
    world.add_node("n", "2");
    world.create(workload("ReplicaSet", 2, json!({})));
    world.settle().await;
    // The pods are deleted and the history is dropped before the scheduler runs, so that it cannot see the deletions.
    let set = world.get(&apps("replicasets"), "a").unwrap();
    world.user.delete(&set, "Orphan", None).unwrap();
    for pod in world.pods() {
        world.user.delete(&pod, "Background", Some(0)).unwrap();
    }
    world.server.store().compact(world.server.store().revision());
    world.settle().await;
    let mut again = workload("ReplicaSet", 2, json!({}));
    again["metadata"]["name"] = "b".into();
    world.create(again);
    world.settle().await;
    assert!(world.pods().iter().all(|pod| pod["spec"]["nodeName"] == "n"), "{:?}", world.pods());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn old_events_expire() {
    let world = World::with_node().await;
    world.create(workload("ReplicaSet", 1, json!({})));
    world.settle().await;
    world.after(3500).await;
    assert_eq!(world.events("a").len(), 1);
    world.change(&apps("replicasets"), "a", |set| set["spec"]["replicas"] = 2.into());
    world.after(300).await;
    assert_eq!(world.events("a").len(), 1, "{:?}", world.events("a"));
    world.after(3600).await;
    assert!(world.events("a").is_empty());
    world.end().await;
}
