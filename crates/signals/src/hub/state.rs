//! The watched jobs and their samples, behind the hub's only lock. No I/O, no await.

mod quota;
mod schedule;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::scrapes::ScrapePermits;
use super::{Shared, pace};
use crate::limits::{EstimateMemory, Limits};
use crate::sample::{
    Category, Failure, JobKey, JobSamples, SourceReading, WatchSpec, WorkerEndpoint, WorkerReading, WorkerSample,
};
use crate::source::{ClusterAddress, GroupTopic};
use sluice_base::text::truncate;
use sluice_base::units::Seconds;

/// Maximum length of `Failure::message`, in characters: it becomes part of a condition.
const MAX_MESSAGE_LENGTH: usize = 300;

/// Maximum number of sources in one round. The others come first in the next round.
const MAX_ENTRIES_PER_ROUND: usize = 4_096;

/// Pause before the next round for sources that a round did not reach.
const PAUSE_AFTER_UNREACHED: Duration = Duration::from_millis(100);

/// The key of a cluster: jobs with the same address share a client.
pub(super) type ClusterKey = Arc<ClusterAddress>;

#[derive(Default)]
pub(super) struct State {
    limits: Limits,
    jobs: HashMap<JobKey, Job>,
    clusters: HashMap<ClusterKey, Cluster>,
    namespaces: HashMap<String, Namespace>,
    /// Memory of the samples of all jobs.
    kept: MemoryUse,
    /// Id of the source that was scheduled last.
    next: EntryId,
}

struct Job {
    watch: WatchSpec,
    sources: Vec<SourceReading>,
    /// In the order of the watch. The guard stops the worker's task when the worker is not watched any more.
    workers: Vec<(WorkerReading, DropGuard)>,
    /// Where each source is scheduled, in the order of the watch; `None` if a limit forbids it.
    scheduled: Vec<Option<(ClusterKey, EntryId)>>,
    /// Limits on concurrent scrapes of the job's workers.
    scrape_permits: Arc<ScrapePermits>,
    /// Memory of the job's samples, in bytes.
    kept_bytes: usize,
}

/// What the jobs of a namespace use together.
#[derive(Default)]
struct Namespace {
    /// Number of sources at each cluster.
    clusters: HashMap<ClusterKey, usize>,
    /// Memory of their samples.
    kept: MemoryUse,
}

/// Memory of the samples of several jobs, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct MemoryUse {
    bytes: usize,
    /// The part beyond the memory that each job may use regardless of the others.
    beyond_free: usize,
}

/// The sources that are read from one cluster. Dropping it stops the cluster's task.
struct Cluster {
    entries: HashMap<EntryId, ScheduleEntry>,
    /// The same sources, ordered by when they are due.
    due: BTreeSet<(Instant, EntryId)>,
    /// Maximum number of sources in one round; reduced while their answers together are too large.
    max_per_round: usize,
    /// The next round does not begin before this time.
    not_before: Option<Instant>,
    /// Notified when the sources have changed.
    wake: Arc<Notify>,
    _stop: DropGuard,
}

impl Cluster {
    fn new(wake: Arc<Notify>, stop: DropGuard) -> Self {
        Self {
            entries: HashMap::new(),
            due: BTreeSet::new(),
            max_per_round: MAX_ENTRIES_PER_ROUND,
            not_before: None,
            wake,
            _stop: stop,
        }
    }

    fn insert(&mut self, id: EntryId, entry: ScheduleEntry) {
        self.due.insert((entry.due, id));
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: EntryId) -> Option<ScheduleEntry> {
        let entry = self.entries.remove(&id)?;
        self.due.remove(&(entry.due, id));
        Some(entry)
    }
}

/// Id of a scheduled source. A changed question gets a new id.
pub(super) type EntryId = u64;

/// One source of one job, and when it is due.
#[derive(Debug, Clone)]
pub(super) struct ScheduleEntry {
    pub(super) job: JobKey,
    /// Index of the source in the watch.
    source: usize,
    pub(super) request: GroupTopic,
    interval: Duration,
    due: Instant,
    failures: u32,
}

impl ScheduleEntry {
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }
}

/// What the cluster's task does next.
pub(super) enum NextStep {
    /// Wait until this time, or until notified.
    Wait(Instant),
    /// Read these sources now; the one that has waited longest comes first.
    Round(Vec<(EntryId, ScheduleEntry)>),
    /// Stop: no job reads from the cluster any more.
    Stop,
}

