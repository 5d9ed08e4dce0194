//! The hub samples every source and worker of every job in the background, and returns the newest samples at once.
//!
//! Architecture invariant: reconciling never waits for a source. [`Hub::read`] takes a lock that is never held across
//! an await, and copies the samples.
//!
//! Architecture invariant: a slow endpoint never delays another one. Each cluster has its own task (`rounds.rs`), and
//! so has each worker (`scrapes.rs`). Each attempt has a deadline. In the operator these tasks run on their own threads
//! (`threads.rs`), so that decoding an answer never delays a decision.

mod pace;
mod rounds;
mod scrapes;
mod state;
mod stats;
mod threads;
mod updates;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::Stream;
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::pace::Random;
pub use self::pace::interval;
use self::scrapes::ScrapePermits;
use self::state::State;
use self::stats::Counters;
pub use self::stats::{ErrorCounts, HubStats};
pub use self::threads::Threads;
use self::updates::Updates;
use super::limits::Limits;
use super::sample::{JobKey, JobSamples, WatchSpec};
use super::scrape::Scrape;
use super::source::Connect;
use sluice_base::clock::Clock;

/// The part of the hub that the operator uses. Its tests implement it with a script.
pub trait Signals: Send + Sync {
    /// Starts to sample the sources and workers of a job, or changes which are sampled. Call this on every reconcile:
    /// it is cheap, and does nothing if nothing changed. The samples of sources and workers that remain are kept.
    fn watch(&self, job: &JobKey, watch: WatchSpec);

    /// Stops sampling for a job and drops its samples.
    fn forget(&self, job: &JobKey);

    /// Returns every watched job.
    fn jobs(&self) -> Vec<JobKey> {
        Vec::new()
    }

    /// Returns the newest samples; `None` if the job is not watched. Never waits.
    fn read(&self, job: &JobKey) -> Option<JobSamples>;
}

/// A handle to the hub. Clones share the hub.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// The state that the hub and its tasks share.
struct Shared {
    clock: Clock,
    connect: Arc<dyn Connect>,
    scrape: Arc<dyn Scrape>,
    random: Random,
    state: Mutex<State>,
    updates: Updates,
    counters: Counters,
    scrape_permits: ScrapePermits,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Where the tasks run; `None`: on the runtime from within which they are begun.
    threads: Option<Threads>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.threads {
            Some(threads) => self.tracker.spawn_on(task, threads.handle()),
            None => self.tracker.spawn(task),
        };
    }
}

impl Hub {
    /// Creates a hub that samples nothing yet. Its tasks run on the current tokio runtime: call [`Hub::watch`] from
    /// within it.
    pub fn new(clock: Clock, connect: Arc<dyn Connect>, scrape: Arc<dyn Scrape>) -> Self {
        Self::with_limits(Limits::default(), clock, connect, scrape)
    }

    /// Creates a hub with these limits on clusters and on the memory of samples.
    pub fn with_limits(limits: Limits, clock: Clock, connect: Arc<dyn Connect>, scrape: Arc<dyn Scrape>) -> Self {
        Self::with_random(None, Random::new(), limits, clock, connect, scrape)
    }

    /// Creates a hub whose random timing depends on this seed alone, so that a test can be repeated.
    pub fn with_seed(seed: u64, clock: Clock, connect: Arc<dyn Connect>, scrape: Arc<dyn Scrape>) -> Self {
        Self::with_random(None, Random::seeded(seed), Limits::default(), clock, connect, scrape)
    }

    /// Creates a hub whose tasks, and everything that they spawn, run on these threads: no caller waits for an answer
    /// that is being decoded.
    pub fn on_threads(
        threads: Threads,
        limits: Limits,
        clock: Clock,
        connect: Arc<dyn Connect>,
        scrape: Arc<dyn Scrape>,
    ) -> Self {
        Self::with_random(Some(threads), Random::new(), limits, clock, connect, scrape)
    }

    fn with_random(
        threads: Option<Threads>,
        random: Random,
        limits: Limits,
        clock: Clock,
        connect: Arc<dyn Connect>,
        scrape: Arc<dyn Scrape>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                connect,
                scrape,
                random,
                state: Mutex::new(State::with_limits(limits)),
                updates: Updates::default(),
                counters: Counters::default(),
                scrape_permits: ScrapePermits::for_process(),
                tracker: TaskTracker::new(),
                stop: CancellationToken::new(),
                threads,
            }),
        }
    }

    /// Implements [`Signals::watch`].
    pub fn watch(&self, job: &JobKey, watch: WatchSpec) {
        if self.shared.stop.is_cancelled() {
            return;
        }
        let started = self.shared.state().watch(job, watch, &self.shared);
        for cluster in started.clusters {
            self.shared.spawn(rounds::run(Arc::clone(&self.shared), cluster));
        }
        for worker in started.workers {
            self.shared.spawn(scrapes::run(Arc::clone(&self.shared), worker));
        }
    }

    /// Implements [`Signals::forget`].
    pub fn forget(&self, job: &JobKey) {
        self.shared.state().forget(job);
        self.shared.updates.withdraw(job);
    }

    /// Implements [`Signals::jobs`].
    pub fn jobs(&self) -> Vec<JobKey> {
        self.shared.state().jobs()
    }

    /// Implements [`Signals::read`].
    pub fn read(&self, job: &JobKey) -> Option<JobSamples> {
        self.shared.state().read(job)
    }

    /// Returns a stream of the jobs for which an attempt to sample has ended, successfully or not. A slow reader
    /// receives each job once, so the memory is limited by the number of jobs. The stream ends when the hub shuts down.
    pub fn updates(&self) -> impl Stream<Item = JobKey> + Send + use<> {
        self.shared.updates.subscribe()
    }

    /// Returns totals since the start, and the current numbers of jobs, clusters and workers.
    pub fn stats(&self) -> HubStats {
        let state = self.shared.state();
        let (jobs, clusters, workers) = state.counts();
        HubStats { kept_bytes: state.kept_bytes(), ..self.shared.counters.read(jobs, clusters, workers) }
    }

    /// Stops every task and waits for it. The samples remain readable, and no new ones are taken.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.updates.end();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
    }
}

impl Signals for Hub {
    fn watch(&self, job: &JobKey, watch: WatchSpec) {
        self.watch(job, watch);
    }

    fn forget(&self, job: &JobKey) {
        self.forget(job);
    }

    fn jobs(&self) -> Vec<JobKey> {
        self.jobs()
    }

    fn read(&self, job: &JobKey) -> Option<JobSamples> {
        self.read(job)
    }
}
