//! Rules F9, F12, F13 and F29: the controllers. Pods are assigned to a node without a kubelet, so that only the test
//! writes their status.

use serde_json::{Value, json};

use super::{Bed, conformance, version};

conformance! {
    acting:
    /// Catalogue: F9.
    eviction_beyond_the_budget_is_refused_for_now;
    /// Catalogue: F9.
    evictions_use_up_the_budget;
    /// Catalogue: F12.
    terminating_pod_is_replaced_at_once;
    /// Catalogue: F13.
    background_deletion_removes_dependents_later;
    /// Catalogue: F13.
    foreground_deletion_removes_the_owner_last;
    /// Catalogue: F13.
    orphan_deletion_keeps_dependents;
    /// Catalogue: F13.
    new_object_of_the_same_name_is_another_owner;
    /// Catalogue: F13.
    owner_in_another_namespace_counts_as_gone;
    /// Catalogue: F29.
    deployment_reports_its_progress;
    /// Catalogue: F29.
    stateful_set_creates_pods_in_order;
    /// Catalogue: F29.
    job_completes_when_enough_pods_succeed;
    /// Catalogue: F29.
    unschedulable_pod_reports_why;
    namespace_is_emptied_before_it_is_removed;
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "x:1"}],
            "automountServiceAccountToken": false},
    })
}

fn workload(replicas: i64) -> Value {
    json!({
        "metadata": {"name": "a"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": template()},
    })
}

async fn names(bed: &Bed) -> Vec<String> {
    let list = bed.get(&bed.core("pods")).await;
    list["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a workload has `count` pods, and returns their names.
async fn pods(bed: &Bed, collection: &str, count: i64) -> Vec<String> {
    bed.until(&bed.apps(collection), "a", |object| object["status"]["replicas"] == count).await;
    names(bed).await
}

async fn become_ready(bed: &Bed, pod: &str, phase: &str) {
    let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let status = json!({"status": {"phase": phase, "conditions": ready}});
    let (code, answer) = bed.merge(&format!("{}/status", bed.core(&format!("pods/{pod}"))), status).await;
    assert_eq!(code, 200, "{answer}");
}

fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}})
}

async fn eviction_beyond_the_budget_is_refused_for_now(bed: &Bed) {
    let mut pod = json!({"metadata": {"name": "a", "labels": {"app": "a"}}, "spec": template()["spec"]});
    pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
    bed.ok("POST", &bed.core("pods"), pod).await;
    become_ready(bed, "a", "Running").await;
    let budgets = format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", bed.namespace);
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    bed.ok("POST", &budgets, budget).await;
    bed.until(&budgets, "b", |budget| budget["status"]["currentHealthy"] == 1).await;
    let (code, refused) = bed.call("POST", &bed.core("pods/a/eviction"), eviction("a")).await;
    assert_eq!((code, &refused["reason"]), (429, &json!("TooManyRequests")), "{refused}");
    assert_eq!(refused["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(refused["details"]["causes"][0]["reason"], "DisruptionBudget");
    // The limit is the one that was calculated last, so a change of the budget takes a moment to have effect.
    bed.merge(&format!("{budgets}/b"), json!({"spec": {"minAvailable": 0}})).await;
    bed.until(&budgets, "b", |budget| budget["status"]["disruptionsAllowed"] == 1).await;
    bed.ok("POST", &bed.core("pods/a/eviction"), eviction("a")).await;
    assert_eq!(bed.call("GET", &bed.core("pods/a"), Value::Null).await.0, 404);
    bed.until(&budgets, "b", |budget| budget["status"]["disruptionsAllowed"] == 0).await;
}

async fn evictions_use_up_the_budget(bed: &Bed) {
    bed.ok("POST", &bed.apps("replicasets"), workload(2)).await;
    for pod in pods(bed, "replicasets", 2).await {
        become_ready(bed, &pod, "Running").await;
    }
    let budgets = format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", bed.namespace);
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "a"}}}});
    bed.ok("POST", &budgets, budget).await;
    let counted = bed.until(&budgets, "b", |budget| budget["status"]["disruptionsAllowed"] == 1).await;
    let status = &counted["status"];
    assert_eq!(
        (&status["expectedPods"], &status["currentHealthy"], &status["desiredHealthy"]),
        (&json!(2), &json!(2), &json!(1))
    );
    let condition = &status["conditions"][0];
    assert_eq!((&condition["type"], &condition["reason"]), (&json!("DisruptionAllowed"), &json!("SufficientPods")));
    let ready = names(bed).await;
    let path = |name: &str| bed.core(&format!("pods/{name}/eviction"));
    let (code, answer) = bed.call("POST", &format!("{}?dryRun=All", path(&ready[0])), eviction(&ready[0])).await;
    assert_eq!(code, 201, "{answer}");
    bed.ok("POST", &path(&ready[0]), eviction(&ready[0])).await;
    let (code, refused) = bed.call("POST", &path(&ready[1]), eviction(&ready[1])).await;
    assert_eq!((code, &refused["reason"]), (429, &json!("TooManyRequests")), "{refused}");
    let terminating = bed.get(&bed.core(&format!("pods/{}", ready[0]))).await;
    assert!(terminating["metadata"]["deletionTimestamp"].is_string());
    let conditions = terminating["status"]["conditions"].as_array().unwrap();
    let why = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget").expect("a reason");
    assert_eq!((&why["reason"], &why["message"]), (&json!("EvictionByEvictionAPI"), &json!("Eviction API: evicting")));
    let spent = bed.until(&budgets, "b", |budget| budget["status"]["currentHealthy"] == 1).await;
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
}

