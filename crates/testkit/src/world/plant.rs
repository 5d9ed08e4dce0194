//! Simulated sources and workers: records arrive at a given rate, and each ready pod processes up to `CAPACITY` per
//! second.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embedded_kubernetes::api::{Actor, Server};
use embedded_kubernetes::kinds::Resource;
use embedded_kubernetes::meta;
use futures::{Stream, StreamExt as _, stream};
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_signals::{
    Category, Failure, GroupSample, JobKey, JobSamples, Owner, PartitionSample, Signals, SourceReading, SourceSample,
    WatchSpec, WorkerReading, WorkerSample,
};

/// Time between two samples of a job, seconds.
const PERIOD: u64 = 5;
const PARTITIONS: usize = 8;
/// Capacity of one worker, records per second.
const CAPACITY: u32 = 100;
/// Latency objective of every job, seconds.
const LATENCY: usize = 10;

/// All sources and workers.
pub struct Plant {
    actor: Actor,
    clock: Clock,
    jobs: Mutex<BTreeMap<JobKey, Source>>,
}

struct Source {
    name: String,
    rate: u32,
    /// Time since which the source is unreachable.
    away: Option<Seconds>,
    at: f64,
    end: [u32; PARTITIONS],
    done: [u32; PARTITIONS],
    /// End offsets at each second, newest last.
    ends: VecDeque<[u32; PARTITIONS]>,
    workers: HashMap<String, Counters>,
    owners: Vec<Option<String>>,
    /// Names of the pods that are in the group.
    members: Vec<String>,
    newest: Option<JobSamples>,
}

#[derive(Clone, Copy, Default)]
struct Counters {
    processed: u32,
    busy: f64,
    started: f64,
}

impl Plant {
    pub fn new(server: Server, clock: Clock) -> Self {
        Self { actor: Actor::new(server, "plant"), clock, jobs: Mutex::default() }
    }

    /// Sets the arrival rate of a job, records per second.
    pub fn set_rate(&self, job: &JobKey, rate: u32) {
        let now = self.clock.now();
        let mut jobs = self.jobs.lock().unwrap();
        let source = jobs.entry(job.clone()).or_insert_with(|| Source::new(&job.name, now));
        source.catch_up(&self.actor, job, now);
        source.rate = rate;
    }

    /// Makes the source of a job unreachable or reachable.
    pub fn set_away(&self, job: &JobKey, away: bool) {
        let now = self.clock.now();
        let mut jobs = self.jobs.lock().unwrap();
        if let Some(source) = jobs.get_mut(job) {
            source.away = away.then_some(now);
        }
    }

    /// Returns a stream that yields every job once per period.
    pub fn updates(self: &Arc<Self>) -> impl Stream<Item = JobKey> + Send + use<> {
        let plant = Arc::clone(self);
        let rounds = stream::unfold(plant, |plant| async move {
            tokio::time::sleep(Duration::from_secs(PERIOD)).await;
            let keys: Vec<JobKey> = plant.jobs.lock().unwrap().keys().cloned().collect();
            Some((stream::iter(keys), plant))
        });
        rounds.flatten()
    }
}

impl Signals for Plant {
    fn watch(&self, _: &JobKey, _: WatchSpec) {}

    fn forget(&self, _: &JobKey) {}

    fn read(&self, job: &JobKey) -> Option<JobSamples> {
        let now = self.clock.now();
        let mut jobs = self.jobs.lock().unwrap();
        let source = jobs.get_mut(job)?;
        source.catch_up(&self.actor, job, now);
        Some(source.samples(now))
    }
}

impl Source {
    fn new(name: &str, now: Seconds) -> Self {
        Self {
            name: name.to_owned(),
            rate: 0,
            away: None,
            at: now.0.floor(),
            end: [0; PARTITIONS],
            done: [0; PARTITIONS],
            ends: VecDeque::new(),
            workers: HashMap::new(),
            owners: vec![None; PARTITIONS],
            members: Vec::new(),
            newest: None,
        }
    }

