//! What the API server refuses: said, and not sent again with every sample.

use super::*;

/// What an API server says of a create that a quota does not let through.
fn beyond_quota() -> Line {
    line("PATCH", DEPLOYMENT, Value::Null).refused(403, "Forbidden", "exceeded quota: small")
}

/// 132 refused creates in a minute, and two reads with each.
#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_sent_again_with_every_sample() {
    let job = job(json!({}));
    let told = status_with("Ready", "False", "WorkloadRejected", &job);
    let conversation = Conversation::new(vec![missing(), config_map(&job), still_there(&job), beyond_quota(), told]);
    conversation.reconcile(&job).await;
    conversation.end();
    // Twice a second for eight minutes; each attempt is three requests.
    let mut attempts = 1;
    conversation.then(vec![missing(), still_there(&job), beyond_quota()]);
    for _ in 0..960 {
        tokio::time::advance(Duration::from_millis(500)).await;
        conversation.reconcile(&job).await;
        if conversation.script.lock().unwrap().is_empty() {
            attempts += 1;
            conversation.then(vec![missing(), still_there(&job), beyond_quota()]);
        }
    }
    conversation.then(Vec::new());
    conversation.end();
    assert_eq!(attempts, 6, "after 0, 1, 6, 66, 186 and 426 s");
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_is_mended_is_tried_at_once() {
    let bad = job(json!({}));
    let told = status_with("Ready", "False", "WorkloadRejected", &bad);
    let conversation = Conversation::new(vec![missing(), config_map(&bad), still_there(&bad), beyond_quota(), told]);
    conversation.reconcile(&bad).await;
    conversation.end();
    for wait in [1, 5] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        conversation.then(vec![missing(), still_there(&bad), beyond_quota()]);
        conversation.reconcile(&bad).await;
        conversation.end();
    }
    tokio::time::advance(Duration::from_secs(6)).await;
    conversation.reconcile(&bad).await;
    conversation.end();
    let good = job(json!({"metadata": {"generation": 2}, "spec": {"workload": {"minReadySeconds": 3}}}));
    conversation.then(vec![
        missing(),
        still_there(&good),
        line("PATCH", DEPLOYMENT, deployment(&good, 6, &["sluice/scale"])),
        status_with("Ready", "False", "NoReadyWorkers", &good),
    ]);
    conversation.reconcile(&good).await;
    conversation.end();
}

/// "failed calling webhook" is a 500: there was no status, no event, ever.
#[tokio::test(start_paused = true)]
async fn a_webhook_that_fails_is_told_once_it_has_failed_three_times() {
    let job = job(json!({}));
    let failing =
        || line("PATCH", DEPLOYMENT, Value::Null).refused(500, "InternalError", "failed calling webhook \"w\"");
    let reason = |reason: &'static str| status_with("Ready", "False", reason, &job);
    let conversation =
        Conversation::new(vec![missing(), config_map(&job), still_there(&job), failing(), reason("NoReadyWorkers")]);
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(1)).await;
    conversation.then(vec![missing(), still_there(&job), failing()]);
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(5)).await;
    let told = reason("ApiError").checked(|body| {
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        assert_eq!(message, "failed to create the workload: failed calling webhook \"w\"");
    });
    conversation.then(vec![missing(), still_there(&job), failing(), told]);
    conversation.reconcile(&job).await;
    conversation.end();
}

