//! The hub: samples every source and worker of every job in the background, and hands out the newest of each at once.
//!
//! Architecture invariant: reconciling never waits for a source. [`Hub::read`] takes a lock that is never held across an
//! await, and copies.
//!
//! Architecture invariant: one slow endpoint never delays another. Each cluster has a task of its own (`rounds.rs`), and so
//! has each worker (`scrapes.rs`); each attempt has a deadline. What they take of a processor keeps nobody from deciding: in the
//! operator they run on threads of their own (`threads.rs`).

mod pace;
mod rounds;
mod scrapes;
mod state;
mod stats;
mod threads;
mod updates;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::pace::Dice;
pub use self::pace::interval;
use self::scrapes::Lanes;
use self::state::State;
use self::stats::Counters;
pub use self::stats::{ErrorCounts, HubStats};
pub use self::threads::Threads;
use self::updates::Updates;
use super::limits::Limits;
use super::sample::{JobKey, JobSamples, Watch};
use super::scrape::Scrape;
use super::source::Connect;
use sluice_base::clock::Clock;

/// What the operator needs of the hub, so that its tests can put a script here.
pub trait Signals: Send + Sync {
    /// Starts or changes what is sampled for a job. Cheap, and without effect if nothing changed: call it on every
    /// reconcile. Readings of what stays are kept.
    fn watch(&self, job: &JobKey, watch: Watch);

    /// Stops sampling for a job and drops its readings.
    fn forget(&self, job: &JobKey);

    /// Every job that is watched.
    fn jobs(&self) -> Vec<JobKey> {
        Vec::new()
    }

    /// The newest that is known; `None` if the job is not watched. Never waits.
    fn read(&self, job: &JobKey) -> Option<JobSamples>;
}

/// A handle to the hub; clones share it.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// What the tasks share.
struct Shared {
    clock: Clock,
    connect: Arc<dyn Connect>,
    scrape: Arc<dyn Scrape>,
    dice: Dice,
    state: Mutex<State>,
    updates: Updates,
    counters: Counters,
    scrapes: Lanes,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Where the tasks run; `None`: on the runtime from within which they are begun.
    threads: Option<Threads>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.threads {
            Some(threads) => self.tracker.spawn_on(task, threads.handle()),
            None => self.tracker.spawn(task),
        };
    }
}

impl Hub {
    /// A hub that samples nothing yet. Its tasks run on the current tokio runtime: call [`Hub::watch`] from within it.
    pub fn new(clock: Clock, connect: Arc<dyn Connect>, scrape: Arc<dyn Scrape>) -> Self {
        Self::within(Limits::default(), clock, connect, scrape)
    }

    /// As `new`, with these limits of clusters and of what is kept.
    pub fn within(limits: Limits, clock: Clock, connect: Arc<dyn Connect>, scrape: Arc<dyn Scrape>) -> Self {
        Self::with(None, limits, clock, connect, scrape)
    }

    /// As `within`, with its tasks, and all that these begin, on threads of its own: whoever calls waits for no answer that is
    /// being decoded.
    pub fn on(
        threads: Threads,
        limits: Limits,
        clock: Clock,
        connect: Arc<dyn Connect>,
        scrape: Arc<dyn Scrape>,
    ) -> Self {
        Self::with(Some(threads), limits, clock, connect, scrape)
    }

    fn with(
        threads: Option<Threads>,
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
                dice: Dice::new(),
                state: Mutex::new(State::within(limits)),
                updates: Updates::default(),
                counters: Counters::default(),
                scrapes: Lanes::of_the_process(),
                tracker: TaskTracker::new(),
                stop: CancellationToken::new(),
                threads,
            }),
        }
    }

    /// See [`Signals::watch`].
    pub fn watch(&self, job: &JobKey, watch: Watch) {
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

    /// See [`Signals::forget`].
    pub fn forget(&self, job: &JobKey) {
        self.shared.state().forget(job);
        self.shared.updates.retract(job);
    }

    /// See [`Signals::jobs`].
    pub fn jobs(&self) -> Vec<JobKey> {
        self.shared.state().jobs()
    }

    /// See [`Signals::read`].
    pub fn read(&self, job: &JobKey) -> Option<JobSamples> {
        self.shared.state().read(job)
    }

    /// The jobs for which an attempt to sample has ended, well or not. A reader that is slow finds each job once; memory
    /// is bounded by the number of jobs. Ends when the hub shuts down.
    pub fn updates(&self) -> impl Stream<Item = JobKey> + Send + use<> {
        self.shared.updates.listen()
    }

    /// Totals since the start, and what there is now.
    pub fn stats(&self) -> HubStats {
        let state = self.shared.state();
        let (jobs, clusters, workers) = state.count();
        HubStats { kept_bytes: state.kept_bytes(), ..self.shared.counters.read(jobs, clusters, workers) }
    }

    /// Stops every task and waits for them. What was read stays readable; nothing is sampled any more.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.updates.end();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
    }
}

impl Signals for Hub {
    fn watch(&self, job: &JobKey, watch: Watch) {
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
