//! Other writers of the replica count.

use super::*;

/// The API server's refusal of an apply because `manager` owns the field.
fn conflict_with(manager: &str) -> Line {
    let mut line = line("PATCH", SCALE, Value::Null).refused(409, "Conflict", "Apply failed with 1 conflict");
    line.answer["details"] = json!({"causes": [{
        "reason": "FieldManagerConflict", "field": ".spec.replicas",
        "message": format!("conflict with \"{manager}\" using apps/v1"),
    }]});
    line
}

#[tokio::test(start_paused = true)]
async fn field_manager_conflict_reveals_the_foreign_writer() {
    let job = job(json!({"spec": {"minReplicas": 8}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        conflict_with("flux"),
        // flux has released the field since, so only the refusal contains its name.
        line("GET", DEPLOYMENT, deployment(&job, 4, &[])),
        status_with("ScalingActive", "False", "ForeignWriter", &job).checked(|body| {
            let condition = condition(body, "ScalingActive");
            let message = condition["message"].as_str().unwrap();
            assert!(message.starts_with("flux changed the replica count"), "{message}");
        }),
    ])
    .cached(deployment(&job, 6, &["sluice/scale"]));
    conversation.reconcile(&job).await;
    conversation.end();
    let conversation = conversation.cached(deployment(&job, 4, &[]));
    tokio::time::advance(Duration::from_secs(599)).await;
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(2)).await;
    conversation.then(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 4, &[])),
        line("PATCH", SCALE, scale_answer()).forced(true).checked(|body| assert_eq!(body["spec"]["replicas"], 8)),
        line("GET", DEPLOYMENT, deployment(&job, 8, &["sluice/scale"])),
        status_with("ScalingActive", "False", "NoSignal", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn suspended_job_reports_a_foreign_writer() {
    let job = job(json!({"spec": {"suspend": true}}));
    let conversation =
        Conversation::new(vec![config_map(&job), status_with("ScalingActive", "False", "ForeignWriter", &job)])
            .cached(deployment(&job, 4, &[]));
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn conflict_lasts_until_sluice_resume() {
    let job = job(json!({"spec": {"minReplicas": 8}}));
    let mut conversation =
        Conversation::new(vec![config_map(&job), status_with("ScalingActive", "False", "ForeignWriter", &job)])
            .cached(deployment(&job, 4, &[]));
    conversation.reconcile(&job).await;
    conversation.end();
    // The other writer writes once more.
    conversation = conversation.cached(deployment(&job, 3, &[]));
    conversation.then(vec![status_with("Stalled", "True", "Conflict", &job).checked(|body| {
        let message = condition(body, "Stalled")["message"].as_str().unwrap();
        assert!(message.contains("sluice resume"), "{message}");
    })]);
    conversation.reconcile(&job).await;
    conversation.end();
    for minute in 1..60 {
        tokio::time::advance(Duration::from_mins(1)).await;
        // The processing file is compared every 10 minutes; nothing is written.
        conversation.then(if minute % 10 == 0 { vec![config_map(&job)] } else { vec![] });
        conversation.reconcile(&job).await;
        conversation.end();
    }
    let resumed = script::job(json!({
        "metadata": {"annotations": {"sluice.dev/resume": "2026-01-01T00:00:00Z"}}, "spec": {"minReplicas": 8}}));
    conversation.then(vec![
        line("GET", DEPLOYMENT, deployment(&job, 3, &[])),
        line("PATCH", SCALE, scale_answer()).forced(true).checked(|body| assert_eq!(body["spec"]["replicas"], 8)),
        line("GET", DEPLOYMENT, deployment(&job, 8, &["sluice/scale"])),
        status_with("Stalled", "False", "Progressing", &job),
    ]);
    conversation.reconcile(&resumed).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn zero_applied_to_scale_is_not_a_foreign_write() {
    let with = |generation: i64, suspend: bool| {
        job(json!({"metadata": {"generation": generation}, "spec": {"suspend": suspend}}))
    };
    // Created suspended: the 0 of the first apply stays as it is.
    let suspended = with(1, true);
    let conversation = Conversation::new(vec![
        missing(),
        config_map(&suspended),
        still_there(&suspended),
        line("PATCH", DEPLOYMENT, deployment(&suspended, 0, &["sluice/workload"]))
            .checked(|body| assert_eq!(body["spec"]["replicas"], 0)),
        status_with("ScalingActive", "False", "Suspended", &suspended),
    ]);
    conversation.reconcile(&suspended).await;
    conversation.end();

    // Resumed: the field is taken over with the first number other than 0.
    let resumed = with(2, false);
    let conversation = conversation.cached(deployment(&resumed, 0, &["sluice/workload"]));
    conversation.then(vec![
        line("GET", DEPLOYMENT, deployment(&resumed, 0, &["sluice/workload"])),
        line("PATCH", SCALE, scale_answer()).forced(true).checked(|body| assert_eq!(body["spec"]["replicas"], 1)),
        line("GET", DEPLOYMENT, deployment(&resumed, 1, &["sluice/scale"])),
        status_with("ScalingActive", "False", "NoSignal", &resumed),
    ]);
    conversation.reconcile(&resumed).await;
    conversation.end();

    // Suspended again: after the apply of a 0 the field has no owner, which is not a foreign write.
    let suspended = with(3, true);
    let conversation = conversation.cached(deployment(&suspended, 1, &["sluice/scale"]));
    conversation.then(vec![
        line("GET", DEPLOYMENT, deployment(&suspended, 1, &["sluice/scale"])),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["spec"]["replicas"], 0)),
        line("GET", DEPLOYMENT, deployment(&suspended, 0, &[])),
        status_with("ScalingActive", "False", "Suspended", &suspended),
    ]);
    conversation.reconcile(&suspended).await;
    conversation.end();
    let conversation = conversation.cached(deployment(&suspended, 0, &[]));
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(15)).await;
        conversation.reconcile(&suspended).await;
        conversation.end();
    }

    // Resumed once more: the field has no owner, so the write need not be forced.
    let resumed = with(4, false);
    let conversation = conversation.cached(deployment(&resumed, 0, &[]));
    conversation.then(vec![
        line("GET", DEPLOYMENT, deployment(&resumed, 0, &[])),
        line("PATCH", SCALE, scale_answer()).forced(false).checked(|body| assert_eq!(body["spec"]["replicas"], 1)),
        line("GET", DEPLOYMENT, deployment(&resumed, 1, &["sluice/scale"])),
        status_with("ScalingActive", "False", "NoSignal", &resumed),
    ]);
    conversation.reconcile(&resumed).await;
    conversation.end();
    assert!(!conversation.events().iter().any(|event| event.contains("ForeignWriter")), "{:?}", conversation.events());
}
