//! Requests that the API server refuses: they are reported, and not repeated with every sample.

use super::*;

/// The API server's answer to a create that a quota does not allow.
fn beyond_quota() -> Line {
    line("PATCH", DEPLOYMENT, Value::Null).refused(403, "Forbidden", "exceeded quota: small")
}

/// There were 132 refused creates in a minute, each with two reads.
#[tokio::test(start_paused = true)]
async fn refused_request_is_not_repeated_with_every_sample() {
    let job = job(json!({}));
    let reported = status_with("Ready", "False", "WorkloadRejected", &job);
    let conversation =
        Conversation::new(vec![missing(), config_map(&job), still_there(&job), beyond_quota(), reported]);
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
async fn corrected_spec_is_tried_at_once() {
    let bad = job(json!({}));
    let reported = status_with("Ready", "False", "WorkloadRejected", &bad);
    let conversation =
        Conversation::new(vec![missing(), config_map(&bad), still_there(&bad), beyond_quota(), reported]);
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

/// "failed calling webhook" is a 500, which was never reported in a status or an event.
#[tokio::test(start_paused = true)]
async fn failing_webhook_is_reported_after_three_failures() {
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
    let reported = reason("ApiError").checked(|body| {
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        assert_eq!(message, "failed to create the workload: failed calling webhook \"w\"");
    });
    conversation.then(vec![missing(), still_there(&job), failing(), reported]);
    conversation.reconcile(&job).await;
    conversation.end();
}

/// The replica count is written although the processing file cannot be: pods start without it.
#[tokio::test(start_paused = true)]
async fn refused_processing_file_does_not_prevent_scaling() {
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
async fn refused_status_does_not_prevent_scaling_and_backs_off() {
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
    // The change that no status contains yet is reported with the next one.
    conversation.then(vec![
        status_with("ScalingActive", "False", "Pinned", &job)
            .checked(|body| assert_eq!(body["status"]["lastDecision"]["to"], 9)),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn undecodable_job_is_reported_once() {
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

/// An earlier definition allowed a change of `workload.kind`: both workloads ran, and both were counted.
#[tokio::test(start_paused = true)]
async fn workload_of_an_earlier_spec_is_reported() {
    let before = job(json!({}));
    let after = job(json!({"spec": {"workload": {"kind": "StatefulSet"}}}));
    let reported = status_with("Stalled", "True", "WorkloadLeftBehind", &after).checked(|body| {
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("kubectl -n payments delete deployment orders"), "{message}");
        assert_eq!(body["status"]["replicas"], 0, "its pods do not belong to the new workload");
    });
    let conversation = Conversation::new(vec![reported]).cached(deployment(&before, 6, &["sluice/scale"]));
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

/// Any client may put a label on a pod. One such pod made REPLICAS 7, and a scale-up counted as complete too early.
#[tokio::test(start_paused = true)]
async fn pod_belongs_to_the_job_by_its_controller_not_its_label() {
    let job = job(json!({}));
    let reported =
        status_with("Ready", "True", "Ready", &job).checked(|body| assert_eq!(body["status"]["replicas"], 1));
    let mut conversation =
        Conversation::new(vec![config_map(&job), reported]).cached(deployment(&job, 6, &["sluice/scale"]));
    let ours = pod_of("orders", json!({"sluice.dev/job": "orders"}));
    let bare = json!({"labels": {"sluice.dev/job": "orders", "pod-template-hash": "h1"}});
    let anothers = pod_of("refunds", json!({"sluice.dev/job": "orders"}));
    for (name, mut metadata) in [("a", ours), ("bare", bare), ("anothers", anothers)] {
        merge(&mut metadata, json!({"name": name, "namespace": "payments", "uid": name}));
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": ready});
        conversation.pods.apply_event(&kube::runtime::watcher::Event::Apply(serde_json::from_value(pod).unwrap()));
    }
    conversation.reconcile(&job).await;
    conversation.end();
}

/// The API server answered "rollingUpdate: may not be specified when strategy `type` is 'Recreate'" to this and every
/// later template.
#[tokio::test(start_paused = true)]
async fn defaulted_rolling_update_is_owned_before_its_removal() {
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
async fn events_report_a_refused_status_once() {
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
    assert_eq!(warnings, 2, "one for Ready and one for Stalled");
}

/// Without the label the caches do not contain the workload, and it was read with every sample.
#[tokio::test(start_paused = true)]
async fn removed_job_label_is_restored() {
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
