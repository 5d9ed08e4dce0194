//! Simulated sources and metrics pages of workers: each job has a steady load for two workers, and clusters with certain
//! names never answer or exceed a limit. [`Timed`] measures how long answers wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_signals::scrape::ScrapeError;
use sluice_signals::source::{Cluster, ClusterAddress, Connect, GroupTopic, SampleResults, SourceError};
use sluice_signals::{
    GroupSample, Hub, JobKey, JobSamples, Owner, PartitionSample, Scrape, Signals, SourceSample, WatchSpec,
    WorkerEndpoint, WorkerSample,
};
use tokio::time::Instant;

/// When the first answer came that has not been read, by topic: a job's name.
type Answered = Arc<Mutex<HashMap<String, Instant>>>;

/// Called for each reading with the job's name, the time for which a new answer has waited, and the age of the sample.
type Read = dyn Fn(&str, Option<Duration>, Option<Seconds>) + Send + Sync;

/// A hub whose reads are reported: a decision follows each read within the same reconcile, without waiting.
pub struct Timed {
    pub hub: Hub,
    clock: Clock,
    answered: Answered,
    read: Box<Read>,
}

impl Timed {
    /// Creates a hub with simulated sources and pages.
    pub fn new(clock: &Clock, read: impl Fn(&str, Option<Duration>, Option<Seconds>) + Send + Sync + 'static) -> Self {
        let pages = Arc::new(Pages::new(clock));
        let sources = Sources { clock: clock.clone(), pages: Arc::clone(&pages) };
        Self::on(clock, Arc::new(sources), read, |connect| Hub::with_seed(1, clock.clone(), connect, pages))
    }

    /// Creates the hub with these sources, and records when they answer.
    pub fn on(
        clock: &Clock,
        connect: Arc<dyn Connect>,
        read: impl Fn(&str, Option<Duration>, Option<Seconds>) + Send + Sync + 'static,
        hub: impl FnOnce(Arc<dyn Connect>) -> Hub,
    ) -> Self {
        let answered = Answered::default();
        let recording = RecordingConnect { connect, clock: clock.clone(), answered: Arc::clone(&answered) };
        Self { hub: hub(Arc::new(recording)), clock: clock.clone(), answered, read: Box::new(read) }
    }
}

impl Signals for Timed {
    fn watch(&self, job: &JobKey, watch: WatchSpec) {
        self.hub.watch(job, watch);
    }

    fn forget(&self, job: &JobKey) {
        self.hub.forget(job);
    }

    fn jobs(&self) -> Vec<JobKey> {
        self.hub.jobs()
    }

    fn read(&self, job: &JobKey) -> Option<JobSamples> {
        let answered = self.answered.lock().unwrap().remove(&job.name);
        let samples = self.hub.read(job);
        let sample = samples.as_ref().and_then(|samples| samples.sources.first()?.sample.as_ref());
        let age = sample.map(|sample| self.clock.now() - sample.at);
        (self.read)(&job.name, answered.map(|answered| answered.elapsed()), age);
        samples
    }
}

/// Creates clients that record when their cluster answers.
struct RecordingConnect {
    connect: Arc<dyn Connect>,
    clock: Clock,
    answered: Answered,
}

impl RecordingConnect {
    fn recording(&self, cluster: Arc<dyn Cluster>) -> Arc<dyn Cluster> {
        Arc::new(RecordingCluster { cluster, clock: self.clock.clone(), answered: Arc::clone(&self.answered) })
    }
}

impl Connect for RecordingConnect {
    fn address(&self, namespace: &str, bootstrap_servers: &[String]) -> ClusterAddress {
        self.connect.address(namespace, bootstrap_servers)
    }

    fn connect_to(&self, address: &ClusterAddress) -> Arc<dyn Cluster> {
        self.recording(self.connect.connect_to(address))
    }

    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        self.recording(self.connect.connect(bootstrap_servers))
    }
}

/// A cluster that records when it answers.
struct RecordingCluster {
    cluster: Arc<dyn Cluster>,
    clock: Clock,
    answered: Answered,
}

impl Cluster for RecordingCluster {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], deadline: Duration) -> BoxFuture<'a, SampleResults> {
        async move {
            let answers = self.cluster.sample(requests, deadline).await;
            let (mut answered, at) = (self.answered.lock().unwrap(), self.clock.monotonic());
            for (request, answer) in requests.iter().zip(&answers) {
                if answer.is_ok() {
                    answered.entry(request.topic.clone()).or_insert(at);
                }
            }
            drop(answered);
            answers
        }
        .boxed()
    }
}

/// Prefix of the names of servers that never answer.
pub const HOLE: &str = "hole-";
/// Prefix of the names of servers that exceed a limit.
pub const FLOOD: &str = "flood-";
const PARTITIONS: usize = 8;
/// Arrival rate of a job, records per second.
const RATE: u32 = 150;
/// Capacity of one worker, records per second.
const CAPACITY: f64 = 100.0;
/// Part of the load that is not committed yet, seconds.
pub const UNCOMMITTED: f64 = 0.3;

