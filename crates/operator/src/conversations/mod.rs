//! Reconciles as conversations: what is asked of the API server, in which order, and what comes of each answer.
//!
//! The API server is a script. A request that is not the next one of the script fails the test, and so does a line of
//! the script that was never asked for. Events are taken note of, not scripted: they come from the background.

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
async fn a_job_is_created_with_its_number_and_the_number_handed_to_scale() {
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
            assert_eq!(body["spec"]["replicas"], 6, "the first apply carries the number");
            assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], UID);
            assert_eq!(body["spec"]["template"]["metadata"]["labels"]["sluice.dev/job"], "orders");
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/workload"])),
        line("PATCH", SCALE, scale_answer()).checked(|body| {
            assert_eq!(body["spec"]["replicas"], 6, "taken over at its present value");
            assert_eq!(
                (&body["metadata"]["uid"], &body["metadata"]["resourceVersion"]),
                (&json!("deployment-uid"), &json!("7"))
            );
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/workload", "sluice/scale"])),
        line("PATCH", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])).checked(|body| {
            assert!(body["spec"]["replicas"].is_null(), "left out once /scale owns it");
            assert_eq!(body["metadata"]["uid"], "deployment-uid");
        }),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        status_with("Ready", "False", "NoReadyWorkers", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_do_nothing_is_asked() {
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
async fn a_workload_of_our_name_that_is_not_ours_is_left_alone() {
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
async fn a_pinned_number_is_written_through_scale_after_a_live_look() {
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
async fn an_object_that_was_modified_is_read_again_and_the_number_resent() {
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
async fn a_decision_that_rests_on_an_old_cache_is_not_written() {
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
async fn a_foreign_write_is_respected_then_taken_back() {
    let job = job(json!({"spec": {"replicas": 9}}));
    // A write that has left no entry: nobody owns the number.
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
async fn a_workload_deleted_by_someone_is_made_again() {
    let job = job(json!({"spec": {"replicas": 3}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, Value::Null).refused(404, "NotFound", "not found"),
        status_with("ScalingActive", "False", "Pinned", &job),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    // The cache still shows it: the write path meets the 404, writes nothing, and the next look creates it.
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_throttled_write_waits_as_long_as_it_is_asked_to() {
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
async fn a_refused_workload_is_said_and_the_workers_stay() {
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
async fn pods_that_a_quota_refuses_show_as_a_limit() {
    let quota = ("exceeded quota: small", "QuotaExceeded");
    for (message, reason) in [quota, ("violates PodSecurity \"restricted:latest\"", "PodsRefused")] {
        let job = job(json!({}));
        let mut refused = deployment(&job, 6, &["sluice/scale"]);
        refused["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "message": message}]);
        let told = status_with("ScalingLimited", "True", reason, &job)
            .checked(move |body| assert_eq!(condition(body, "ScalingLimited")["message"], message));
        let conversation = Conversation::new(vec![config_map(&job), told]).cached(refused);
        conversation.reconcile(&job).await;
        conversation.end();
    }
}

#[tokio::test(start_paused = true)]
async fn pods_whose_image_cannot_be_had_show_as_a_limit_and_need_a_person_in_the_end() {
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
    conversation.pods.take(&kube::runtime::watcher::Event::Apply(serde_json::from_value(pod).unwrap()));
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(601)).await;
    conversation.then(vec![config_map(&job), status_with("Stalled", "True", "PodsFailing", &job)]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_nothing() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation = Conversation::led_by(
        Leadership::default(),
        vec![config_map(&job), line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"]))],
    )
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
}

/// Told of its end 20 seconds late, a workload was made for it and collected some thousand times.
#[tokio::test(start_paused = true)]
async fn nothing_is_made_for_a_job_that_is_gone() {
    let job = job(json!({}));
    let gone = line("GET", JOB, Value::Null).refused(404, "NotFound", "not found");
    let conversation = Conversation::new(vec![missing(), config_map(&job), gone]);
    assert_eq!(conversation.reconcile(&job).await, Action::requeue(Duration::from_secs(1)));
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_being_deleted_is_let_go() {
    let job = job(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 9}}));
    let conversation = Conversation::new(vec![]).cached(deployment(&job, 6, &["sluice/scale"]));
    assert_eq!(conversation.reconcile(&job).await, Action::await_change());
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn b4_in_a_namespace_that_is_left_out_nothing_is_done_and_it_is_said() {
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
    assert_eq!(conversation.reconcile(&job).await, Action::await_change(), "said once");
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn t10_s26_a_reconcile_that_hangs_is_seen_by_who_asks_whether_we_live() {
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
async fn an_invalid_spec_is_named_field_by_field_and_the_workers_stay() {
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
async fn a_stateful_set_with_a_dot_in_its_name_is_refused_for_its_pods_could_not_be_made() {
    let job = job(json!({"metadata": {"name": "orders"}, "spec": {"workload": {"kind": "StatefulSet"}}}));
    let mut dotted = job.clone();
    dotted.metadata.name = Some("orders.eu".to_owned());
    assert!(crate::validate::validate(&job).is_ok());
    let problems = crate::validate::validate(&dotted).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), ["metadata.name"]);
}