    /// Advances second by second to the current time, with the pods that are ready now.
    fn catch_up(&mut self, actor: &Actor, job: &JobKey, now: Seconds) {
        if now.0.floor() <= self.at {
            return;
        }
        let pods = actor.list(&Resource::new("", "pods"), Some(&job.namespace));
        let ready = |pod: &serde_json::Value| {
            let conditions = pod["status"]["conditions"].as_array();
            meta::label(pod, "sluice.dev/job") == Some(&job.name)
                && !meta::deleting(pod)
                && conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
        };
        let mut workers: Vec<(String, String)> = pods
            .iter()
            .filter(|pod| ready(&pod.value))
            .map(|pod| (meta::text(&pod.value, "/metadata/uid").to_owned(), meta::name(&pod.value).to_owned()))
            .collect();
        workers.sort_by(|a, b| a.1.cmp(&b.1));
        self.workers.retain(|uid, _| pods.iter().any(|pod| meta::text(&pod.value, "/metadata/uid") == uid));
        for p in 0..PARTITIONS {
            self.owners[p] = (!workers.is_empty()).then(|| workers[p % workers.len()].1.clone());
        }
        self.members = workers.iter().map(|(_, name)| name.clone()).collect();
        while self.at < now.0.floor() {
            self.at += 1.0;
            self.advance_a_second(&workers);
        }
    }

    fn advance_a_second(&mut self, workers: &[(String, String)]) {
        let arrivals = (0..self.rate).map(|record| record as usize % PARTITIONS);
        arrivals.for_each(|p| self.end[p] += 1);
        for (number, (uid, _)) in workers.iter().enumerate() {
            let counters =
                self.workers.entry(uid.clone()).or_insert_with(|| Counters { started: self.at, ..Counters::default() });
            let mut room = CAPACITY;
            for p in (0..PARTITIONS).filter(|p| p % workers.len() == number) {
                let taken = (self.end[p] - self.done[p]).min(room);
                self.done[p] += taken;
                room -= taken;
            }
            counters.processed += CAPACITY - room;
            counters.busy += f64::from(CAPACITY - room) / f64::from(CAPACITY);
        }
        self.ends.push_back(self.end);
        if self.ends.len() > 120 {
            self.ends.pop_front();
        }
    }

    fn member(&self, name: &str) -> Owner {
        Owner {
            member_id: format!("{name}-1"),
            client_id: name.to_owned(),
            partitions: Some(self.owners.iter().filter(|owner| owner.as_deref() == Some(name)).count()),
            ..Owner::default()
        }
    }

    fn samples(&mut self, now: Seconds) -> JobSamples {
        if let (Some(since), Some(newest)) = (self.away, &self.newest) {
            let mut old = newest.clone();
            let message = "kafka:9092: no answer".to_owned();
            old.sources[0].failure = Some(Failure { at: now, since, category: Category::Unreachable, message });
            return old;
        }
        let due = self.ends.len().checked_sub(1 + LATENCY).map(|at| self.ends[at]);
        let partition = |p: usize| PartitionSample {
            id: format!("{}/{p}", self.name),
            start: Some(0),
            end: Some(self.end[p].into()),
            committed: Some(self.done[p].into()),
            due_end: Some(due.map_or(0, |due| due[p].into())),
            owner: self.owners[p].as_deref().map(|name| self.member(name)),
            ..PartitionSample::default()
        };
        let group = GroupSample {
            state: "Stable".to_owned(),
            assignor: Some("cooperative-sticky".to_owned()),
            members: self.members.iter().map(|name| self.member(name)).collect(),
        };
        let sample = SourceSample {
            at: Seconds(self.at),
            partitions: (0..PARTITIONS).map(partition).collect(),
            group: Some(group),
            producer_time: Some(false),
        };
        let worker = |(uid, counters): (&String, &Counters)| WorkerReading {
            id: String::new(),
            uid: uid.clone(),
            sample: Some(Arc::new(WorkerSample {
                at: Seconds(self.at),
                started_at: Some(Seconds(counters.started)),
                processed: Some(counters.processed.into()),
                busy_seconds: Some(counters.busy),
                concurrency: Some(1),
                ..WorkerSample::default()
            })),
            failure: None,
        };
        let mut workers: Vec<WorkerReading> = self.workers.iter().map(worker).collect();
        workers.sort_by(|a, b| a.uid.cmp(&b.uid));
        let source = SourceReading { name: "orders".to_owned(), sample: Some(Arc::new(sample)), failure: None };
        let all = JobSamples { sources: vec![source], workers };
        self.newest = Some(all.clone());
        all
    }
}