/// Reaches the clusters.
struct Sources {
    clock: Clock,
    pages: Arc<Pages>,
}

impl Connect for Sources {
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        if bootstrap_servers.iter().any(|server| server.starts_with(HOLE)) {
            return Arc::new(Hole);
        }
        if bootstrap_servers.iter().any(|server| server.starts_with(FLOOD)) {
            return Arc::new(Flood);
        }
        Arc::new(Steady { clock: self.clock.clone(), pages: Arc::clone(&self.pages) })
    }
}

struct Hole;

impl Cluster for Hole {
    fn sample<'a>(&'a self, _: &'a [GroupTopic], _: Duration) -> BoxFuture<'a, SampleResults> {
        std::future::pending().boxed()
    }
}

struct Flood;

impl Cluster for Flood {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], _: Duration) -> BoxFuture<'a, SampleResults> {
        let too_much = || SourceError::LimitExceeded { cluster: FLOOD.to_owned(), detail: "too much".to_owned() };
        std::future::ready(requests.iter().map(|_| Err(too_much())).collect()).boxed()
    }
}

struct Steady {
    clock: Clock,
    pages: Arc<Pages>,
}

impl Cluster for Steady {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], _: Duration) -> BoxFuture<'a, SampleResults> {
        let now = self.clock.now();
        std::future::ready(requests.iter().map(|request| Ok(self.answer(request, now))).collect()).boxed()
    }
}

/// Returns the end offset of each partition of a job's topic at this time, if the topic has this many partitions.
pub fn end(at: Seconds, partitions: usize) -> i64 {
    let records = Duration::from_secs_f64(at.0).as_millis() * u128::from(RATE) / 1000;
    i64::try_from(records).unwrap() / i64::try_from(partitions).unwrap()
}

/// Returns the member of a worker, whose client id is its pod's name. `workers`: all workers of the group.
fn member(workers: &[String], name: &str) -> Owner {
    let turn = workers.iter().position(|worker| worker == name).unwrap_or(0);
    Owner {
        member_id: format!("{name}-1"),
        client_id: name.to_owned(),
        partitions: Some((turn..PARTITIONS).step_by(workers.len()).count()),
        ..Owner::default()
    }
}

impl Steady {
    fn answer(&self, request: &GroupTopic, now: Seconds) -> SourceSample {
        let at = |seconds_ago: f64| Some(end(now - Seconds(seconds_ago), PARTITIONS));
        let workers = self.pages.workers_of(&request.topic);
        let partition = |number: usize| PartitionSample {
            id: format!("{}/{number}", request.topic),
            start: Some(0),
            end: at(0.0),
            committed: at(UNCOMMITTED),
            due_end: at(request.latency.as_secs_f64()),
            owner: (!workers.is_empty()).then(|| member(&workers, &workers[number % workers.len()])),
            ..PartitionSample::default()
        };
        let group = GroupSample {
            state: "Stable".to_owned(),
            assignor: Some("cooperative-sticky".to_owned()),
            members: workers.iter().map(|name| member(&workers, name)).collect(),
        };
        SourceSample {
            at: now,
            partitions: (0..PARTITIONS).map(partition).collect(),
            group: Some(group),
            producer_time: Some(false),
        }
    }
}

/// The metrics pages of the workers, by job.
pub struct Pages {
    clock: Clock,
    jobs: Mutex<HashMap<String, BTreeMap<String, WorkerSample>>>,
}

/// A worker that was not scraped for this many seconds is gone.
const GONE: f64 = 15.0;

impl Pages {
    pub fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), jobs: Mutex::default() }
    }

    /// Returns the names of a job's workers.
    pub fn workers_of(&self, job: &str) -> Vec<String> {
        self.jobs.lock().unwrap().get(job).map(|workers| workers.keys().cloned().collect()).unwrap_or_default()
    }

    /// Returns the current page of a worker, by the name of its pod.
    pub fn sample(&self, worker: &str) -> WorkerSample {
        let now = self.clock.now();
        // Names of pods have the form JOB-HASH-SUFFIX.
        let job = worker.rsplitn(3, '-').last().unwrap_or_default();
        let mut jobs = self.jobs.lock().unwrap();
        let workers = jobs.entry(job.to_owned()).or_default();
        workers.retain(|_, page| (now - page.at).0 < GONE);
        let begin = WorkerSample {
            at: now,
            started_at: Some(now),
            processed: Some(0.0),
            busy_seconds: Some(0.0),
            ..WorkerSample::default()
        };
        workers.entry(worker.to_owned()).or_insert(begin);
        let rate = (f64::from(RATE) / f64::from(u32::try_from(workers.len()).unwrap())).min(CAPACITY);
        let sample = workers.get_mut(worker).unwrap();
        let records = rate * (now - sample.at).0;
        sample.at = now;
        sample.processed = sample.processed.map(|all| all + records);
        sample.busy_seconds = sample.busy_seconds.map(|all| all + records / CAPACITY);
        sample.clone()
    }
}

impl Scrape for Pages {
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        _: &'a [String],
        _: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        std::future::ready(Ok(self.sample(&worker.id))).boxed()
    }
}
