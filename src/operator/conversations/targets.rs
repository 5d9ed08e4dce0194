//! A workload that someone else made: looked at live, seldom; written to only where it is to change.

use super::*;

const LEGACY: &str = "/apis/apps/v1/namespaces/payments/deployments/legacy";
const LEGACY_SCALE: &str = "/apis/apps/v1/namespaces/payments/deployments/legacy/scale";
const ROLLOUT: &str = "/apis/demo.test/v1/namespaces/payments/rollouts/legacy";
const ROLLOUT_SCALE: &str = "/apis/demo.test/v1/namespaces/payments/rollouts/legacy/scale";
const PODS: &str = "/api/v1/namespaces/payments/pods";

fn job_for_legacy(changes: Value) -> crate::api::StreamJob {
    let mut all = json!({"spec": {"workload": null, "targetRef": {"kind": "Deployment", "name": "legacy"}}});
    merge(&mut all, changes);
    job(all)
}

fn legacy(replicas: u32, owner: &str) -> Value {
    let owner = json!({"manager": owner, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "legacy", "namespace": "payments", "uid": "legacy-uid", "resourceVersion": "3", "generation": 1, "managedFields": [owner]},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "legacy"}}},
        "status": {"observedGeneration": 1},
    })
}

fn pods(count: u32) -> Line {
    let pod = |number: u32| {
        json!({
            "metadata": {"name": format!("legacy-{number}"), "namespace": "payments", "uid": format!("pod-{number}")},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        })
    };
    let items: Vec<Value> = (0..count).map(pod).collect();
    line("GET", PODS, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}))
}

#[tokio::test(start_paused = true)]
async fn a_target_in_mode_recommend_is_looked_at_seldom_and_never_written_to() {
    let job = job_for_legacy(json!({"spec": {"minReplicas": 3, "scaling": {"mode": "Recommend"}}}));
    let conversation = Conversation::new(vec![
        line("GET", LEGACY, legacy(1, "kubectl")),
        pods(1),
        status_with("ScalingActive", "False", "Recommend", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    // Its samples wake the job every 2 s; what was read holds for 15.
    for _ in 0..7 {
        tokio::time::advance(Duration::from_secs(2)).await;
        conversation.reconcile(&job).await;
        conversation.end();
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    conversation.then(vec![line("GET", LEGACY, legacy(1, "kubectl")), pods(1)]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_target_in_mode_auto_is_taken_over_with_the_first_change_and_given_up_to_another_writer() {
    let job = job_for_legacy(json!({"spec": {"minReplicas": 3}}));
    let conversation = Conversation::new(vec![
        line("GET", LEGACY, legacy(1, "kubectl")),
        pods(1),
        line("GET", LEGACY, legacy(1, "kubectl")),
        line("PATCH", LEGACY_SCALE, scale_answer()).forced(true).checked(|body| {
            assert_eq!(body["spec"]["replicas"], 3);
            assert_eq!(
                (&body["metadata"]["uid"], &body["metadata"]["resourceVersion"]),
                (&json!("legacy-uid"), &json!("3"))
            );
        }),
        line("GET", LEGACY, legacy(3, "sluice/scale")),
        status_with("ScalingActive", "False", "NoSignal", &job)
            .checked(|body| assert_eq!(body["status"]["lastDecision"]["to"], 3)),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    // What the write has shown is known; nothing is asked at once.
    conversation.reconcile(&job).await;
    conversation.end();
    // While its pods come, it is looked at more often.
    tokio::time::advance(Duration::from_secs(4)).await;
    conversation.then(vec![
        line("GET", LEGACY, legacy(3, "sluice/scale")),
        pods(3),
        line("PATCH", STATUS, serde_json::to_value(&job).unwrap()),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(16)).await;
    conversation.then(vec![
        line("GET", LEGACY, legacy(2, "kubectl")),
        pods(2),
        status_with("ScalingActive", "False", "ForeignWriter", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_answer_blocks_for_seconds_only_and_is_left_in_peace_for_a_while() {
    let job = job_for_legacy(json!({}));
    let conversation = Conversation::new(vec![line("GET", LEGACY, Value::Null).unanswered()]);
    let before = conversation.context.clock.monotonic();
    conversation.reconcile(&job).await;
    conversation.end();
    let waited = conversation.context.clock.monotonic() - before;
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(2)).await;
        conversation.reconcile(&job).await;
        conversation.end();
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    conversation.then(vec![
        line("GET", LEGACY, Value::Null).refused(404, "NotFound", "deployments.apps \"legacy\" not found"),
        status_with("Ready", "False", "TargetNotFound", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_custom_kind_is_scaled_by_a_merge_patch_for_an_apply_on_its_scale_is_refused() {
    let target = json!({"apiVersion": "demo.test/v1", "kind": "Rollout", "name": "legacy"});
    let job = job_for_legacy(json!({"spec": {"minReplicas": 3, "targetRef": target}}));
    let rollout = |replicas: u32, manager: &str, operation: &str| {
        let mut object = legacy(replicas, manager);
        (object["apiVersion"], object["kind"]) = (json!("demo.test/v1"), json!("Rollout"));
        object["metadata"]["managedFields"][0]["operation"] = json!(operation);
        object
    };
    let conversation = Conversation::new(vec![
        line("GET", ROLLOUT, rollout(1, "kubectl", "Apply")),
        pods(1),
        line("GET", ROLLOUT, rollout(1, "kubectl", "Apply")),
        line("PATCH", ROLLOUT_SCALE, scale_answer()).checked(|body| {
            assert_eq!(body["kind"], Value::Null, "no apply");
            assert_eq!((&body["spec"]["replicas"], &body["metadata"]["resourceVersion"]), (&json!(3), &json!("3")));
        }),
        line("GET", ROLLOUT, rollout(3, "sluice/scale", "Update")),
        status_with("ScalingActive", "False", "NoSignal", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}
