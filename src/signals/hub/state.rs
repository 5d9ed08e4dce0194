//! What is watched and what was read, behind the hub's one lock. No I/O, no await.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Shared, pace};
use crate::policy::units::Seconds;
use crate::signals::sample::{
    Category, Failure, JobKey, JobSamples, SourceReading, SourceSample, SourceSpec, Watch, WorkerEndpoint,
    WorkerReading, WorkerSample,
};
use crate::signals::source::GroupTopic;

/// Longest `Failure::message`, in characters: it goes into a condition.
const LONGEST_MESSAGE: usize = 300;

/// A cluster, by its bootstrap servers, sorted: two jobs that list them in another order share a client.
pub(super) type ClusterKey = Arc<[String]>;

#[derive(Default)]
pub(super) struct State {
    jobs: HashMap<JobKey, Job>,
    clusters: HashMap<ClusterKey, Cluster>,
}

struct Job {
    watch: Watch,
    sources: Vec<SourceReading>,
    /// In the order of the watch; the guard stops the task of a worker that is watched no more.
    workers: Vec<(WorkerReading, DropGuard)>,
}

/// What one cluster is asked. Dropping it stops its task.
struct Cluster {
    slots: Vec<Slot>,
    /// The slots have changed.
    wake: Arc<Notify>,
    _stop: DropGuard,
}

/// One source of one job, and when it is due.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) job: JobKey,
    /// Its place in the watch.
    source: usize,
    pub(super) request: GroupTopic,
    interval: Duration,
    due: Instant,
    failures: u32,
}

impl Slot {
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    fn is(&self, other: &Self) -> bool {
        self.source == other.source && self.job == other.job && self.request == other.request
    }
}

/// What the cluster's task is to do next.
pub(super) enum Plan {
    /// Nothing before this time, unless woken.
    Wait(Instant),
    /// Ask for these now.
    Round(Vec<Slot>),
    /// Nobody reads from the cluster any more.
    Stop,
}

/// A task to start for a cluster that is new.
pub(super) struct NewCluster {
    pub(super) key: ClusterKey,
    pub(super) wake: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

/// A task to start for a worker that is new.
pub(super) struct NewWorker {
    pub(super) job: JobKey,
    pub(super) endpoint: WorkerEndpoint,
    pub(super) stop: CancellationToken,
}

/// Tasks to start.
#[derive(Default)]
pub(super) struct Started {
    pub(super) clusters: Vec<NewCluster>,
    pub(super) workers: Vec<NewWorker>,
}

/// An attempt that ended: the newest sample, or why there is none.
pub(super) type Outcome<T> = Result<T, (Category, String)>;

impl State {
    pub(super) fn watch(&mut self, job: &JobKey, watch: Watch, shared: &Shared) -> Started {
        let mut started = Started::default();
        let old = match self.jobs.remove(job) {
            Some(same) if same.watch == watch => {
                self.jobs.insert(job.clone(), same);
                return started;
            }
            old => old,
        };
        let (old_watch, mut old_sources, mut old_workers) = match old {
            Some(Job { watch, sources, workers }) => {
                let workers: HashMap<_, _> = watch.workers.iter().cloned().zip(workers).collect();
                (Some(watch), sources, workers)
            }
            None => (None, Vec::new(), HashMap::new()),
        };
        let same_latency = old_watch.as_ref().is_some_and(|old| old.latency == watch.latency);
        let sources = watch
            .sources
            .iter()
            .map(|spec| {
                let kept = old_watch
                    .as_ref()
                    .and_then(|old| old.sources.iter().position(|each| each == spec))
                    .and_then(|place| old_sources.get_mut(place));
                let mut reading = SourceReading { name: spec.name.clone(), sample: None, failure: None };
                if let Some(kept) = kept {
                    reading.sample = kept.sample.take();
                    reading.failure = kept.failure.take();
                }
                if let (false, Some(sample)) = (same_latency, &mut reading.sample) {
                    // It answers for another latency.
                    Arc::make_mut(sample).partitions.iter_mut().for_each(|partition| partition.due_end = None);
                }
                reading
            })
            .collect();
        let workers = watch
            .workers
            .iter()
            .map(|endpoint| {
                old_workers.remove(endpoint).unwrap_or_else(|| {
                    let stop = shared.stop.child_token();
                    let guard = stop.clone().drop_guard();
                    started.workers.push(NewWorker { job: job.clone(), endpoint: endpoint.clone(), stop });
                    let (id, uid) = (endpoint.id.clone(), endpoint.uid.clone());
                    (WorkerReading { id, uid, sample: None, failure: None }, guard)
                })
            })
            .collect();
        self.place(job, &watch, shared, &mut started);
        self.jobs.insert(job.clone(), Job { watch, sources, workers });
        started
    }

