//! Existing workloads (`spec.targetRef`): read live and rarely, and written to only if the replica count must change.

use super::*;
use crate::observe::claims::ClaimsWriter;

const LEGACY: &str = "/apis/apps/v1/namespaces/payments/deployments/legacy";
const LEGACY_SCALE: &str = "/apis/apps/v1/namespaces/payments/deployments/legacy/scale";
const PODS: &str = "/api/v1/namespaces/payments/pods";

fn job_for_legacy(changes: Value) -> sluice_api::StreamJob {
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
        let mut metadata = pod_of("legacy", json!({"app": "legacy"}));
        merge(
            &mut metadata,
            json!({"name": format!("legacy-{number}"), "namespace": "payments", "uid": format!("pod-{number}")}),
        );
        json!({
            "metadata": metadata,
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        })
    };
    let items: Vec<Value> = (0..count).map(pod).collect();
    line("GET", PODS, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}))
}

#[tokio::test(start_paused = true)]
async fn target_in_mode_recommend_is_cached_and_never_written() {
    let job = job_for_legacy(json!({"spec": {"minReplicas": 3, "scaling": {"mode": "Recommend"}}}));
    let conversation = Conversation::new(vec![
        line("GET", LEGACY, legacy(1, "kubectl")),
        pods(1),
        status_with("ScalingActive", "False", "Recommend", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    // Samples trigger a reconcile every 2 s; a read is cached for 15 s.
    conversation.then(vec![status_of(&job)]);
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
async fn target_in_mode_auto_is_taken_over_with_the_first_change() {
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
    // The read before the write is cached, so no request follows at once.
    conversation.then(vec![status_of(&job)]);
    conversation.reconcile(&job).await;
    conversation.end();
    // While its pods start, the target is read more often.
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
async fn unanswered_target_read_blocks_3_s_and_backs_off() {
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

/// The API server's answer about the kinds of a group.
fn kinds(path: &'static str, plural: &str, kind: &str, scale: bool) -> Line {
    let resource =
        |name: String| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]});
    let mut resources = vec![resource(plural.to_owned())];
    resources.extend(scale.then(|| resource(format!("{plural}/scale"))));
    line("GET", path, json!({"kind": "APIResourceList", "groupVersion": "demo.test/v1", "resources": resources}))
}

const OTHER: &str = "/apis/sluice.dev/v1alpha1/namespaces/payments/streamjobs/second/status";
const NEXT: &str = "/apis/apps/v1/namespaces/payments/deployments/next";
const NEXT_SCALE: &str = "/apis/apps/v1/namespaces/payments/deployments/next/scale";
const SIZED: &str = "/apis/demo.test/v1/namespaces/payments/fleet/legacy";
const SIZED_SCALE: &str = "/apis/demo.test/v1/namespaces/payments/fleet/legacy/scale";

/// Returns an object of a kind whose replica count is at `.spec.size`, whose selector is only in its status, and whose
/// plural cannot be guessed.
fn sized(size: u32, owner: &str) -> Value {
    let entry = json!({"manager": owner, "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:size": {}}}});
    json!({
        "apiVersion": "demo.test/v1", "kind": "Ship",
        "metadata": {"name": "legacy", "namespace": "payments", "uid": "legacy-uid", "resourceVersion": "3", "generation": 1, "managedFields": [entry]},
        "spec": {"size": size},
    })
}

fn scale_of(replicas: u32, selector: &str) -> Value {
    let mut scale = scale_answer();
    merge(&mut scale, json!({"spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": selector}}));
    scale
}

fn job_for_ship(changes: Value) -> sluice_api::StreamJob {
    let target = json!({"apiVersion": "demo.test/v1", "kind": "Ship", "name": "legacy"});
    let mut all = json!({"spec": {"minReplicas": 3, "targetRef": target}});
    merge(&mut all, changes);
    job_for_legacy(all)
}

