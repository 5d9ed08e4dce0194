//! The main goal: the replica count follows the load before the target is missed, and no further than useful.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bed::{Bed, condition, has, page, status};
use super::seen::{ReplicaHistory, now};

/// Returns the value of a gauge on the operator's metrics page.
fn gauge(page: &str, name: &str) -> Option<f64> {
    page.lines().find(|line| line.starts_with(&format!("{name}{{")))?.rsplit(' ').next()?.parse().ok()
}

fn writes(page: &str) -> f64 {
    page.lines()
        .filter(|line| line.starts_with("sluice_api_writes_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Returns the number of records in the topic and the time of the request.
async fn arrived(bed: &Bed) -> (Instant, f64) {
    let asked = now();
    let ends = bed.progress().await.partitions.into_iter().filter_map(|partition| partition.end);
    #[allow(clippy::cast_precision_loss, reason = "a test writes no 2^52 records")]
    (asked, ends.sum::<i64>() as f64)
}

/// Waits until more records have arrived since `old` than at the old rate, and returns the time, which is at most 0.2 s
/// late. The margin is a tenth of a second's records plus a tenth of the old rate, which is as exactly as the load
/// keeps it.
async fn first_of_a_higher_rate(bed: &Bed, old: (Instant, f64), rate: f64) -> Instant {
    loop {
        let (at, records) = arrived(bed).await;
        let since = (at - old.0).as_secs_f64();
        if records - old.1 > rate * (1.1 * since + 0.1) {
            return at;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn tripled_load_scales_up_within_the_target_and_back_down() {
    let bed = Bed::new("load", 24).await;
    let _operator = bed.operator(18121);
    let _load = bed.load(600);
    bed.apply(&bed.job(json!({}))).await.unwrap();
    bed.until("workers consume, and the objective is met", 90, |job| {
        status(job).ready_replicas >= 1
            && has(job, "WithinTarget", "True", "Met")
            && has(job, "MetricsAvailable", "True", "Fresh")
    })
    .await;
    // The operator learns the capacity of one worker.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = bed.replicas().await;
    let writes_before = writes(&page(18121, "/metrics").await);

    // An additional load triples the rate without a pause.
    let numbers = ReplicaHistory::watch(&bed, "orders");
    let old = arrived(&bed).await;
    let started = now();
    let more = bed.load(1200);
    let arrived = tokio::time::timeout(Duration::from_secs(30), first_of_a_higher_rate(&bed, old, 600.0));
    let decided = bed.until("more workers are desired", 30, |job| {
        status(job).desired_replicas.is_some_and(|desired| desired > before)
    });
    let (arrived, decided) = tokio::join!(arrived, decided);
    let (arrived, written) = (arrived.expect("the load arrives"), numbers.first_above(before).await);
    let reaction = written.saturating_duration_since(arrived).as_secs_f64();
    println!(
        "reaction: {reaction:.1} s from the first records of the step in the broker to the write on /scale; the load needed {:.1} s to start; {:?}",
        (arrived - started).as_secs_f64(),
        status(&decided).last_decision.map(|decision| decision.message)
    );
    assert!(reaction <= 10.0, "{reaction:.1} s");
    // During and after the step the latency measured by the operator stays within the target.
    let mut worst: f64 = 0.0;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        worst = worst.max(gauge(&page(18121, "/metrics").await, "sluice_job_latency_seconds").unwrap_or(0.0));
    }
    println!("worst latency after the step: {worst:.1} s; replica counts: {:?}", numbers.after(arrived));
    assert!(worst < 10.0, "the target was missed: {worst:.1} s");
    assert!(bed.replicas().await >= 4, "1,800/s need four workers of 450 to 490/s");

    // The scale-down follows within a few minutes.
    drop(more);
    bed.until("fewer workers", 400, |job| status(job).desired_replicas.is_some_and(|desired| desired <= 3)).await;
    let writes_after = writes(&page(18121, "/metrics").await);
    println!("writes to the API server during the step up and down: {}", writes_after - writes_before);
    bed.end().await;
}

#[tokio::test]
async fn replica_count_never_exceeds_the_partition_count() {
    let bed = Bed::new("partitions", 12).await;
    let _operator = bed.operator(18122);
    // The load exceeds the capacity of twelve workers.
    let mut slow = bed.template();
    slow["spec"]["containers"][0]["args"][10] = json!("20ms");
    let _load = bed.load(1200);
    bed.apply(&bed.job(json!({"spec": {"workload": {"template": slow}}}))).await.unwrap();
    let job = bed
        .until("ScalingLimited=True/AtPartitionCount", 120, |job| {
            has(job, "ScalingLimited", "True", "AtPartitionCount")
        })
        .await;
    assert_eq!(status(&job).partitions, Some(12));
    bed.until("twelve workers", 90, |job| status(job).replicas == 12).await;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(bed.replicas().await <= 12);
    }
    assert_eq!(condition(&bed.jobs().get("orders").await.unwrap(), "WithinTarget").0, "False");
    bed.end().await;
}

#[tokio::test]
async fn a_steady_job_causes_no_writes() {
    let bed = Bed::new("steady", 12).await;
    let operator = bed.operator(18123);
    let _load = bed.load(600);
    for name in ["orders", "b", "c"] {
        bed.apply(&bed.job_named(name, json!({"spec": {"replicas": 2}}))).await.unwrap();
    }
    for name in ["orders", "b", "c"] {
        // While the operator learns, the status changes; with high confidence it does not.
        bed.until_named(name, "ready, with a model of high confidence", 120, |job| {
            let known = status(job).model.is_some_and(|model| model.confidence == "High");
            known && status(job).ready_replicas == 2 && has(job, "WithinTarget", "True", "Met")
        })
        .await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = writes(&page(18123, "/metrics").await);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let after = writes(&page(18123, "/metrics").await);
    println!("writes in 40 steady seconds with 3 jobs: {}; resident: {} KiB", after - before, operator.resident_kib());
    assert!((after - before).abs() < 0.5, "{before} -> {after}");
    bed.end().await;
}