async fn terminating_pod_is_replaced_at_once(bed: &Bed) {
    bed.ok("POST", &bed.apps("replicasets"), workload(1)).await;
    let first = pods(bed, "replicasets", 1).await.remove(0);
    let mut events =
        bed.watch(&bed.core("pods"), &format!("resourceVersion={}", version(&bed.get(&bed.core("pods")).await))).await;
    bed.ok("DELETE", &bed.core(&format!("pods/{first}")), Value::Null).await;
    loop {
        let (kind, name) = events.brief().await;
        assert_ne!(kind, "DELETED", "the grace period is not over");
        if kind == "ADDED" && name != first {
            break;
        }
    }
    let terminating = bed.get(&bed.core(&format!("pods/{first}"))).await;
    assert_eq!(terminating["metadata"]["deletionGracePeriodSeconds"], 30);
    // The kubelet would do this at the end of the grace period.
    bed.ok("DELETE", &bed.core(&format!("pods/{first}")), json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(bed.call("GET", &bed.core(&format!("pods/{first}")), Value::Null).await.0, 404);
}

async fn map(bed: &Bed, name: &str, owner: Option<&Value>) -> Value {
    let mut map = json!({"metadata": {"name": name}});
    if let Some(owner) = owner {
        map["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": true,
        }]);
    }
    bed.ok("POST", &bed.core("configmaps"), map).await
}

async fn background_deletion_removes_dependents_later(bed: &Bed) {
    let owner = map(bed, "owner", None).await;
    let child = map(bed, "child", Some(&owner)).await;
    map(bed, "grandchild", Some(&child)).await;
    bed.ok("DELETE", &bed.core("configmaps/owner"), json!({"propagationPolicy": "Background"})).await;
    assert_eq!(
        bed.call("GET", &bed.core("configmaps/owner"), Value::Null).await.0,
        404,
        "the owner is removed at once"
    );
    bed.until(&bed.core("configmaps"), "grandchild", Value::is_null).await;
    assert_eq!(bed.call("GET", &bed.core("configmaps/child"), Value::Null).await.0, 404);
}

async fn foreground_deletion_removes_the_owner_last(bed: &Bed) {
    let owner = map(bed, "owner", None).await;
    map(bed, "child", Some(&owner)).await;
    bed.merge(&bed.core("configmaps/child"), json!({"metadata": {"finalizers": ["example.test/hold"]}})).await;
    bed.ok("DELETE", &bed.core("configmaps/owner"), json!({"propagationPolicy": "Foreground"})).await;
    let is_deleting = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
    bed.until(&bed.core("configmaps"), "child", is_deleting).await;
    let waiting = bed.get(&bed.core("configmaps/owner")).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    bed.merge(&bed.core("configmaps/child"), json!({"metadata": {"finalizers": null}})).await;
    bed.until(&bed.core("configmaps"), "owner", Value::is_null).await;
}

