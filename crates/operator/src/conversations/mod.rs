//! Tests of reconciles as conversations with the API server: the requests, their order, and the reaction to each
//! answer.
//!
//! The API server is a script. A request that is not the next one of the script fails the test, and so does a line of
//! the script that was never requested. Events are recorded and not scripted, because they are published in the
//! background.

mod election;
mod leaving;
mod refusals;
mod script;
mod signals;
mod targets;
mod troubles;
mod versions;
mod writers;

use std::time::Duration;

use kube::runtime::controller::Action;
use serde_json::{Value, json};

use crate::lease::Leadership;
use script::*;
use sluice_signals::JobKey;

#[tokio::test(start_paused = true)]
async fn new_workload_has_replicas_that_scale_takes_over() {
    let job = job(json!({}));
    let conversation = Conversation::new(vec![
        missing(),
        no_config_map(),
        line("PATCH", CONFIG_MAP, Value::Null).checked(|body| {
            let file: Value = serde_json::from_str(body["data"]["processing.json"].as_str().unwrap()).unwrap();
            assert_eq!(file["objectiveLatencyMilliseconds"], 10_000);
        }),
        still_there(&job),
        line("PATCH", DEPLOYMENT, deployment(&job, 6, &["sluice/workload"])).checked(|body| {
            assert_eq!(body["spec"]["replicas"], 6, "the first apply contains the replica count");
            assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], UID);
            assert_eq!(body["spec"]["template"]["metadata"]["labels"]["sluice.dev/job"], "orders");
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/workload"])),
        line("PATCH", SCALE, scale_answer()).checked(|body| {
            assert_eq!(body["spec"]["replicas"], 6, "taken over at its current value");
            assert_eq!(
                (&body["metadata"]["uid"], &body["metadata"]["resourceVersion"]),
                (&json!("deployment-uid"), &json!("7"))
            );
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/workload", "sluice/scale"])),
        line("PATCH", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])).checked(|body| {
            assert!(body["spec"]["replicas"].is_null(), "left out once sluice/scale owns it");
            assert_eq!(body["metadata"]["uid"], "deployment-uid");
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        status_with("Ready", "False", "NoReadyWorkers", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn steady_job_makes_no_request() {
    let job = job(json!({}));
    let conversation =
        Conversation::new(vec![config_map(&job), status_with("MetricsAvailable", "False", "NoSignal", &job)])
            .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
    for _ in 0..240 {
        tokio::time::advance(Duration::from_secs(2)).await;
        conversation.reconcile(&job).await;
        conversation.end();
    }
}

#[tokio::test(start_paused = true)]
async fn workload_of_another_owner_is_left_alone() {
    let job = job(json!({}));
    let mut foreign = deployment(&job, 3, &[]);
    foreign["metadata"]["ownerReferences"] = json!([]);
    let conversation =
        Conversation::new(vec![line("GET", DEPLOYMENT, foreign), status_with("Ready", "False", "NameTaken", &job)]);
    conversation.reconcile(&job).await;
    conversation.end();
    assert!(conversation.events().contains(&"Warning NameTaken".to_owned()), "{:?}", conversation.events());
}

#[tokio::test(start_paused = true)]
async fn pinned_count_is_written_through_scale_after_a_live_read() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["spec"]["replicas"], 9)),
        line("GET", DEPLOYMENT, deployment(&job, 9, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job).checked(|body| {
            let decision = &body["status"]["lastDecision"];
            assert_eq!(
                (&decision["from"], &decision["to"], &decision["reason"]),
                (&json!(6), &json!(9), &json!("Pinned"))
            );
        }),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
    assert!(conversation.events().contains(&"Normal Pinned".to_owned()), "{:?}", conversation.events());
}

#[tokio::test(start_paused = true)]
async fn modified_object_is_read_again_and_the_write_repeated() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let mut newer = deployment(&job, 6, &["sluice/scale"]);
    newer["metadata"]["resourceVersion"] = json!("8");
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        line("PATCH", SCALE, Value::Null).refused(409, "Conflict", "the object has been modified"),
        line("GET", DEPLOYMENT, newer),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["metadata"]["resourceVersion"], "8")),
        line("GET", DEPLOYMENT, deployment(&job, 9, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn decision_based_on_a_stale_cache_is_not_written() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 4, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn foreign_write_is_respected_then_reverted() {
    let job = job(json!({"spec": {"replicas": 9}}));
    // A write that has left no entry in managedFields: the replica count has no owner.
    let foreign = deployment(&job, 2, &[]);
    let mut conversation =
        Conversation::new(vec![config_map(&job), status_with("ScalingActive", "False", "ForeignWriter", &job)]);
    conversation = conversation.cached(foreign.clone());
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(599)).await;
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(2)).await;
    conversation.then(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, foreign),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["spec"]["replicas"], 9)).forced(true),
        line("GET", DEPLOYMENT, deployment(&job, 9, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn workload_missing_at_the_live_read_is_not_written() {
    let job = job(json!({"spec": {"replicas": 3}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, Value::Null).refused(404, "NotFound", "not found"),
        status_with("ScalingActive", "False", "Pinned", &job),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    // The cache still shows the workload: the write path gets the 404 and writes nothing, and the next reconcile
    // creates it.
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn throttled_write_waits_for_retry_after() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let mut throttled = line("PATCH", SCALE, Value::Null).refused(429, "TooManyRequests", "slow down");
    throttled.answer["details"] = json!({"retryAfterSeconds": 7});
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        throttled,
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    let action = conversation.reconcile(&job).await;
    conversation.end();
    assert_eq!(action, Action::requeue(Duration::from_secs(7)));
}

#[tokio::test(start_paused = true)]
async fn refused_workload_is_reported() {
    let job = job(json!({}));
    let conversation = Conversation::new(vec![
        missing(),
        config_map(&job),
        still_there(&job),
        line("PATCH", DEPLOYMENT, Value::Null).refused(
            403,
            "Forbidden",
            "deployments.apps \"orders\" is forbidden: exceeded quota: small",
        ),
        status_with("Ready", "False", "WorkloadRejected", &job).checked(|body| {
            let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
            assert!(message.contains("exceeded quota: small"), "{message}");
        }),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn refused_pods_are_reported_as_a_limit() {
    let quota = ("exceeded quota: small", "QuotaExceeded");
    for (message, reason) in [quota, ("violates PodSecurity \"restricted:latest\"", "PodsRefused")] {
        let job = job(json!({}));
        let mut refused = deployment(&job, 6, &["sluice/scale"]);
        refused["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "message": message}]);
        let reported = status_with("ScalingLimited", "True", reason, &job)
            .checked(move |body| assert_eq!(condition(body, "ScalingLimited")["message"], message));
        let conversation = Conversation::new(vec![config_map(&job), reported]).cached(refused);
        conversation.reconcile(&job).await;
        conversation.end();
    }
}

#[tokio::test(start_paused = true)]
async fn pods_without_image_limit_the_job_and_stall_it_later() {
    let job = job(json!({}));
    let mut conversation = Conversation::new(vec![
        config_map(&job),
        status_with("ScalingLimited", "True", "PodsFailing", &job).checked(|body| {
            let message = condition(body, "ScalingLimited")["message"].as_str().unwrap().to_owned();
            assert_eq!(
                message,
                "1 of 1 pods cannot start, such as a: container app: ImagePullBackOff: Back-off pulling image \"i\""
            );
            assert_eq!(condition(body, "Stalled")["status"], "False");
        }),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"i\""}});
    let container =
        json!({"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": waiting});
    let created = crate::timestamp(conversation.context.clock.now());
    let mut metadata = pod_of("orders", json!({"sluice.dev/job": "orders"}));
    merge(
        &mut metadata,
        json!({"name": "a", "namespace": "payments", "uid": "uid-a", "creationTimestamp": created.to_string()}),
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": metadata,
        "status": {"phase": "Pending", "containerStatuses": [container]},
    });
    conversation.pods.apply_event(&kube::runtime::watcher::Event::Apply(serde_json::from_value(pod).unwrap()));
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(601)).await;
    conversation.then(vec![config_map(&job), status_with("Stalled", "True", "PodsFailing", &job)]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn replica_that_is_not_leader_writes_nothing() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation = Conversation::led_by(
        Leadership::default(),
        vec![config_map(&job), line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"]))],
    )
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
}

/// With a watch that was 20 s late, a workload was created and garbage collected some thousand times.
#[tokio::test(start_paused = true)]
async fn no_workload_is_created_for_a_deleted_job() {
    let job = job(json!({}));
    let gone = line("GET", JOB, Value::Null).refused(404, "NotFound", "not found");
    let conversation = Conversation::new(vec![missing(), config_map(&job), gone]);
    assert_eq!(conversation.reconcile(&job).await, Action::requeue(Duration::from_secs(1)));
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn job_being_deleted_is_not_reconciled() {
    let job = job(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 9}}));
    let conversation = Conversation::new(vec![]).cached(deployment(&job, 6, &["sluice/scale"]));
    assert_eq!(conversation.reconcile(&job).await, Action::await_change());
    conversation.end();
}

/// Catalogue: B4.
#[tokio::test(start_paused = true)]
async fn job_in_an_excluded_namespace_is_only_reported() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation =
        Conversation::new(vec![status_with("Ready", "False", "NamespaceExcluded", &job).checked(|body| {
            assert!(condition(body, "Ready")["message"].as_str().unwrap().contains("--exclude-namespaces"));
            for (kind, status) in [("Stalled", "True"), ("ScalingActive", "False")] {
                let condition = condition(body, kind);
                assert_eq!(
                    (condition["status"].as_str(), condition["reason"].as_str()),
                    (Some(status), Some("NamespaceExcluded"))
                );
            }
        })])
        .cached(deployment(&job, 6, &["sluice/scale"]))
        .excluding("payments");
    assert_eq!(conversation.reconcile(&job).await, Action::await_change());
    assert_eq!(conversation.reconcile(&job).await, Action::await_change(), "reported once");
    conversation.end();
}

/// Catalogue: S26.
#[tokio::test(start_paused = true)]
async fn hanging_reconcile_fails_the_liveness_check() {
    let job = job(json!({}));
    let conversation = Conversation::new(vec![status_with("Ready", "False", "NamespaceExcluded", &job)]);
    let conversation = conversation.excluding("payments");
    let context = &conversation.context;
    let alive = || context.health.alive(context.clock.monotonic()).0.is_success();
    let entry = context.jobs.entry(&JobKey { namespace: "payments".to_owned(), name: "orders".to_owned() });
    let held = entry.lock().await;
    let mut reconciling = std::pin::pin!(conversation.reconcile(&job));
    assert!(futures::poll!(&mut reconciling).is_pending());
    tokio::time::advance(Duration::from_secs(599)).await;
    assert!(alive());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!alive());
    drop(held);
    reconciling.await;
    assert!(alive());
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn invalid_spec_is_reported_field_by_field() {
    let job = job(json!({"spec": {"scaling": {"maxStepDown": "0%", "schedules": [
        {"name": "a", "schedule": "not a cron", "duration": "1h", "timeZone": "Mars/Base", "minReplicas": 2}]}}}));
    let conversation = Conversation::new(vec![status_with("Ready", "False", "InvalidSpec", &job).checked(|body| {
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        for field in
            ["spec.scaling.maxStepDown", "spec.scaling.schedules[0].schedule", "spec.scaling.schedules[0].timeZone"]
        {
            assert!(message.contains(field), "{field} in {message}");
        }
        assert_eq!(condition(body, "Stalled")["status"], "True");
    })])
    .cached(deployment(&script::job(json!({})), 6, &["sluice/scale"]));
    assert_eq!(conversation.reconcile(&job).await, Action::await_change());
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn stateful_set_with_a_dot_in_its_name_is_refused() {
    let job = job(json!({"metadata": {"name": "orders"}, "spec": {"workload": {"kind": "StatefulSet"}}}));
    let mut dotted = job.clone();
    dotted.metadata.name = Some("orders.eu".to_owned());
    assert!(crate::validate::validate(&job).is_ok());
    let problems = crate::validate::validate(&dotted).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), ["metadata.name"]);
}
