//! Sources and workers' pages that are made up: each job has a steady load that two workers carry. Clusters with a certain
//! name never answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sluice::clock::Clock;
use sluice::policy::units::Seconds;
use sluice::signals::scrape::ScrapeError;
use sluice::signals::source::{Answers, Cluster, Connect, GroupTopic};
use sluice::signals::{GroupSample, Owner, PartitionSample, Scrape, SourceSample, WorkerEndpoint, WorkerSample};
use tokio::time::Instant;

/// When the first answer came that has not been read, by topic: a job's name.
pub(crate) type Answered = Arc<Mutex<HashMap<String, Instant>>>;

/// What the names of servers begin with that never answer.
pub(crate) const HOLE: &str = "hole-";
const PARTITIONS: usize = 8;
/// Records a second, of a job and of what one worker can do.
const RATE: f64 = 150.0;
const CAPACITY: f64 = 100.0;
/// How much of the load has not been committed yet, in seconds.
const UNCOMMITTED: f64 = 0.3;

/// Reaches the clusters.
pub(crate) struct Sources {
    pub(crate) clock: Clock,
    pub(crate) pages: Arc<Pages>,
    pub(crate) answered: Answered,
}

impl Connect for Sources {
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        if bootstrap_servers.iter().any(|server| server.starts_with(HOLE)) {
            return Arc::new(Hole);
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
    fn sample<'a>(&'a self, _: &'a [GroupTopic], _: Duration) -> BoxFuture<'a, Answers> {
        std::future::pending().boxed()
    }
}

struct Steady {
    clock: Clock,
    pages: Arc<Pages>,
    answered: Answered,
}

impl Cluster for Steady {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], _: Duration) -> BoxFuture<'a, Answers> {
        let now = self.clock.now();
        let answers = requests.iter().map(|request| Ok(self.answer(request, now))).collect();
        let (mut answered, at) = (self.answered.lock().unwrap(), self.clock.monotonic());
        for request in requests {
            answered.entry(request.topic.clone()).or_insert(at);
        }
        std::future::ready(answers).boxed()
    }
}

impl Steady {
    fn answer(&self, request: &GroupTopic, now: Seconds) -> SourceSample {
        #[allow(clippy::cast_possible_truncation)] // some billions
        let at = |seconds_ago: f64| Some(((now.0 - seconds_ago) * RATE) as i64 / i64::try_from(PARTITIONS).unwrap());
        let workers = self.pages.of(&request.topic);
        let partition = |number: usize| PartitionSample {
            id: format!("{}/{number}", request.topic),
            start: Some(0),
            end: at(0.0),
            committed: at(UNCOMMITTED),
            due_end: at(request.latency.as_secs_f64()),
            owner: (!workers.is_empty())
                .then(|| Owner { client_id: workers[number % workers.len()].clone(), ..Owner::default() }),
            problem: None,
        };
        let group = GroupSample {
            state: "Stable".to_owned(),
            assignor: Some("cooperative-sticky".to_owned()),
            members: Vec::new(),
        };
        SourceSample {
            at: now,
            partitions: (0..PARTITIONS).map(partition).collect(),
            group: Some(group),
            producer_time: false,
        }
    }
}

/// The workers' pages, by job.
pub(crate) struct Pages {
    clock: Clock,
    jobs: Mutex<HashMap<String, BTreeMap<String, WorkerSample>>>,
}

/// A worker that was not looked at for so long is gone.
const GONE: f64 = 15.0;

impl Pages {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, jobs: Mutex::default() }
    }

    /// Names of a job's workers.
    fn of(&self, job: &str) -> Vec<String> {
        self.jobs.lock().unwrap().get(job).map(|workers| workers.keys().cloned().collect()).unwrap_or_default()
    }
}

impl Scrape for Pages {
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        _: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        let now = self.clock.now();
        // NAME-HASH-CHANCE
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
        #[allow(clippy::cast_precision_loss)] // a handful
        let rate = (RATE / workers.len() as f64).min(CAPACITY);
        let sample = workers.get_mut(&worker.id).unwrap();
        let records = rate * (now - sample.at).0;
        sample.at = now;
        sample.processed = sample.processed.map(|all| all + records);
        sample.busy_seconds = sample.busy_seconds.map(|all| all + records / CAPACITY);
        std::future::ready(Ok(sample.clone())).boxed()
    }
}
