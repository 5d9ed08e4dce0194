//! Deletion costs of pods: written right before a scale-down, and at no other time.

use std::sync::Arc;

use kube::runtime::watcher::Event;

use super::*;
use crate::annotations::POD_DELETION_COST;
use sluice_base::units::Seconds;
use sluice_signals::{JobSamples, Owner, PartitionSample, SourceReading, SourceSample};

const POD_B: &str = "/api/v1/namespaces/payments/pods/b";
const POD_D: &str = "/api/v1/namespaces/payments/pods/d";

/// Adds four workers that own three, one, two and no partitions, of which `marked` were marked before.
fn with_workers(mut conversation: Conversation, job: &sluice_api::StreamJob, marked: &[&str]) -> Conversation {
    for name in ["a", "b", "c", "d"] {
        let cost = if marked.contains(&name) { json!({POD_DELETION_COST: "-1"}) } else { json!({}) };
        let mut metadata = pod_of("orders", json!({"sluice.dev/job": "orders"}));
        merge(
            &mut metadata,
            json!({"name": name, "namespace": "payments", "uid": format!("uid-{name}"), "annotations": cost}),
        );
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": metadata,
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        conversation.pods.apply_event(&Event::Apply(serde_json::from_value(pod).unwrap()));
    }
    let partition = |(number, owner): (usize, &str)| PartitionSample {
        id: format!("orders/{number}"),
        end: Some(100),
        committed: Some(100),
        owner: Some(Owner { client_id: owner.to_owned(), ..Owner::default() }),
        ..PartitionSample::default()
    };
    let sample = SourceSample {
        at: Seconds(1_764_000_000.0),
        partitions: ["a", "a", "a", "b", "c", "c"].into_iter().enumerate().map(partition).collect(),
        ..SourceSample::default()
    };
    let source = SourceReading { name: "orders".to_owned(), sample: Some(Arc::new(sample)), failure: None };
    conversation.context.signals = Arc::new(Samples(JobSamples { sources: vec![source], workers: Vec::new() }));
    conversation.cached(deployment(job, 4, &["sluice/scale"]))
}

#[tokio::test(start_paused = true)]
async fn workers_with_fewest_partitions_are_marked_before_a_step_down() {
    let job = job(json!({"spec": {"replicas": 2}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 4, &["sluice/scale"])),
        // c was marked once and stays now; d is marked already.
        line("PATCH", "/api/v1/namespaces/payments/pods/b", Value::Null).forced(false).checked(|body| {
            assert_eq!(
                (&body["metadata"]["annotations"][POD_DELETION_COST], &body["metadata"]["uid"]),
                (&json!("-1"), &json!("uid-b"))
            );
        }),
        line("PATCH", "/api/v1/namespaces/payments/pods/c", Value::Null).forced(false).checked(|body| {
            assert_eq!((&body["metadata"]["annotations"], &body["metadata"]["uid"]), (&Value::Null, &json!("uid-c")));
        }),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["spec"]["replicas"], 2)),
        line("GET", DEPLOYMENT, deployment(&job, 2, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job),
    ]);
    let conversation = with_workers(conversation, &job, &["c", "d"]);
    conversation.reconcile(&job).await;
    conversation.end();
    let metrics = conversation.context.metrics.encode().unwrap();
    for counted in
        [r#"{verb="mark",result="ok"} 2"#, r#"{verb="scale",result="ok"} 1"#, r#"{verb="status",result="ok"} 1"#]
    {
        assert!(metrics.contains(&format!("sluice_api_writes_total{counted}")), "{counted} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn failed_mark_does_not_prevent_the_scale_write() {
    let job = job(json!({"spec": {"replicas": 2}}));
    let conversation = Conversation::new(vec![
        config_map(&job),
        line("GET", DEPLOYMENT, deployment(&job, 4, &["sluice/scale"])),
        line("PATCH", POD_D, Value::Null).refused(403, "Forbidden", "pods \"d\" is forbidden"),
        line("PATCH", POD_B, Value::Null).unanswered(),
        line("PATCH", SCALE, scale_answer()).checked(|body| assert_eq!(body["spec"]["replicas"], 2)),
        line("GET", DEPLOYMENT, deployment(&job, 2, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job),
    ]);
    let conversation = with_workers(conversation, &job, &[]);
    conversation.reconcile(&job).await;
    conversation.end();
}

#[tokio::test(start_paused = true)]
async fn no_pod_is_marked_without_a_step_down() {
    let job = job(json!({"spec": {"replicas": 4}}));
    let conversation = Conversation::new(vec![config_map(&job), status_with("ScalingActive", "False", "Pinned", &job)]);
    let conversation = with_workers(conversation, &job, &["c"]);
    conversation.reconcile(&job).await;
    conversation.end();
    conversation.then(vec![status_of(&job)]);
    for _ in 0..4 {
        conversation.reconcile(&job).await;
        conversation.end();
    }
    let job = script::job(json!({"metadata": {"generation": 2}, "spec": {"replicas": 6}}));
    conversation.then(vec![
        line("GET", DEPLOYMENT, deployment(&job, 4, &["sluice/scale"])),
        line("PATCH", SCALE, scale_answer()),
        line("GET", DEPLOYMENT, deployment(&job, 6, &["sluice/scale"])),
        status_with("ScalingActive", "False", "Pinned", &job),
    ]);
    conversation.reconcile(&job).await;
    conversation.end();
}
