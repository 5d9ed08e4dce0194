//! Simulated sources and workers: each job has a steady load that two workers can process. Clusters whose names have
//! certain prefixes never answer or send too much.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_signals::scrape::ScrapeError;
use sluice_signals::source::{Cluster, Connect, GroupTopic, SampleResults, SourceError};
use sluice_signals::{
    GroupSample, Hub, JobKey, JobSamples, Owner, PartitionSample, Scrape, Signals, SourceSample, WatchSpec,
    WorkerEndpoint, WorkerSample,
};
use tokio::time::Instant;

/// Time of the first answer that has not been read, by topic, which is the job's name.
type Answered = Arc<Mutex<HashMap<String, Instant>>>;

/// Called with a job's name and the time for which its answer has waited.
type Waited = dyn Fn(&str, Duration) + Send + Sync;

/// A hub with simulated sources that measures the time between an answer and its use. An answer is read for a decision
/// in the same reconcile, which does not wait for anything in between.
pub struct Timed {
    pub hub: Hub,
    answered: Answered,
    waited: Box<Waited>,
}

impl Timed {
    /// Starts a new hub. `waited` is called for each answer that is read.
    pub fn new(clock: &Clock, waited: impl Fn(&str, Duration) + Send + Sync + 'static) -> Self {
        let answered = Answered::default();
        let pages = Arc::new(Pages { clock: clock.clone(), jobs: Mutex::default() });
        let sources = Sources { clock: clock.clone(), pages: Arc::clone(&pages), answered: answered.clone() };
        Self { hub: Hub::new(clock.clone(), Arc::new(sources), pages), answered, waited: Box::new(waited) }
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
        if let Some(answered) = answered {
            (self.waited)(&job.name, answered.elapsed());
        }
        self.hub.read(job)
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
/// Age of the newest commit, seconds.
const UNCOMMITTED: f64 = 0.3;

/// Connects to the simulated clusters.
struct Sources {
    clock: Clock,
    pages: Arc<Pages>,
    answered: Answered,
}

impl Connect for Sources {
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        if bootstrap_servers.iter().any(|server| server.starts_with(HOLE)) {
            return Arc::new(Hole);
        }
        if bootstrap_servers.iter().any(|server| server.starts_with(FLOOD)) {
            return Arc::new(Flood);
        }
        Arc::new(Steady {
            clock: self.clock.clone(),
            pages: Arc::clone(&self.pages),
            answered: Arc::clone(&self.answered),
        })
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
    answered: Answered,
}

impl Cluster for Steady {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], _: Duration) -> BoxFuture<'a, SampleResults> {
        let now = self.clock.now();
        let answers = requests.iter().map(|request| Ok(self.answer(request, now))).collect();
        let (mut answered, at) = (self.answered.lock().unwrap(), self.clock.monotonic());
        for request in requests {
            answered.entry(request.topic.clone()).or_insert(at);
        }
        std::future::ready(answers).boxed()
    }
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
        let at = |seconds_ago: f64| {
            let records = Duration::from_secs_f64(now.0 - seconds_ago).as_millis() * u128::from(RATE) / 1000;
            Some(i64::try_from(records).unwrap() / i64::try_from(PARTITIONS).unwrap())
        };
        let workers = self.pages.workers(&request.topic);
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

/// The samples of the workers, by job.
struct Pages {
    clock: Clock,
    jobs: Mutex<HashMap<String, BTreeMap<String, WorkerSample>>>,
}

/// A worker that was not read for this long is gone, seconds.
const GONE: f64 = 15.0;

impl Pages {
    /// Returns the names of a job's workers.
    fn workers(&self, job: &str) -> Vec<String> {
        self.jobs.lock().unwrap().get(job).map(|workers| workers.keys().cloned().collect()).unwrap_or_default()
    }
}

impl Scrape for Pages {
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        _: &'a [String],
        _: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        let now = self.clock.now();
        // Pod names have the form JOB-HASH-SUFFIX.
        let job = worker.id.rsplitn(3, '-').last().unwrap_or_default();
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
        workers.entry(worker.id.clone()).or_insert(begin);
        let rate = (f64::from(RATE) / f64::from(u32::try_from(workers.len()).unwrap())).min(CAPACITY);
        let sample = workers.get_mut(&worker.id).unwrap();
        let records = rate * (now - sample.at).0;
        sample.at = now;
        sample.processed = sample.processed.map(|all| all + records);
        sample.busy_seconds = sample.busy_seconds.map(|all| all + records / CAPACITY);
        std::future::ready(Ok(sample.clone())).boxed()
    }
}
