//! Carries out what the scheduler decides: starts records, waits for them, and counts them.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::processing_file::Processing;
use super::scheduler::{Item, Next, Scheduler, Work};
use super::simulated_work::SimulatedWork;
use super::totals::{Snapshot, Totals};
use sluice_api::v1alpha1::Delivery;
use sluice_base::clock::Clock;

/// The state that the parts of the worker share.
#[derive(Debug)]
pub(super) struct Engine {
    scheduler: Mutex<Scheduler>,
    /// Notified when there may be a record to start.
    work: Notify,
    /// Notified when a record is done.
    done: Notify,
    pub(super) totals: Totals,
    pub(super) processing: watch::Receiver<Processing>,
    pub(super) clock: Clock,
    /// Whether this worker is a member of its group.
    pub(super) joined: AtomicBool,
    /// When the consuming loop last turned; `None` before its first turn.
    pub(super) last_turn: Mutex<Option<Instant>>,
}

impl Engine {
    pub(super) fn new(processing: watch::Receiver<Processing>, clock: Clock) -> Self {
        let totals = Totals::new(processing.borrow().objective);
        let engine = Self {
            scheduler: Mutex::new(Scheduler::new()),
            work: Notify::new(),
            done: Notify::new(),
            totals,
            processing,
            clock,
            joined: AtomicBool::new(false),
            last_turn: Mutex::new(None),
        };
        engine.apply_limits();
        engine
    }

    /// Locks the scheduler. Held briefly, and never across an await.
    pub(super) fn scheduler(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler.lock()
    }

    /// Queues records of several partitions.
    pub(super) fn push(&self, records: impl Iterator<Item = (i32, Item)>) {
        let now = self.clock.monotonic();
        let mut scheduler = self.scheduler();
        for (partition, item) in records {
            scheduler.push(partition, item, now);
        }
        drop(scheduler);
        self.work.notify_one();
    }

    /// Applies the limits of the current processing file.
    fn apply_limits(&self) {
        let processing = self.processing.borrow();
        let concurrency = usize::try_from(processing.concurrency).unwrap_or(usize::MAX);
        self.scheduler().set_limits(
            concurrency,
            processing.batch_interval.is_some(),
            processing.max_records_per_second,
        );
        drop(processing);
        self.work.notify_one();
    }

    /// Keeps the limits up to date and ends each micro-batch, until stopped.
    pub(super) async fn follow_limits(&self, stop: CancellationToken) {
        let mut processing = self.processing.clone();
        loop {
            let interval = processing.borrow_and_update().batch_interval;
            self.apply_limits();
            let batches = async {
                let Some(interval) = interval else { return std::future::pending().await };
                let mut ticks = tokio::time::interval(interval);
                loop {
                    ticks.tick().await;
                    self.scheduler().release_batch();
                    self.work.notify_one();
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = batches => {}
                changed = processing.changed() => if changed.is_err() {
                    // Without a file to follow, the current limits remain in force.
                    return stop.run_until_cancelled(std::future::pending()).await.unwrap_or(());
                },
            }
        }
    }

    /// Processes records until stopped.
    pub(super) async fn run(&self, simulated_work: SimulatedWork, stop: CancellationToken) {
        let mut in_work = FuturesUnordered::new();
        loop {
            let next = self.scheduler().next(self.clock.monotonic());
            let wake_at = match next {
                Next::Work(work) => {
                    in_work.push(perform(&simulated_work, work));
                    continue;
                }
                Next::At(at) => Some(at),
                Next::Wait => None,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((work, end)) = in_work.next(), if !in_work.is_empty() => self.finish(&work, end),
                () = self.work.notified() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn finish(&self, work: &Work, end: Instant) {
        // Under one lock, as in `snapshot`. Otherwise a record could count both as in work and as done, and the busy
        // time would decrease.
        let mut scheduler = self.scheduler();
        let took = scheduler.finish(work, end, self.clock.monotonic());
        self.totals.add_busy_time(took);
        drop(scheduler);
        self.totals.record_processed(work.item.appended, self.unix_milliseconds(), self.processing.borrow().objective);
        self.done.notify_waiters();
    }

    #[allow(clippy::cast_possible_truncation, reason = "Unix time in milliseconds fits an i64 for 292 million years")]
    fn unix_milliseconds(&self) -> i64 {
        (self.clock.now().0 * 1000.0) as i64
    }

    /// Returns whether offsets are committed before their records are processed.
    pub(super) fn commits_first(&self) -> bool {
        self.processing.borrow().delivery == Delivery::AtMostOnce
    }

    /// Stops starting records of these partitions and waits until none of them is in work, for at most `patience`.
    /// Returns whether that succeeded.
    pub(super) async fn finish_partitions(&self, partitions: &BTreeSet<i32>, patience: Duration) -> bool {
        self.scheduler().give_up(partitions, self.commits_first());
        self.work.notify_one();
        let settled = async {
            loop {
                let done = self.done.notified();
                tokio::pin!(done);
                done.as_mut().enable();
                if self.scheduler().settled(partitions) {
                    return;
                }
                done.await;
            }
        };
        tokio::time::timeout(patience, settled).await.is_ok()
    }

    /// Returns the current counters.
    pub(super) fn snapshot(&self) -> Snapshot {
        let scheduler = self.scheduler();
        self.totals.snapshot(scheduler.time_in_work(self.clock.monotonic()))
    }
}

async fn perform(simulated_work: &SimulatedWork, work: Work) -> (Work, Instant) {
    (work, simulated_work.perform(work.begin).await)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
