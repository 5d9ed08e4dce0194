//! The task of one worker: it reads the worker's metrics page for as long as the worker is watched.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

use super::state::{AttemptTimes, NewWorker, Outcome};
use super::{Shared, pace};
use crate::sample::{Category, WorkerSample};

/// A worker that answers within this time is quick.
const QUICK: Duration = Duration::from_millis(500);

/// Limits on concurrent scrapes: one for workers that are quick or were not read yet, and one for slow workers. A
/// worker that turns out to be slow moves from the first to the second, so that quick workers hardly wait even if many
/// others hang.
pub(super) struct ScrapePermits {
    quick: Semaphore,
    slow: Semaphore,
}

impl ScrapePermits {
    /// Returns the limits for all jobs together.
    pub(super) fn for_process() -> Self {
        Self { quick: Semaphore::new(128), slow: Semaphore::new(64) }
    }

    /// Returns the limits for one job: 10,000 workers that answer in 5 ms are read in 3 s.
    pub(super) fn for_job() -> Self {
        Self { quick: Semaphore::new(16), slow: Semaphore::new(8) }
    }
}

pub(super) async fn run(shared: Arc<Shared>, worker: NewWorker) {
    let stop = worker.stop.clone();
    stop.run_until_cancelled(scrape_until_stopped(shared, worker)).await;
}

async fn scrape_until_stopped(shared: Arc<Shared>, worker: NewWorker) {
    let Some(interval) = shared.state().interval(&worker.job) else { return };
    tokio::time::sleep(shared.random.initial_delay(interval)).await;
    let mut failures = 0_u32;
    let mut quick = true;
    loop {
        // Read in each round, because the objective may have changed.
        let Some(interval) = shared.state().interval(&worker.job) else { return };
        // Waiting for a permit is not the worker's fault, so it does not count against its deadline.
        let Attempt { began, outcome, quick: was_quick } =
            attempt(&shared, &worker, pace::deadline(interval, 0), quick).await;
        quick = was_quick;
        let failed = outcome.as_ref().err().map(|(category, message)| {
            debug!(job = %worker.job, worker = worker.endpoint.id, category = category.as_str(), message, "failed to read a worker");
            *category
        });
        let at = shared.clock.now();
        if !shared.state().record_scrape(&worker, outcome, at) {
            return;
        }
        shared.counters.count_worker(failed);
        shared.updates.publish(&worker.job);
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
        let when = AttemptTimes { began, ended: shared.clock.monotonic(), at, jitter: shared.random.jitter() };
        tokio::time::sleep_until(when.next_due(wait, interval)).await;
    }
}

/// The result of one attempt.
struct Attempt {
    began: Instant,
    outcome: Outcome<WorkerSample>,
    /// Whether the worker answered quickly, be it with an error.
    quick: bool,
}

/// Makes one attempt as soon as there is a permit for it. The job's own permit is taken first, so that attempts that
/// wait for other workers of the job do not hold permits that all jobs share.
async fn attempt(shared: &Shared, worker: &NewWorker, deadline: Duration, quick: bool) -> Attempt {
    if !quick {
        let _permits = (worker.scrape_permits.slow.acquire().await, shared.scrape_permits.slow.acquire().await);
        let began = shared.clock.monotonic();
        let outcome = scrape_once(shared, worker, deadline).await;
        let quick = shared.clock.monotonic() - began < QUICK;
        return Attempt { began, outcome, quick };
    }
    let permits = (worker.scrape_permits.quick.acquire().await, shared.scrape_permits.quick.acquire().await);
    let began = shared.clock.monotonic();
    let mut scrape = std::pin::pin!(scrape_once(shared, worker, deadline));
    if let Ok(outcome) = tokio::time::timeout(QUICK, &mut scrape).await {
        return Attempt { began, quick: true, outcome };
    }
    drop(permits);
    let outcome = match (worker.scrape_permits.slow.try_acquire(), shared.scrape_permits.slow.try_acquire()) {
        (Ok(_own), Ok(_all)) => scrape.await,
        _ => Err((
            Category::Unreachable,
            format!(
                "failed to read http://{}{}: no answer within {QUICK:?}, and too many other workers are slow; check that the workers are not stuck",
                worker.endpoint.address, worker.endpoint.path
            ),
        )),
    };
    Attempt { began, outcome, quick: false }
}

async fn scrape_once(shared: &Shared, worker: &NewWorker, deadline: Duration) -> Outcome<WorkerSample> {
    let scrape = AssertUnwindSafe(shared.scrape.scrape(&worker.endpoint, &worker.topics, deadline)).catch_unwind();
    match tokio::time::timeout(deadline, scrape).await {
        Ok(Ok(Ok(sample))) => Ok(Arc::new(sample)),
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