    pub(super) fn forget(&mut self, job: &JobKey) {
        if self.jobs.remove(job).is_some() {
            self.take_slots(job);
            self.clusters.retain(|_, cluster| !cluster.slots.is_empty());
        }
    }

    pub(super) fn read(&self, job: &JobKey) -> Option<JobSamples> {
        let job = self.jobs.get(job)?;
        Some(JobSamples {
            sources: job.sources.clone(),
            workers: job.workers.iter().map(|(reading, _)| reading.clone()).collect(),
        })
    }

    /// Jobs, clusters and workers.
    pub(super) fn count(&self) -> (usize, usize, usize) {
        (self.jobs.len(), self.clusters.len(), self.jobs.values().map(|job| job.workers.len()).sum())
    }

    /// How often a job is sampled; `None` if it is not watched.
    pub(super) fn interval(&self, job: &JobKey) -> Option<Duration> {
        self.jobs.get(job).map(|job| pace::interval(job.watch.latency))
    }

    /// Gives each source of the watch a slot at its cluster; those that had one keep their turn.
    fn place(&mut self, job: &JobKey, watch: &Watch, shared: &Shared, started: &mut Started) {
        let mut old = self.take_slots(job);
        let interval = pace::interval(watch.latency);
        let now = shared.clock.monotonic();
        for (source, spec) in watch.sources.iter().enumerate() {
            let key = cluster_key(spec);
            let cluster = self.clusters.entry(Arc::clone(&key)).or_insert_with(|| {
                let stop = shared.stop.child_token();
                let wake = Arc::new(Notify::new());
                started.clusters.push(NewCluster {
                    key: Arc::clone(&key),
                    wake: Arc::clone(&wake),
                    stop: stop.clone(),
                });
                Cluster { slots: Vec::new(), wake, _stop: stop.drop_guard() }
            });
            let request = GroupTopic {
                topic: spec.kafka.topic.clone(),
                group: spec.kafka.consumer_group.clone(),
                latency: watch.latency,
            };
            let kept = old.iter().position(|(at, slot)| *at == key && slot.request == request);
            let slot = if let Some(place) = kept {
                Slot { source, ..old.swap_remove(place).1 }
            } else {
                let due = now + shared.dice.phase(interval);
                Slot { job: job.clone(), source, request, interval, due, failures: 0 }
            };
            cluster.slots.push(slot);
            cluster.wake.notify_one();
        }
        self.clusters.retain(|_, cluster| !cluster.slots.is_empty());
    }

    fn take_slots(&mut self, job: &JobKey) -> Vec<(ClusterKey, Slot)> {
        let mut taken = Vec::new();
        for (key, cluster) in &mut self.clusters {
            taken.extend(cluster.slots.extract_if(.., |slot| slot.job == *job).map(|slot| (Arc::clone(key), slot)));
        }
        taken
    }

