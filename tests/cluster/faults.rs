//! What must not happen when another component fails.

use std::process::Command;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::bed::{Bed, has, status};

#[tokio::test]
async fn a_killed_operator_keeps_workers_and_its_model() {
    let bed = Bed::new("killed", 24).await;
    let operator = bed.operator(18131);
    let load = bed.load(800);
    bed.apply(&bed.job(json!({}))).await.unwrap();
    bed.until("a worker's capacity is known", 120, |job| {
        let model = status(job).model;
        model.and_then(|model| model.capacity_per_worker).is_some() && has(job, "WithinTarget", "True", "Met")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let before = bed.replicas().await;
    drop(load);
    // Far above the capacity of the existing workers.
    let _load = bed.load(3000);
    bed.until("it scales up", 60, |job| status(job).desired_replicas.is_some_and(|desired| desired > before)).await;
    operator.kill();
    let model = status(&bed.jobs().get("orders").await.unwrap()).model.expect("a model was learned");
    let replicas = bed.replicas().await;
    let pods: Vec<_> = names(&bed).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bed.replicas().await, replicas, "workers outlive the operator");
    let _again = bed.operator(18131);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(bed.replicas().await >= replicas, "a new operator does not scale down at first");
    let after = names(&bed).await;
    assert!(pods.iter().all(|pod| after.contains(pod)), "no worker was replaced: {pods:?} -> {after:?}");
    let kept = status(&bed.jobs().get("orders").await.unwrap()).model.expect("the model survives");
    let (old, new) = (model.capacity_per_worker.unwrap_or(0), kept.capacity_per_worker.unwrap_or(0));
    assert!(new > old / 2 && new < old * 2, "capacity {old} -> {new}");
    bed.end().await;
}

async fn names(bed: &Bed) -> Vec<String> {
    let pods = bed.pods().list(&ListParams::default()).await.unwrap();
    pods.items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| pod.metadata.name)
        .collect()
}

#[tokio::test]
async fn a_killed_worker_is_replaced_without_a_scale_down() {
    let bed = Bed::new("worker-killed", 12).await;
    let _operator = bed.operator(18132);
    let _load = bed.load(600);
    bed.apply(&bed.job(json!({"spec": {"minReplicas": 3}}))).await.unwrap();
    bed.until_ready(3, 60).await;
    bed.until("the objective is met", 60, |job| has(job, "WithinTarget", "True", "Met")).await;
    let victim = names(&bed).await.remove(0);
    // Without a grace period it is like a crash: the worker neither leaves its group nor commits.
    bed.pods().delete(&victim, &DeleteParams::default().grace_period(0)).await.unwrap();
    for _ in 0..20 {
        assert!(bed.replicas().await >= 3);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bed.until_ready(3, 60).await;
    bed.end().await;
}

#[tokio::test]
async fn a_broker_outage_of_a_minute_removes_no_worker() {
    let bed = Bed::new("broker", 12).await;
    let _operator = bed.operator(18133);
    let load = bed.load(900);
    bed.apply(&bed.job(json!({"spec": {"minReplicas": 1}}))).await.unwrap();
    bed.until("the objective is met", 90, |job| {
        status(job).ready_replicas >= 2 && has(job, "WithinTarget", "True", "Met")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = bed.replicas().await;
    drop(load);
    kafka("stop");
    bed.until("MetricsAvailable=False", 45, |job| {
        status(job)
            .conditions
            .iter()
            .any(|condition| condition.type_ == "MetricsAvailable" && condition.status == "False")
    })
    .await;
    for _ in 0..45 {
        assert!(bed.replicas().await >= before, "no scale-down without measurements");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let job = bed.jobs().get("orders").await.unwrap();
    assert!(has(&job, "Ready", "False", "SourceUnreachable"), "{:?}", status(&job).conditions);
    kafka("start");
    let _load = bed.load(900);
    bed.until("the job has recovered", 120, |job| {
        has(job, "MetricsAvailable", "True", "Fresh")
            && has(job, "WithinTarget", "True", "Met")
            && has(job, "Ready", "True", "Ready")
    })
    .await;
    bed.end().await;
}

fn kafka(command: &str) {
    let script = std::env::var("SLUICE_HACK").expect("SLUICE_HACK is set by hack/with-testbed") + "/kafka";
    assert!(Command::new(script).arg(command).status().unwrap().success(), "hack/kafka {command}");
}
