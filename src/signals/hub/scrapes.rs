//! The task of one worker: scrape its metrics page for as long as it is watched.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tracing::debug;

use super::state::{NewWorker, Outcome, When};
use super::{Shared, pace};
use crate::signals::sample::{Category, WorkerSample};

pub(super) async fn run(shared: Arc<Shared>, worker: NewWorker) {
    let stop = worker.stop.clone();
    stop.run_until_cancelled(scrape(shared, worker)).await;
}

async fn scrape(shared: Arc<Shared>, worker: NewWorker) {
    let Some(interval) = shared.state().interval(&worker.job) else { return };
    tokio::time::sleep(shared.dice.phase(interval)).await;
    let mut failures = 0_u32;
    loop {
        // Read anew: the objective may have changed.
        let Some(interval) = shared.state().interval(&worker.job) else { return };
        let began = shared.clock.monotonic();
        let outcome = attempt(&shared, &worker, pace::deadline(interval, 0)).await;
        let failed = outcome.as_ref().err().map(|(category, message)| {
            debug!(job = %worker.job, worker = worker.endpoint.id, category = category.as_str(), message, "could not read a worker");
            *category
        });
        let at = shared.clock.now();
        if !shared.state().scraped(&worker, outcome, at) {
            return;
        }
        shared.counters.worker(failed);
        shared.updates.tell(&worker.job);
        let wait = match failed {
            None => {
                failures = 0;
                interval
            }
            Some(category) => {
                failures = failures.saturating_add(1);
                pace::back_off(interval, failures, category)
            }
        };
        let when = When { began, ended: shared.clock.monotonic(), at, jitter: shared.dice.jitter() };
        tokio::time::sleep_until(when.next(wait, interval)).await;
    }
}

async fn attempt(shared: &Shared, worker: &NewWorker, deadline: Duration) -> Outcome<WorkerSample> {
    // Waiting for a permit is not the worker's fault, so it does not count against its deadline.
    let _permit = shared.scrapes.acquire().await;
    let scrape = AssertUnwindSafe(shared.scrape.scrape(&worker.endpoint, deadline)).catch_unwind();
    match tokio::time::timeout(deadline, scrape).await {
        Ok(Ok(Ok(sample))) => Ok(sample),
        Ok(Ok(Err(error))) => Err((error.category(), error.to_string())),
        Ok(Err(_)) => Err((
            Category::Protocol,
            "failed to read the worker's metrics: the scraper panicked; see the log".to_owned(),
        )),
        Err(_) => Err((
            Category::Unreachable,
            format!(
                "failed to read http://{}{}: no answer within {deadline:.1?}; check that the worker is not stuck",
                worker.endpoint.address, worker.endpoint.path
            ),
        )),
    }
}