    /// What is due at a cluster. Once somebody is due, everyone goes along who would be within half an interval, so that
    /// jobs of one cluster fall into step and share their rounds.
    pub(super) fn plan(&self, key: &ClusterKey, stop: &CancellationToken, now: Instant) -> Plan {
        let Some(cluster) = self.clusters.get(key).filter(|_| !stop.is_cancelled()) else { return Plan::Stop };
        let Some(next) = cluster.slots.iter().map(|slot| slot.due).min() else { return Plan::Stop };
        if next > now {
            return Plan::Wait(next);
        }
        // Half of the shortest interval that is due, lest a fast job drags a slow one along every time.
        let due = cluster.slots.iter().filter(|slot| slot.due <= now);
        let near = due.map(|slot| slot.interval).min().unwrap_or_default() / 2;
        Plan::Round(
            cluster.slots.iter().filter(|slot| slot.due <= now + near.min(slot.interval / 2)).cloned().collect(),
        )
    }

    /// Notes how a round went for one slot; `false` if it is watched no more.
    pub(super) fn sampled(
        &mut self,
        key: &ClusterKey,
        done: &Slot,
        outcome: Outcome<SourceSample>,
        when: &When,
    ) -> bool {
        let slot = self.clusters.get_mut(key).and_then(|cluster| cluster.slots.iter_mut().find(|slot| slot.is(done)));
        let Some(slot) = slot else { return false };
        let wait = match &outcome {
            Ok(_) => {
                slot.failures = 0;
                slot.interval
            }
            Err((category, _)) => {
                slot.failures = slot.failures.saturating_add(1);
                pace::back_off(slot.interval, slot.failures, *category)
            }
        };
        slot.due = when.next(wait, slot.interval);
        let reading = self.jobs.get_mut(&done.job).and_then(|job| job.sources.get_mut(done.source));
        if let Some(reading) = reading {
            update(&mut reading.sample, &mut reading.failure, outcome, when.at);
        }
        true
    }

    /// Notes how a scrape went; `false` if the worker is watched no more.
    pub(super) fn scraped(&mut self, worker: &NewWorker, outcome: Outcome<WorkerSample>, at: Seconds) -> bool {
        let Some(job) = self.jobs.get_mut(&worker.job).filter(|_| !worker.stop.is_cancelled()) else { return false };
        let place = job.watch.workers.iter().position(|each| *each == worker.endpoint);
        let Some((reading, _)) = place.and_then(|place| job.workers.get_mut(place)) else { return false };
        update(&mut reading.sample, &mut reading.failure, outcome, at);
        true
    }
}

/// When an attempt began and ended.
pub(super) struct When {
    /// When it began.
    pub(super) began: Instant,
    /// When it ended.
    pub(super) ended: Instant,
    /// When it ended, in Unix time.
    pub(super) at: Seconds,
    /// One factor for the whole round, so that jobs that are in step stay in step.
    pub(super) jitter: f64,
}

impl When {
    /// Counted from the beginning, so that a slow answer does not stretch the interval; but with a pause, so that an
    /// endpoint which is slower than its interval is not asked without end.
    pub(super) fn next(&self, wait: Duration, interval: Duration) -> Instant {
        (self.began + wait.mul_f64(self.jitter).min(pace::LONGEST_BACK_OFF)).max(self.ended + interval / 4)
    }
}

fn update<T>(sample: &mut Option<Arc<T>>, failure: &mut Option<Failure>, outcome: Outcome<T>, at: Seconds) {
    match outcome {
        Ok(newest) => {
            *sample = Some(Arc::new(newest));
            *failure = None;
        }
        Err((category, message)) => {
            let since = failure.as_ref().map_or(at, |earlier| earlier.since);
            *failure = Some(Failure { at, since, category, message: bounded(&message) });
        }
    }
}

/// A message in one line and of some length: what a broker or a worker says may be in it, and it is read on terminals and in logs.
fn bounded(message: &str) -> String {
    let message: String = message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match message.char_indices().nth(LONGEST_MESSAGE - 1) {
        Some((end, _)) if message.chars().count() > LONGEST_MESSAGE => format!("{}…", &message[..end]),
        _ => message,
    }
}

fn cluster_key(spec: &SourceSpec) -> ClusterKey {
    let mut servers = spec.kafka.bootstrap_servers.clone();
    servers.sort_unstable();
    servers.dedup();
    servers.into()
}