/// The number is written although the processing file cannot be: pods start without it.
#[tokio::test(start_paused = true)]
async fn a_processing_file_that_is_refused_is_told_and_keeps_nothing_else_from_being_done() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let conversation = Conversation::new(vec![
        no_config_map(),
        line("PATCH", CONFIG_MAP, Value::Null).refused(403, "Forbidden", "exceeded quota: files"),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["spec"]["replicas"], 9)),
        line("GET", DEPLOYMENT, deployment(&job, 9, &["sluice/scale"])),
        status_with("Ready", "False", "WorkloadRejected", &job),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_keeps_no_number_from_being_written_and_is_not_sent_with_every_sample() {
    let job = job(json!({"spec": {"replicas": 9}}));
    let refused = || line("PATCH", STATUS, Value::Null).refused(403, "Forbidden", "denied by policy");
    let mut conversation =
        Conversation::new(vec![config_map(&job), refused()]).cached(deployment(&job, 9, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
    conversation = conversation.cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.then(vec![
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        line("PATCH", SCALE, scale_answer()),
        line("GET", DEPLOYMENT, deployment(&job, 9, &["sluice/scale"])),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    conversation = conversation.cached(deployment(&job, 9, &["sluice/scale"]));
    tokio::time::advance(Duration::from_secs(1)).await;
    // The change that could not be told is told with the next.
    conversation.then(vec![
        status_with("ScalingActive", "False", "Pinned", &job)
            .checked(|body| assert_eq!(body["status"]["lastDecision"]["to"], 9)),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_read_says_so_once() {
    let conversation = Conversation::new(vec![line("PATCH", STATUS, Value::Null).checked(|body| {
        for kind in ["Ready", "Stalled"] {
            assert_eq!(condition(body, kind)["reason"], "InvalidSpec");
        }
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("Invalid type string"), "{message}");
    })]);
    let object = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob",
        "metadata": {"name": "orders", "namespace": "payments", "uid": UID, "generation": 4},
        "spec": {"objective": "soon"},
    });
    let object: kube::core::DeserializeGuard<sluice_api::StreamJob> = serde_json::from_value(object).unwrap();
    let object = std::sync::Arc::new(object);
    for _ in 0..3 {
        let context = std::sync::Arc::new(conversation.context.clone());
        crate::reconcile::reconcile(std::sync::Arc::clone(&object), context).await.unwrap_err();
        conversation.end();
        tokio::time::advance(Duration::from_mins(5)).await;
    }
}

/// An earlier definition let `workload.kind` change: both ran, and both were counted.
#[tokio::test(start_paused = true)]
async fn a_workload_of_an_earlier_spec_is_not_left_running_without_a_word() {
    let before = job(json!({}));
    let after = job(json!({"spec": {"workload": {"kind": "StatefulSet"}}}));
    let told = status_with("Stalled", "True", "WorkloadLeftBehind", &after).checked(|body| {
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("kubectl -n payments delete deployment orders"), "{message}");
        assert_eq!(body["status"]["replicas"], 0, "its pods are not of the new workload");
    });
    let conversation = Conversation::new(vec![told]).cached(deployment(&before, 6, &["sluice/scale"]));
    conversation.reconcile(&after).await;
    conversation.end();
    let target = json!({"kind": "Deployment", "name": "legacy"});
    let after = job(json!({"spec": {"workload": null, "targetRef": target}}));
    let legacy = "/apis/apps/v1/namespaces/payments/deployments/legacy";
    let conversation = Conversation::new(vec![
        line("GET", legacy, Value::Null).refused(404, "NotFound", "not found"),
        status_with("Stalled", "True", "WorkloadLeftBehind", &after),
    ])
    .cached(deployment(&before, 6, &["sluice/scale"]));
    conversation.reconcile(&after).await;
    conversation.end();
}

/// Anybody may put a label on a pod: with one such REPLICAS was 7, and an Up "landed" before its time.
#[tokio::test(start_paused = true)]
async fn a_pod_is_the_jobs_by_its_controller_and_not_by_its_label() {
    let job = job(json!({}));
    let told = status_with("Ready", "True", "Ready", &job).checked(|body| assert_eq!(body["status"]["replicas"], 1));
    let mut conversation =
        Conversation::new(vec![config_map(&job), told]).cached(deployment(&job, 6, &["sluice/scale"]));
    let ours = pod_of("orders", json!({"sluice.dev/job": "orders"}));
    let bare = json!({"labels": {"sluice.dev/job": "orders", "pod-template-hash": "h1"}});
    let anothers = pod_of("refunds", json!({"sluice.dev/job": "orders"}));
    for (name, mut metadata) in [("a", ours), ("bare", bare), ("anothers", anothers)] {
        merge(&mut metadata, json!({"name": name, "namespace": "payments", "uid": name}));
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": ready});
        conversation.pods.take(&kube::runtime::watcher::Event::Apply(serde_json::from_value(pod).unwrap()));
    }
    conversation.reconcile(&job).await;
    conversation.end();
}

/// "rollingUpdate: may not be specified when strategy `type` is 'Recreate'", for this template and every later one.
#[tokio::test(start_paused = true)]
async fn what_the_api_server_has_filled_in_is_made_ours_before_it_can_go() {
    let before = job(json!({}));
    let mut live = deployment(&before, 6, &["sluice/scale"]);
    live["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}});
    let job = job(json!({"spec": {"workload": {"strategy": {"type": "Recreate"}}}}));
    let mut owned = deployment(&job, 6, &["sluice/scale"]);
    owned["metadata"]["resourceVersion"] = json!("8");
    let rolling = live["spec"]["strategy"].clone();
    let conversation = Conversation::new(vec![
        line("GET", DEPLOYMENT, live.clone()),
        config_map(&job),
        line("PATCH", DEPLOYMENT, owned).checked(move |body| assert_eq!(body["spec"]["strategy"], rolling)),
        line("PATCH", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])).checked(|body| {
            assert_eq!(body["spec"]["strategy"], json!({"type": "Recreate"}));
            assert_eq!(body["metadata"]["resourceVersion"], "8");
        }),
        status_with("Ready", "False", "NoReadyWorkers", &job),
    ])
    .cached(live);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn events_tell_once_of_what_a_status_that_is_refused_would_say() {
    let job = job(json!({}));
    let refused = || line("PATCH", STATUS, Value::Null).refused(403, "Forbidden", "denied by policy");
    let mut foreign = deployment(&job, 3, &[]);
    foreign["metadata"]["ownerReferences"] = json!([]);
    let conversation = Conversation::new(vec![line("GET", DEPLOYMENT, foreign.clone()), refused()]);
    conversation.reconcile(&job).await;
    conversation.end();
    for _ in 0..2 {
        tokio::time::advance(Duration::from_secs(30)).await;
        conversation.then(vec![line("GET", DEPLOYMENT, foreign.clone()), refused()]);
        conversation.reconcile(&job).await;
        conversation.end();
    }
    let warnings = conversation.events().iter().filter(|event| *event == "Warning NameTaken").count();
    assert_eq!(warnings, 2, "of Ready and of Stalled, once each");
}

/// Without the label the caches do not have it: it was read with every sample.
#[tokio::test(start_paused = true)]
async fn a_label_that_somebody_takes_away_is_put_back() {
    let job = job(json!({}));
    let mut bare = deployment(&job, 6, &["sluice/scale"]);
    bare["metadata"]["labels"] = json!({});
    let conversation = Conversation::new(vec![
        line("GET", DEPLOYMENT, bare),
        config_map(&job),
        line("PATCH", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"]))
            .checked(|body| assert_eq!(body["metadata"]["labels"]["sluice.dev/job"], "orders")),
        status_with("Ready", "False", "NoReadyWorkers", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}