/// A task to start for a new cluster.
pub(super) struct NewCluster {
    pub(super) key: ClusterKey,
    pub(super) wake: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

/// A task to start for a new worker.
pub(super) struct NewWorker {
    pub(super) job: JobKey,
    pub(super) endpoint: WorkerEndpoint,
    /// Topics of the job: positions in other topics are not needed.
    pub(super) topics: Arc<[String]>,
    /// Limits on concurrent scrapes of the job's workers.
    pub(super) scrape_permits: Arc<ScrapePermits>,
    pub(super) stop: CancellationToken,
}

/// Tasks to start.
#[derive(Default)]
pub(super) struct NewTasks {
    pub(super) clusters: Vec<NewCluster>,
    pub(super) workers: Vec<NewWorker>,
}

/// The outcome of an attempt: the newest sample, or why there is none.
pub(super) type Outcome<T> = Result<Arc<T>, (Category, String)>;

impl State {
    pub(super) fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Implements `Signals::watch`.
    pub(super) fn watch(&mut self, job: &JobKey, watch: WatchSpec, shared: &Shared) -> NewTasks {
        let mut started = NewTasks::default();
        let old = match self.jobs.remove(job) {
            // A source that was not scheduled because of a limit may fit now.
            Some(same) if same.watch == watch && same.scheduled.iter().all(Option::is_some) => {
                self.jobs.insert(job.clone(), same);
                return started;
            }
            old => old,
        };
        let (old_watch, mut old_sources, mut old_workers, old_scheduled, scrape_permits, old_kept) = match old {
            Some(Job { watch, sources, workers, scheduled, scrape_permits, kept_bytes }) => {
                let workers: HashMap<_, _> = watch.workers.iter().cloned().zip(workers).collect();
                (Some(watch), sources, workers, scheduled, scrape_permits, kept_bytes)
            }
            None => (None, Vec::new(), HashMap::new(), Vec::new(), Arc::new(ScrapePermits::for_job()), 0),
        };
        let same_latency = old_watch.as_ref().is_some_and(|old| old.latency == watch.latency);
        let topics = topics(&watch);
        let same_topics = old_watch.as_ref().is_some_and(|old| self::topics(old) == topics);
        let mut sources: Vec<SourceReading> = watch
            .sources
            .iter()
            .map(|spec| {
                let kept = old_watch
                    .as_ref()
                    .and_then(|old| old.sources.iter().position(|each| each == spec))
                    .and_then(|index| old_sources.get_mut(index));
                let mut reading = SourceReading { name: spec.name.clone(), sample: None, failure: None };
                if let Some(kept) = kept {
                    reading.sample = kept.sample.take();
                    reading.failure = kept.failure.take();
                }
                if let (false, Some(sample)) = (same_latency, &mut reading.sample) {
                    // The due ends belong to the previous latency.
                    Arc::make_mut(sample).partitions.iter_mut().for_each(|partition| partition.due_end = None);
                }
                reading
            })
            .collect();
        let workers: Vec<(WorkerReading, DropGuard)> = watch
            .workers
            .iter()
            .map(|endpoint| {
                let kept = match old_workers.remove(endpoint) {
                    Some(same) if same_topics => return same,
                    Some((reading, _)) => Some(reading),
                    None => None,
                };
                // With other topics the worker's task starts again, because it looks for other positions.
                let stop = shared.stop.child_token();
                let guard = stop.clone().drop_guard();
                started.workers.push(NewWorker {
                    job: job.clone(),
                    endpoint: endpoint.clone(),
                    topics: Arc::clone(&topics),
                    scrape_permits: Arc::clone(&scrape_permits),
                    stop,
                });
                let (id, uid) = (endpoint.id.clone(), endpoint.uid.clone());
                (kept.unwrap_or(WorkerReading { id, uid, sample: None, failure: None }), guard)
            })
            .collect();
        let scheduled = self.schedule(job, &watch, old_scheduled, shared, &mut started);
        for (reading, scheduled) in sources.iter_mut().zip(&scheduled) {
            if let Err(detail) = scheduled {
                let failed = Err((Category::LimitExceeded, detail.clone()));
                record_outcome(&mut reading.sample, &mut reading.failure, failed, shared.clock.now());
            }
        }
        let of_sources = sources.iter().filter_map(|reading| reading.sample.as_ref()).map(EstimateMemory::kept_bytes);
        let of_workers =
            workers.iter().filter_map(|(reading, _)| reading.sample.as_ref()).map(EstimateMemory::kept_bytes);
        let kept_bytes = of_sources.chain(of_workers).sum();
        self.record_memory(&job.namespace, old_kept, kept_bytes);
        let scheduled = scheduled.into_iter().map(Result::ok).collect();
        self.jobs.insert(job.clone(), Job { watch, sources, workers, scheduled, scrape_permits, kept_bytes });
        started
    }

