//! Jobs with 0 workers: scaled to zero, suspended, and back. A 0 on /scale has no owner, so each transition is tested.

use serde_json::json;

use super::bed::{Bed, has, managers, status};
use super::seen::{A_MOMENT, ReplicaHistory, now};

#[tokio::test]
async fn idle_and_suspended_jobs_scale_to_zero_and_back() {
    let bed = Bed::new("zero", 4).await;
    let _operator = bed.operator(18118);
    // Both run at the same time, because a job is idle only after a minute.
    tokio::join!(sleep_and_wake(&bed), suspend_and_resume(&bed));
    let events = bed.events().await;
    assert!(!events.iter().any(|event| event == "ForeignWriter" || event == "Conflict"), "{events:?}");
    bed.end().await;
}

async fn sleep_and_wake(bed: &Bed) {
    let numbers = ReplicaHistory::watch(bed, "idle");
    bed.apply(&bed.job_named("idle", json!({"spec": {"minReplicas": 0}}))).await.unwrap();
    bed.until_named("idle", "a worker", 60, |job| status(job).ready_replicas == 1).await;
    bed.until_named("idle", "asleep", 120, |job| status(job).replicas == 0 && has(job, "Ready", "True", "Asleep"))
        .await;
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!(numbers.all(), [1, 0]);
    let began = now();
    let _load = bed.load(300);
    bed.until_named("idle", "awake", 30, |job| status(job).ready_replicas >= 1).await;
    println!("{:.1} s from the start of the load to a worker that is ready", began.elapsed().as_secs_f64());
    bed.until_named("idle", "the objective is met", 30, |job| has(job, "WithinTarget", "True", "Met")).await;
    let owners = managers(&bed.deployments().get("idle").await.unwrap(), &["f:spec", "f:replicas"]);
    assert_eq!(owners, ["sluice/scale"]);
}

async fn suspend_and_resume(bed: &Bed) {
    let name = "suspended";
    let numbers = ReplicaHistory::watch(bed, name);
    bed.apply(&bed.job_named(name, json!({"spec": {"minReplicas": 2, "suspend": true}}))).await.unwrap();
    for again in [true, false] {
        bed.until_named(name, "no workers", 60, |job| {
            status(job).replicas == 0 && has(job, "Ready", "True", "Suspended")
        })
        .await;
        bed.patch(name, json!({"spec": {"suspend": false}})).await;
        bed.until_named(name, "two workers", 60, |job| {
            status(job).ready_replicas == 2 && has(job, "ScalingActive", "True", "Active")
        })
        .await;
        let owners = managers(&bed.deployments().get(name).await.unwrap(), &["f:spec", "f:replicas"]);
        assert_eq!(owners, ["sluice/scale"]);
        bed.patch(name, json!({"spec": {"suspend": again}})).await;
    }
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!(numbers.all(), [0, 2, 0, 2], "no intermediate replica count");
}
