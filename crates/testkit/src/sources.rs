//! Sources and workers' pages that are made up: each job has a steady load that two workers carry. Clusters with a certain
//! name never answer. And how long answers wait, be they made up or not.

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

/// The hub, and who is told of what is read for decisions, each of which follows within the same reconcile, without waiting for
/// anything.
pub struct Timed {
    pub hub: Hub,
    clock: Clock,
    answered: Answered,
    read: Box<Read>,
}

impl Timed {
    /// On a hub of its own, with sources and pages that are made up.
    pub fn new(clock: &Clock, read: impl Fn(&str, Option<Duration>, Option<Seconds>) + Send + Sync + 'static) -> Self {
        let pages = Arc::new(Pages::new(clock));
        let sources = Sources { clock: clock.clone(), pages: Arc::clone(&pages) };
        Self::on(clock, Arc::new(sources), read, |connect| Hub::with_seed(1, clock.clone(), connect, pages))
    }

    /// On the hub that is made of these sources, once it is noted of them when they answer.
    pub fn on(
        clock: &Clock,
        connect: Arc<dyn Connect>,
        read: impl Fn(&str, Option<Duration>, Option<Seconds>) + Send + Sync + 'static,
        hub: impl FnOnce(Arc<dyn Connect>) -> Hub,
    ) -> Self {
        let answered = Answered::default();
        let noting = Noting { connect, clock: clock.clone(), answered: Arc::clone(&answered) };
        Self { hub: hub(Arc::new(noting)), clock: clock.clone(), answered, read: Box::new(read) }
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

/// Clusters, and when each has answered.
struct Noting {
    connect: Arc<dyn Connect>,
    clock: Clock,
    answered: Answered,
}

impl Noting {
    fn noting(&self, cluster: Arc<dyn Cluster>) -> Arc<dyn Cluster> {
        Arc::new(Noted { cluster, clock: self.clock.clone(), answered: Arc::clone(&self.answered) })
    }
}

impl Connect for Noting {
    fn address(&self, namespace: &str, bootstrap_servers: &[String]) -> ClusterAddress {
        self.connect.address(namespace, bootstrap_servers)
    }

    fn connect_to(&self, place: &ClusterAddress) -> Arc<dyn Cluster> {
        self.noting(self.connect.connect_to(place))
    }

    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        self.noting(self.connect.connect(bootstrap_servers))
    }
}

struct Noted {
    cluster: Arc<dyn Cluster>,
    clock: Clock,
    answered: Answered,
}

impl Cluster for Noted {
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

/// What the names of servers begin with that never answer.
pub const HOLE: &str = "hole-";
/// What the names of servers begin with that send more than they may.
pub const FLOOD: &str = "flood-";
const PARTITIONS: usize = 8;
/// Records a second of a job.
const RATE: u32 = 150;
/// Records a second that one worker can do.
const CAPACITY: f64 = 100.0;
/// How much of the load has not been committed yet, in seconds.
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

/// A member whose client id is its pod's name, among these.
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
        let workers = self.pages.of(&request.topic);
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

/// The workers' pages, by job.
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

    /// Names of a job's workers.
    pub fn of(&self, job: &str) -> Vec<String> {
        self.jobs.lock().unwrap().get(job).map(|workers| workers.keys().cloned().collect()).unwrap_or_default()
    }

    /// What a worker's page says now, by the name of its pod.
    pub fn sample(&self, worker: &str) -> WorkerSample {
        let now = self.clock.now();
        // NAME-HASH-CHANCE
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