    /// Implements `Signals::forget`.
    pub(super) fn forget(&mut self, job: &JobKey) {
        if let Some(gone) = self.jobs.remove(job) {
            let left: Vec<ClusterKey> = gone.scheduled.iter().flatten().map(|(key, _)| Arc::clone(key)).collect();
            self.remove_entries(job, gone.scheduled);
            self.stop_unused_clusters(&left);
            self.record_memory(&job.namespace, gone.kept_bytes, 0);
        }
    }

    /// Returns every watched job.
    pub(super) fn jobs(&self) -> Vec<JobKey> {
        self.jobs.keys().cloned().collect()
    }

    /// Returns whether no state of any job is left.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.clusters.is_empty() && self.namespaces.is_empty() && self.kept.bytes == 0
    }

    /// Returns the memory of the samples of all jobs, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.bytes
    }

    pub(super) fn read(&self, job: &JobKey) -> Option<JobSamples> {
        let job = self.jobs.get(job)?;
        Some(JobSamples {
            sources: job.sources.clone(),
            workers: job.workers.iter().map(|(reading, _)| reading.clone()).collect(),
        })
    }

    /// Returns the numbers of jobs, clusters and workers.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.jobs.len(), self.clusters.len(), self.jobs.values().map(|job| job.workers.len()).sum())
    }

    /// Returns how often a job is sampled; `None` if it is not watched.
    pub(super) fn interval(&self, job: &JobKey) -> Option<Duration> {
        self.jobs.get(job).map(|job| pace::interval(job.watch.latency))
    }

    /// Records the outcome of a scrape; returns `false` if the worker is not watched any more.
    pub(super) fn record_scrape(&mut self, worker: &NewWorker, outcome: Outcome<WorkerSample>, at: Seconds) -> bool {
        let Some(job) = self.jobs.get(&worker.job).filter(|_| !worker.stop.is_cancelled()) else { return false };
        let Some(index) = job.watch.workers.iter().position(|each| *each == worker.endpoint) else { return false };
        let before = job.workers.get(index).and_then(|(reading, _)| reading.sample.as_ref());
        let before = before.map_or(0, EstimateMemory::kept_bytes);
        let outcome =
            outcome.and_then(|sample| self.reserve_memory(&worker.job, before, sample.kept_bytes()).map(|()| sample));
        let reading = self.jobs.get_mut(&worker.job).and_then(|job| job.workers.get_mut(index));
        let Some((reading, _)) = reading else { return false };
        record_outcome(&mut reading.sample, &mut reading.failure, outcome, at);
        true
    }
}

/// When an attempt began and ended.
pub(super) struct AttemptTimes {
    /// Beginning of the attempt.
    pub(super) began: Instant,
    /// End of the attempt.
    pub(super) ended: Instant,
    /// End of the attempt, in Unix time.
    pub(super) at: Seconds,
    /// Factor on the wait. One for the whole round, so that jobs that share a round keep sharing it.
    pub(super) jitter: f64,
}

impl AttemptTimes {
    /// Returns when the next attempt is due. The wait counts from the beginning of the attempt, so that a slow answer
    /// does not stretch the interval; but there is a pause after its end, so that an endpoint that is slower than its
    /// interval is not read without a break.
    pub(super) fn next_due(&self, wait: Duration, interval: Duration) -> Instant {
        let wait = wait.mul_f64(self.jitter).min(wait.max(pace::LONGEST_BACK_OFF));
        (self.began + wait).max(self.ended + interval / 4)
    }
}

fn record_outcome<T>(sample: &mut Option<Arc<T>>, failure: &mut Option<Failure>, outcome: Outcome<T>, at: Seconds) {
    match outcome {
        Ok(newest) => {
            *sample = Some(newest);
            *failure = None;
        }
        Err((category, message)) => {
            let since = failure.as_ref().map_or(at, |earlier| earlier.since);
            *failure = Some(Failure { at, since, category, message: one_line(&message) });
        }
    }
}

/// Returns the message on one line and with a limited length. It may contain text from a broker or a worker, and is
/// read on terminals and in logs.
fn one_line(message: &str) -> String {
    let message: String = message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    truncate(&message, MAX_MESSAGE_LENGTH)
}

/// Returns the topics of a job, sorted.
fn topics(watch: &WatchSpec) -> Arc<[String]> {
    let topics: BTreeSet<&String> = watch.sources.iter().map(|source| &source.kafka.topic).collect();
    topics.into_iter().cloned().collect()
}
