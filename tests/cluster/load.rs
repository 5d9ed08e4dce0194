//! The promise itself: workers follow the load, before the target is missed, and no further than helps.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bed::{Bed, condition, has, page, status};
use super::seen::{Numbers, now};

/// The value of a job's gauge on the operator's metrics page.
fn gauge(page: &str, name: &str) -> Option<f64> {
    page.lines().find(|line| line.starts_with(&format!("{name}{{")))?.rsplit(' ').next()?.parse().ok()
}

fn writes(page: &str) -> f64 {
    page.lines()
        .filter(|line| line.starts_with("sluice_api_writes_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Records in the topic, and when that was asked.
async fn arrived(bed: &Bed) -> (Instant, f64) {
    let asked = now();
    let ends = bed.progress().await.partitions.into_iter().filter_map(|partition| partition.end);
    #[allow(clippy::cast_precision_loss, reason = "a test writes no 2^52 records")]
    (asked, ends.sum::<i64>() as f64)
}

/// When more records have arrived than at the old rate since `old`, by what comes in a tenth of a second and by a tenth of
/// the old rate, which is not kept more exactly. A fifth of a second late at most.
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
async fn three_times_the_load_gets_more_workers_before_the_target_is_missed_and_fewer_afterwards() {
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
    // Let it learn what one worker can do.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = bed.wanted().await;
    let writes_before = writes(&page(18121, "/metrics").await);

    // On top of what arrives: three times as much, without a pause.
    let numbers = Numbers::watch(&bed, "orders");
    let old = arrived(&bed).await;
    let started = now();
    let more = bed.load(1200);
    let arrived = tokio::time::timeout(Duration::from_secs(30), first_of_a_higher_rate(&bed, old, 600.0));
    let decided = bed
        .until("more workers are wanted", 30, |job| status(job).desired_replicas.is_some_and(|wanted| wanted > before));
    let (arrived, decided) = tokio::join!(arrived, decided);
    let (arrived, written) = (arrived.expect("the load arrives"), numbers.first_above(before).await);
    let reaction = written.saturating_duration_since(arrived).as_secs_f64();
    println!(
        "reaction: {reaction:.1} s from the first records of the step in the broker to the number written at /scale; the load needed {:.1} s to begin; {:?}",
        (arrived - started).as_secs_f64(),
        status(&decided).last_decision.map(|decision| decision.message)
    );
    assert!(reaction <= 10.0, "{reaction:.1} s");
    // Through the step and after it the latency that the operator measures stays within the target.
    let mut worst: f64 = 0.0;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        worst = worst.max(gauge(&page(18121, "/metrics").await, "sluice_job_latency_seconds").unwrap_or(0.0));
    }
    println!("worst latency after the step: {worst:.1} s; asked for: {:?}", numbers.after(arrived));
    assert!(worst < 10.0, "the target was missed: {worst:.1} s");
    assert!(bed.wanted().await >= 4, "1,800/s need four workers of 450 to 490/s");

    // And back down. No faster than it can be sure, no slower than a few minutes.
    drop(more);
    bed.until("fewer workers", 400, |job| status(job).desired_replicas.is_some_and(|wanted| wanted <= 3)).await;
    let writes_after = writes(&page(18121, "/metrics").await);
    println!("writes to the API server during the step up and down: {}", writes_after - writes_before);
    bed.end().await;
}

#[tokio::test]
async fn never_more_workers_than_partitions() {
    let bed = Bed::new("partitions", 12).await;
    let _operator = bed.operator(18122);
    // More than twelve workers could do.
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
        assert!(bed.wanted().await <= 12);
    }
    assert_eq!(condition(&bed.jobs().get("orders").await.unwrap(), "WithinTarget").0, "False");
    bed.end().await;
}

#[tokio::test]
async fn a_steady_job_costs_no_write() {
    let bed = Bed::new("steady", 12).await;
    let operator = bed.operator(18123);
    let _load = bed.load(600);
    for name in ["orders", "b", "c"] {
        bed.apply(&bed.job_named(name, json!({"spec": {"replicas": 2}}))).await.unwrap();
    }
    for name in ["orders", "b", "c"] {
        // Learning is news; a job that is known well has none.
        bed.until_named(name, "ready, and its workers known well", 120, |job| {
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
