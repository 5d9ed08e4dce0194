//! A workload that someone else made: looked at live, seldom; written to only where it is to change.

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
    conversation.then(vec![status_of(&job)]);
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

/// What the API server says of the kinds of a group.
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

/// A kind whose number is at `.spec.size`, whose selector is in its status alone, and whose plural cannot be guessed.
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
async fn the_number_of_any_kind_is_read_and_written_through_its_scale() {
    let job = job_for_ship(json!({}));
    let conversation = Conversation::new(vec![
        kinds("/apis/demo.test/v1", "fleet", "Ship", true),
        line("GET", SIZED, sized(1, "kubectl")),
        line("GET", SIZED_SCALE, scale_of(1, "app=legacy")),
        pods(1),
        line("GET", SIZED, sized(1, "kubectl")),
        line("GET", SIZED_SCALE, scale_of(1, "app=legacy")),
        line("PATCH", SIZED_SCALE, scale_answer()).checked(|body| {
            assert_eq!(body["kind"], Value::Null, "no apply: that of a custom kind is refused");
            assert_eq!((&body["spec"]["replicas"], &body["metadata"]["resourceVersion"]), (&json!(3), &json!("3")));
        }),
        line("GET", SIZED, sized(3, "sluice/scale")),
        line("GET", SIZED_SCALE, scale_of(3, "app=legacy")),
        status_with("ScalingActive", "False", "NoSignal", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    // Our own write is not somebody else's, wherever the kind keeps its number.
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
async fn pods_without_a_selector_are_unknown_and_not_none() {
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
async fn a_kind_that_does_not_exist_or_cannot_be_scaled_is_said() {
    let unknown = line("GET", "/apis/demo.test/v1", Value::Null).refused(404, "NotFound", "404 page not found");
    let other = kinds("/apis/demo.test/v1", "boats", "Boat", true);
    let fixed = kinds("/apis/demo.test/v1", "fleet", "Ship", false);
    for (answer, why) in [(unknown, "no such kind"), (other, "no such kind"), (fixed, "no scale subresource")] {
        let job = job_for_ship(json!({}));
        let told = status_with("Ready", "False", "TargetNotFound", &job).checked(move |body| {
            let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
            assert!(message.contains(why), "{message}");
        });
        let conversation = Conversation::new(vec![answer, told]);
        conversation.reconcile(&job).await;
        conversation.end();
    }
}

/// Nothing was ever said of it: no status, no event.
#[tokio::test(start_paused = true)]
async fn a_target_that_may_not_be_read_is_said_with_the_right_that_is_missing() {
    let job = job_for_ship(json!({}));
    let told = status_with("Ready", "False", "TargetForbidden", &job).checked(|body| {
        let message = condition(body, "Ready")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("cannot get resource") && message.contains("extraRules"), "{message}");
        assert_eq!(condition(body, "MetricsAvailable")["reason"], "NoSignal");
        assert_eq!(condition(body, "ScalingActive")["reason"], "TargetForbidden");
    });
    let conversation = Conversation::new(vec![
        kinds("/apis/demo.test/v1", "fleet", "Ship", true),
        line("GET", SIZED, Value::Null).refused(403, "Forbidden", "User \"sluice\" cannot get resource \"fleet\""),
        told,
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
    let events = conversation.events();
    assert!(events.contains(&"Warning TargetForbidden".to_owned()), "{events:?}");
    // Its samples wake the job; the target is left in peace.
    tokio::time::advance(Duration::from_secs(9)).await;
    conversation.reconcile(&job).await;
    conversation.end();
}

fn listed(conversation: &Conversation, jobs: &[&sluice_api::StreamJob]) {
    let mut writer = ClaimsWriter::new(conversation.context.claims.clone());
    for job in jobs {
        let object = kube::core::DeserializeGuard(Ok((*job).clone()));
        writer.take(&kube::runtime::watcher::Event::Apply(object), |_| true);
    }
}

/// They wrote 2 and 5 in turns, every 20 s, and both were Ready.
#[tokio::test(start_paused = true)]
async fn of_two_jobs_that_name_one_target_the_older_has_it_and_both_are_told() {
    let named = |name: &str, minute: u32, replicas: u32| {
        let metadata =
            json!({"name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")});
        job_for_legacy(json!({"metadata": metadata, "spec": {"replicas": replicas}}))
    };
    let (first, second) = (named("orders", 1, 1), named("second", 2, 5));
    let told = status_with("ScalingActive", "True", "TargetContested", &first).checked(|body| {
        let message = condition(body, "ScalingActive")["message"].as_str().unwrap().to_owned();
        assert!(
            message.starts_with("Sluice decides the number of workers; StreamJob second names the same workload"),
            "{message}"
        );
    });
    let pinned = job_for_legacy(json!({"metadata": {"uid": "orders", "creationTimestamp": "2026-01-01T00:01:00Z"}}));
    let mut conversation = Conversation::new(vec![line("GET", LEGACY, legacy(1, "kubectl")), pods(1), told]);
    conversation.context.signals =
        std::sync::Arc::new(Samples(read_as(all_processed(sluice_base::units::Seconds(1_764_000_000.0)))));
    listed(&conversation, &[&first, &second]);
    conversation.reconcile(&pinned).await;
    conversation.end();
    let told = line("PATCH", OTHER, serde_json::to_value(&second).unwrap()).checked(|body| {
        for kind in ["Ready", "Stalled", "ScalingActive"] {
            assert_eq!(condition(body, kind)["reason"], "TargetTaken");
        }
        assert_eq!(condition(body, "ScalingActive")["status"], "False");
    });
    conversation.then(vec![line("GET", LEGACY, legacy(1, "kubectl")), pods(1), told]);
    conversation.reconcile(&second).await;
    conversation.end();
}

/// "kubectl has written the number", of a workload that nobody had touched, for ten minutes.
#[tokio::test(start_paused = true)]
async fn what_is_known_of_one_target_says_nothing_of_the_next() {
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
async fn a_kind_in_capitals_is_no_kind() {
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
async fn a_target_that_another_job_runs_is_left_alone() {
    let mut theirs = legacy(3, "sluice/scale");
    theirs["metadata"]["ownerReferences"] = json!([{"apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob", "name": "legacy", "uid": "another", "controller": true}]);
    let job = job_for_legacy(json!({"spec": {"replicas": 9}}));
    let told = status_with("Stalled", "True", "TargetTaken", &job);
    let conversation = Conversation::new(vec![line("GET", LEGACY, theirs), pods(3), told]);
    conversation.reconcile(&job).await;
    conversation.end();
}

/// Which of them is the older is not known before all are.
#[tokio::test(start_paused = true)]
async fn a_target_is_not_written_to_before_all_jobs_are_listed() {
    let job = job_for_legacy(json!({"spec": {"replicas": 9}}));
    let told = line("PATCH", STATUS, serde_json::to_value(&job).unwrap());
    let mut conversation = Conversation::new(vec![line("GET", LEGACY, legacy(1, "kubectl")), pods(1), told]);
    conversation.context.jobs_listed = tokio_util::sync::CancellationToken::new();
    conversation.reconcile(&job).await;
    conversation.end();
}