#[tokio::test(start_paused = true)]
async fn custom_kind_is_read_and_written_through_its_scale() {
    let job = job_for_ship(json!({}));
    let conversation = Conversation::new(vec![
        kinds("/apis/demo.test/v1", "fleet", "Ship", true),
        line("GET", SIZED, sized(1, "kubectl")),
        line("GET", SIZED_SCALE, scale_of(1, "app=legacy")),
        pods(1),
        line("GET", SIZED, sized(1, "kubectl")),
        line("GET", SIZED_SCALE, scale_of(1, "app=legacy")),
        line("PATCH", SIZED_SCALE, scale_answer()).checked(|body| {
            assert_eq!(body["kind"], Value::Null, "not an apply, which is refused for a custom kind");
            assert_eq!((&body["spec"]["replicas"], &body["metadata"]["resourceVersion"]), (&json!(3), &json!("3")));
        }),
        line("GET", SIZED, sized(3, "sluice/scale")),
        line("GET", SIZED_SCALE, scale_of(3, "app=legacy")),
        status_with("ScalingActive", "False", "NoSignal", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    // Sluice's own write is not a foreign write, wherever the kind keeps its replica count.
    tokio::time::advance(Duration::from_secs(4)).await;
    let again = |size: u32, owner: &'static str| {
        vec![line("GET", SIZED, sized(size, owner)), line("GET", SIZED_SCALE, scale_of(size, "app=legacy")), pods(3)]
    };
    let mut script = again(3, "sluice/scale");
    script.push(line("PATCH", STATUS, serde_json::to_value(&job).unwrap()).checked(|body| {
        assert_eq!(condition(body, "ScalingActive")["reason"], "NoSignal");
        assert_eq!(body["status"]["readyReplicas"], 3);
    }));
    conversation.then(script);
    conversation.reconcile(&job).await;
    conversation.end();
    tokio::time::advance(Duration::from_secs(16)).await;
    let mut script = again(2, "kubectl");
    script.push(status_with("ScalingActive", "False", "ForeignWriter", &job));
    conversation.then(script);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_selector_are_unknown() {
    let job = job_for_ship(json!({"spec": {"minReplicas": 1}}));
    let conversation = Conversation::new(vec![
        kinds("/apis/demo.test/v1", "fleet", "Ship", true),
        line("GET", SIZED, sized(4, "kubectl")),
        line("GET", SIZED_SCALE, scale_of(4, "")),
        status_with("Ready", "True", "Ready", &job).checked(|body| assert_eq!(body["status"]["replicas"], 4)),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn missing_or_unscalable_kind_is_reported() {
    let unknown = line("GET", "/apis/demo.test/v1", Value::Null).refused(404, "NotFound", "404 page not found");
    let other = kinds("/apis/demo.test/v1", "boats", "Boat", true);
    let fixed = kinds("/apis/demo.test/v1", "fleet", "Ship", false);
    for (answer, why) in [(unknown, "does not exist"), (other, "does not exist"), (fixed, "no scale subresource")] {
        let job = job_for_ship(json!({}));
        let reported = status_with("Ready", "False", "TargetNotFound", &job).checked(move |body| {
            let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
            assert!(message.contains(why), "{message}");
        });
        let conversation = Conversation::new(vec![answer, reported]);
        conversation.reconcile(&job).await;
        conversation.end();
    }
}

/// This was never reported in a status or an event.
#[tokio::test(start_paused = true)]
async fn forbidden_target_is_reported_with_the_missing_right() {
    let job = job_for_ship(json!({}));
    let reported = status_with("Ready", "False", "TargetForbidden", &job).checked(|body| {
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("cannot get resource") && message.contains("extraRules"), "{message}");
        assert_eq!(condition(body, "MetricsAvailable")["reason"], "NoSignal");
        assert_eq!(condition(body, "ScalingActive")["reason"], "TargetForbidden");
    });
    let conversation = Conversation::new(vec![
        kinds("/apis/demo.test/v1", "fleet", "Ship", true),
        line("GET", SIZED, Value::Null).refused(403, "Forbidden", "User \"sluice\" cannot get resource \"fleet\""),
        reported,
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    let events = conversation.events();
    assert!(events.contains(&"Warning TargetForbidden".to_owned()), "{events:?}");
    // Samples trigger reconciles, but the target is not read during its back-off.
    tokio::time::advance(Duration::from_secs(9)).await;
    conversation.reconcile(&job).await;
    conversation.end();
}

fn listed(conversation: &Conversation, jobs: &[&sluice_api::StreamJob]) {
    let mut writer = ClaimsWriter::new(conversation.context.claims.clone());
    for job in jobs {
        let object = kube::core::DeserializeGuard(Ok((*job).clone()));
        writer.apply_event(&kube::runtime::watcher::Event::Apply(object), |_| true);
    }
}

/// The two jobs wrote 2 and 5 in turns, every 20 s, and both were Ready.
#[tokio::test(start_paused = true)]
async fn older_of_two_jobs_scales_the_target_and_both_report_it() {
    let named = |name: &str, minute: u32, replicas: u32| {
        let metadata =
            json!({"name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")});
        job_for_legacy(json!({"metadata": metadata, "spec": {"replicas": replicas}}))
    };
    let (first, second) = (named("orders", 1, 1), named("second", 2, 5));
    let reported = status_with("ScalingActive", "True", "TargetContested", &first).checked(|body| {
        let message = condition(body, "ScalingActive")["message"].as_str().unwrap().to_owned();
        assert!(
            message.starts_with("Sluice decides the replica count; StreamJob second names the same workload"),
            "{message}"
        );
    });
    let pinned = job_for_legacy(json!({"metadata": {"uid": "orders", "creationTimestamp": "2026-01-01T00:01:00Z"}}));
    let mut conversation = Conversation::new(vec![line("GET", LEGACY, legacy(1, "kubectl")), pods(1), reported]);
    conversation.context.signals =
        std::sync::Arc::new(Samples(read_as(all_processed(sluice_base::units::Seconds(1_764_000_000.0)))));
    listed(&conversation, &[&first, &second]);
    conversation.reconcile(&pinned).await;
    conversation.end();
    let reported = line("PATCH", OTHER, serde_json::to_value(&second).unwrap()).checked(|body| {
        for kind in ["Ready", "Stalled", "ScalingActive"] {
            assert_eq!(condition(body, kind)["reason"], "TargetTaken");
        }
        assert_eq!(condition(body, "ScalingActive")["status"], "False");
    });
    conversation.then(vec![line("GET", LEGACY, legacy(1, "kubectl")), pods(1), reported]);
    conversation.reconcile(&second).await;
    conversation.end();
}

/// A write to the old target was reported for the new target, which no other client had changed, for ten minutes.
#[tokio::test(start_paused = true)]
async fn state_of_one_target_is_not_used_for_the_next() {
    let job = job_for_legacy(json!({"spec": {"replicas": 3}}));
    let conversation = Conversation::new(vec![
        line("GET", LEGACY, legacy(1, "kubectl")),
        pods(1),
        line("GET", LEGACY, legacy(1, "kubectl")),
        line("PATCH", LEGACY_SCALE, scale_answer()),
        line("GET", LEGACY, legacy(3, "sluice/scale")),
        status_of(&job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    let next = |replicas: u32, owner: &str| {
        let mut object = legacy(replicas, owner);
        merge(&mut object["metadata"], json!({"name": "next", "uid": "next-uid"}));
        object
    };
    let target = json!({"kind": "Deployment", "name": "next"});
    let job = job_for_legacy(json!({"metadata": {"generation": 2}, "spec": {"replicas": 3, "targetRef": target}}));
    conversation.then(vec![
        line("GET", NEXT, next(1, "kubectl")),
        pods(0),
        line("GET", NEXT, next(1, "kubectl")),
        line("PATCH", NEXT_SCALE, scale_answer()),
        line("GET", NEXT, next(3, "sluice/scale")),
        status_with("ScalingActive", "False", "Pinned", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn kind_in_capitals_is_not_found() {
    let target = json!({"kind": "DEPLOYMENT", "name": "legacy"});
    let job = job_for_legacy(json!({"spec": {"targetRef": target}}));
    let resource =
        json!({"name": "deployments", "singularName": "", "namespaced": true, "kind": "Deployment", "verbs": ["get"]});
    let known = json!({"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [resource]});
    let conversation = Conversation::new(vec![
        line("GET", "/apis/apps/v1", known),
        status_with("Ready", "False", "TargetNotFound", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn target_that_another_job_runs_is_left_alone() {
    let mut theirs = legacy(3, "sluice/scale");
    theirs["metadata"]["ownerReferences"] = json!([{"apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob", "name": "legacy", "uid": "another", "controller": true}]);
    let job = job_for_legacy(json!({"spec": {"replicas": 9}}));
    let reported = status_with("Stalled", "True", "TargetTaken", &job);
    let conversation = Conversation::new(vec![line("GET", LEGACY, theirs), pods(3), reported]);
    conversation.reconcile(&job).await;
    conversation.end();
}

/// The oldest job is known only once all jobs are listed.
#[tokio::test(start_paused = true)]
async fn target_is_not_written_before_all_jobs_are_listed() {
    let job = job_for_legacy(json!({"spec": {"replicas": 9}}));
    let reported = line("PATCH", STATUS, serde_json::to_value(&job).unwrap());
    let mut conversation = Conversation::new(vec![line("GET", LEGACY, legacy(1, "kubectl")), pods(1), reported]);
    conversation.context.jobs_listed = tokio_util::sync::CancellationToken::new();
    conversation.reconcile(&job).await;
    conversation.end();
}
