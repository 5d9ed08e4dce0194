//! Wrong metrics pages of workers, from the page to the replica count.

use super::testbed::{Counters, Testbed};

/// Returns a wrong page of a worker with these counters.
type Lie = fn(&Counters) -> String;

/// Asserts that four minutes of wrong pages remove no worker, and that afterwards, with right pages and a load for four
/// workers, the capacity of a worker is known as before.
async fn survives(what: &str, lie: Lie) {
    let testbed = Testbed::new(1).await;
    testbed.job("orders", 0, 220, |_| {}).await;
    testbed.run(240, |_| {}).await;
    assert_eq!(testbed.workers("orders"), 3);
    testbed.set_worker_page("orders", lie);
    testbed
        .run(240, |testbed| assert!(testbed.workers("orders") >= 3, "{what}: {}", testbed.complaints("orders")))
        .await;
    testbed.restore_truth();
    testbed.run(180, |_| {}).await;
    assert_eq!(testbed.complaints("orders"), "", "{what}");
    let all = testbed.world.list("sluice.dev", "streamjobs");
    let capacity = all[0]["status"]["model"]["capacityPerWorker"].as_f64();
    assert!(capacity.is_none_or(|capacity| (50.0..200.0).contains(&capacity)), "{what}: a worker does {capacity:?}");
    testbed.set_rate("orders", 320);
    testbed.run(120, |_| {}).await;
    assert!((4..=6).contains(&testbed.workers("orders")), "{what}: {} workers", testbed.workers("orders"));
    testbed.end().await;
}

fn with(processed: &str, busy: &str) -> String {
    format!("sluice_worker_records_processed_total {processed}\nsluice_worker_busy_seconds_total {busy}\n")
}

/// Catalogue: M3.
#[tokio::test(start_paused = true)]
async fn page_with_invalid_numbers_removes_no_worker() {
    let lies: [Lie; 4] =
        [|_| with("NaN", "NaN"), |_| with("+Inf", "1e308"), |_| with("-5", "-1"), |_| with("1e308", "1e-320")];
    for (number, lie) in lies.into_iter().enumerate() {
        survives(&format!("number {number}"), lie).await;
    }
}

/// Catalogue: M4.
#[tokio::test(start_paused = true)]
async fn page_of_zeros_removes_no_worker() {
    survives("zeros", |_| with("0", "0")).await;
    survives("nothing", |_| String::new()).await;
}

/// Catalogue: M12.
#[tokio::test(start_paused = true)]
async fn decreasing_counters_remove_no_worker() {
    survives("a saw tooth", |so| with(&(so.processed % 500).to_string(), &(so.busy % 5.0).to_string())).await;
    survives("ever less", |so| with(&(1_000_000 - so.processed).to_string(), &(1e6 - so.busy).to_string())).await;
    survives("a start in the future", |so| so.page().replace("start_time_seconds 1", "start_time_seconds 9")).await;
}