async fn orphan_deletion_keeps_dependents(bed: &Bed) {
    let owner = map(bed, "owner", None).await;
    map(bed, "child", Some(&owner)).await;
    bed.ok("DELETE", &bed.core("configmaps/owner"), json!({"propagationPolicy": "Orphan"})).await;
    bed.until(&bed.core("configmaps"), "owner", Value::is_null).await;
    assert!(bed.get(&bed.core("configmaps/child")).await["metadata"].get("ownerReferences").is_none());
}

async fn new_object_of_the_same_name_is_another_owner(bed: &Bed) {
    let owner = map(bed, "owner", None).await;
    bed.ok("DELETE", &bed.core("configmaps/owner"), json!({"propagationPolicy": "Background"})).await;
    map(bed, "owner", None).await;
    map(bed, "child", Some(&owner)).await;
    bed.until(&bed.core("configmaps"), "child", Value::is_null).await;
    bed.get(&bed.core("configmaps/owner")).await;
}

async fn owner_in_another_namespace_counts_as_gone(bed: &Bed) {
    let other = format!("{}-other", bed.namespace);
    bed.ok("POST", "/api/v1/namespaces", json!({"metadata": {"name": other}})).await;
    let path = format!("/api/v1/namespaces/{other}/configmaps");
    let owner = bed.ok("POST", &path, json!({"metadata": {"name": "owner"}})).await;
    map(bed, "child", Some(&owner)).await;
    bed.until(&bed.core("configmaps"), "child", Value::is_null).await;
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let all = object["status"]["conditions"].as_array();
    all.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

async fn deployment_reports_its_progress(bed: &Bed) {
    bed.ok("POST", &bed.apps("deployments"), workload(2)).await;
    let found = pods(bed, "deployments", 2).await;
    let started = bed.until(&bed.apps("deployments"), "a", |object| object["status"]["unavailableReplicas"] == 2).await;
    assert_eq!(condition(&started, "Available")["reason"], "MinimumReplicasUnavailable");
    assert_eq!(condition(&started, "Available")["message"], "Deployment does not have minimum availability.");
    assert_eq!(condition(&started, "Progressing")["status"], "True");
    assert_eq!(started["status"]["observedGeneration"], 1);
    assert_eq!(started["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    let pod = bed.get(&bed.core(&format!("pods/{}", found[0]))).await;
    let hash = pod["metadata"]["labels"]["pod-template-hash"].as_str().expect("the hash");
    let set = bed.get(&bed.apps(&format!("replicasets/a-{hash}"))).await;
    assert_eq!(set["spec"]["selector"]["matchLabels"], json!({"app": "a", "pod-template-hash": hash}));
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&set["metadata"]["uid"], &json!(true)));
    for pod in found {
        become_ready(bed, &pod, "Running").await;
    }
    let done = bed
        .until(&bed.apps("deployments"), "a", |object| {
            condition(object, "Progressing")["reason"] == "NewReplicaSetAvailable"
        })
        .await;
    assert_eq!(condition(&done, "Available")["message"], "Deployment has minimum availability.");
    let message = format!("ReplicaSet \"a-{hash}\" has successfully progressed.");
    assert_eq!(condition(&done, "Progressing")["message"], message);
    for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(done["status"][count], 2, "{count}");
    }
    // Another template leads to another set and another revision.
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"b": "c"}}}}});
    bed.merge(&bed.apps("deployments/a"), change).await;
    let rolling = bed.until(&bed.apps("deployments"), "a", |object| object["status"]["updatedReplicas"] == 1).await;
    assert_eq!(rolling["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    assert_eq!((&rolling["metadata"]["generation"], &rolling["status"]["observedGeneration"]), (&json!(2), &json!(2)));
}

async fn stateful_set_creates_pods_in_order(bed: &Bed) {
    let mut set = workload(2);
    set["spec"]["serviceName"] = "s".into();
    bed.ok("POST", &bed.apps("statefulsets"), set).await;
    assert_eq!(pods(bed, "statefulsets", 1).await, ["a-0"]);
    become_ready(bed, "a-0", "Running").await;
    let second = bed.until(&bed.core("pods"), "a-1", |pod| !pod.is_null()).await;
    let labels = &second["metadata"]["labels"];
    assert_eq!((&labels["apps.kubernetes.io/pod-index"], &labels["app"]), (&json!("1"), &json!("a")));
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "a-1");
    assert_eq!((&second["spec"]["hostname"], &second["spec"]["subdomain"]), (&json!("a-1"), &json!("s")));
    become_ready(bed, "a-1", "Running").await;
    let set = bed.until(&bed.apps("statefulsets"), "a", |set| set["status"]["availableReplicas"] == 2).await;
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    assert_eq!(labels["controller-revision-hash"], set["status"]["updateRevision"]);
    let revision = set["status"]["updateRevision"].as_str().unwrap();
    let kept = bed.get(&bed.apps(&format!("controllerrevisions/{revision}"))).await;
    assert_eq!((&kept["revision"], &kept["data"]["spec"]["template"]["$patch"]), (&json!(1), &json!("replace")));
}

