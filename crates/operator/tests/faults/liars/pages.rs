//! Workers that lie on their pages, from the page to the number of workers.

use super::stage::{Counters, Stage};

/// What a worker writes in place of its page.
type Lie = fn(&Counters) -> String;

/// Four minutes of it, and then the truth while the load rises to what four workers can do: never fewer workers than before,
/// and what a worker can do is known as before.
async fn wrote(what: &str, lie: Lie) {
    let stage = Stage::new(1).await;
    stage.job("orders", 0, 220, |_| {}).await;
    stage.run(240, |_| {}).await;
    assert_eq!(stage.workers("orders"), 3);
    stage.writes("orders", lie);
    stage.run(240, |stage| assert!(stage.workers("orders") >= 3, "{what}: {}", stage.complaints("orders"))).await;
    stage.honest();
    stage.run(180, |_| {}).await;
    assert_eq!(stage.complaints("orders"), "", "{what}");
    let all = stage.world.list("sluice.dev", "streamjobs");
    let capacity = all[0]["status"]["model"]["capacityPerWorker"].as_f64();
    assert!(capacity.is_none_or(|capacity| (50.0..200.0).contains(&capacity)), "{what}: a worker does {capacity:?}");
    stage.set_rate("orders", 320);
    stage.run(120, |_| {}).await;
    assert!((4..=6).contains(&stage.workers("orders")), "{what}: {} workers", stage.workers("orders"));
    stage.end().await;
}

fn with(processed: &str, busy: &str) -> String {
    format!("sluice_worker_records_processed_total {processed}\nsluice_worker_busy_seconds_total {busy}\n")
}

#[tokio::test(start_paused = true)]
async fn t7_m3_numbers_that_are_none() {
    let lies: [Lie; 4] =
        [|_| with("NaN", "NaN"), |_| with("+Inf", "1e308"), |_| with("-5", "-1"), |_| with("1e308", "1e-320")];
    for (number, lie) in lies.into_iter().enumerate() {
        wrote(&format!("number {number}"), lie).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t7_m4_workers_that_say_zero_while_they_work() {
    wrote("zeros", |_| with("0", "0")).await;
    wrote("nothing", |_| String::new()).await;
}

#[tokio::test(start_paused = true)]
async fn t7_m12_counters_that_go_back() {
    wrote("a saw tooth", |so| with(&(so.processed % 500).to_string(), &(so.busy % 5.0).to_string())).await;
    wrote("ever less", |so| with(&(1_000_000 - so.processed).to_string(), &(1e6 - so.busy).to_string())).await;
    wrote("a start in the future", |so| so.page().replace("start_time_seconds 1", "start_time_seconds 9")).await;
}