async fn job_completes_when_enough_pods_succeed(bed: &Bed) {
    let jobs = format!("/apis/batch/v1/namespaces/{}/jobs", bed.namespace);
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    let job = json!({"metadata": {"name": "a"}, "spec": {"completions": 2, "parallelism": 2, "template": template}});
    bed.ok("POST", &jobs, job).await;
    bed.until(&jobs, "a", |job| job["status"]["active"] == 2).await;
    for pod in names(bed).await {
        become_ready(bed, &pod, "Succeeded").await;
    }
    let done = bed.until(&jobs, "a", |job| job["status"]["completionTime"].is_string()).await;
    assert_eq!(done["status"]["succeeded"], 2);
    for kind in ["SuccessCriteriaMet", "Complete"] {
        let condition = condition(&done, kind);
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("CompletionsReached")));
        assert_eq!(condition["message"], "Reached expected number of succeeded pods");
    }
}

async fn unschedulable_pod_reports_why(bed: &Bed) {
    let mut pod = json!({"metadata": {"name": "a"}, "spec": template()["spec"]});
    pod["spec"].as_object_mut().unwrap().remove("nodeName");
    pod["spec"]["nodeSelector"] = json!({"example.test/none": "such"});
    bed.ok("POST", &bed.core("pods"), pod).await;
    let reported = |pod: &Value| !condition(pod, "PodScheduled").is_null();
    let waiting = bed.until(&bed.core("pods"), "a", reported).await;
    let scheduled = condition(&waiting, "PodScheduled");
    assert_eq!((&scheduled["status"], &scheduled["reason"]), (&json!("False"), &json!("Unschedulable")));
    let message = scheduled["message"].as_str().unwrap();
    assert!(
        message.contains("nodes are available: ")
            && message.contains("node(s) didn't match Pod's node affinity/selector"),
        "{message}"
    );
    assert!(message.contains("Preemption is not helpful for scheduling"), "{message}");
}

async fn namespace_is_emptied_before_it_is_removed(bed: &Bed) {
    map(bed, "held", None).await;
    bed.merge(&bed.core("configmaps/held"), json!({"metadata": {"finalizers": ["example.test/hold"]}})).await;
    map(bed, "free", None).await;
    bed.ok("DELETE", &format!("/api/v1/namespaces/{}", bed.namespace), Value::Null).await;
    let is_blocked = |namespace: &Value| condition(namespace, "NamespaceContentRemaining")["status"] == "True";
    let terminating = bed.until("/api/v1/namespaces", &bed.namespace, is_blocked).await;
    assert_eq!(terminating["status"]["phase"], "Terminating");
    let message = "Some content in the namespace has finalizers remaining: example.test/hold in 1 resource instances";
    assert_eq!(condition(&terminating, "NamespaceFinalizersRemaining")["message"], message);
    bed.merge(&bed.core("configmaps/held"), json!({"metadata": {"finalizers": null}})).await;
    bed.until("/api/v1/namespaces", &bed.namespace, Value::is_null).await;
}
