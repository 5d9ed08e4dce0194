//! Scripted clusters and workers for the tests of the hub.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::*;
use crate::limits::Limits;
use crate::sample::{PartitionSample, SourceSample, SourceSpec, WorkerEndpoint, WorkerSample};
use crate::scrape::ScrapeError;
use crate::source::{Cluster, GroupTopic, SampleResults, SourceError};
use sluice_api::v1alpha1::Kafka;
use sluice_base::units::Seconds;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Behaviour {
    Good,
    Down,
    NeverAnswers,
    Panics,
    /// Only topics whose name begins with "missing" are missing.
    SomeMissing,
    /// Each topic has this many partitions.
    Large(usize),
    /// A round reaches this many requests.
    Reaches(usize),
    /// If the name of any topic begins with "huge", all answers together are too large.
    SomeHuge,
}

/// Scripted clusters and workers: how each behaves, and what it was asked and when. Clusters are named by their first
/// bootstrap server, workers by their id.
#[derive(Clone)]
pub(super) struct FakeSources(pub(super) Arc<Inner>);

pub(super) struct Inner {
    clock: Clock,
    behaviours: Mutex<HashMap<String, Behaviour>>,
    rounds: Mutex<Vec<(String, f64, Vec<GroupTopic>)>>,
    scrapes: Mutex<Vec<(String, f64)>>,
    pub(super) connects: AtomicUsize,
    pub(super) in_flight: AtomicUsize,
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeSources {
    pub(super) fn start() -> (Self, Hub) {
        Self::with_limits(Limits::default())
    }

    pub(super) fn with_limits(limits: Limits) -> (Self, Hub) {
        let clock = Clock::starting_at(Seconds(1000.0));
        let fake = Self(Arc::new(Inner {
            clock: clock.clone(),
            behaviours: Mutex::default(),
            rounds: Mutex::default(),
            scrapes: Mutex::default(),
            connects: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
        }));
        // The same random numbers in every run.
        let random = Random::seeded(1);
        let hub = Hub::with_random(None, random, limits, clock, Arc::new(fake.clone()), Arc::new(fake.clone()));
        (fake, hub)
    }

    pub(super) fn set(&self, name: &str, behaviour: Behaviour) {
        self.0.behaviours.lock().insert(name.to_owned(), behaviour);
    }

    fn behaviour(&self, name: &str) -> Behaviour {
        self.0.behaviours.lock().get(name).copied().unwrap_or(Behaviour::Good)
    }

    pub(super) fn rounds(&self, cluster: &str) -> Vec<(f64, Vec<GroupTopic>)> {
        let rounds = self.0.rounds.lock();
        rounds.iter().filter(|(name, ..)| name == cluster).map(|(_, at, asked)| (*at, asked.clone())).collect()
    }

    pub(super) fn scrapes(&self, worker: &str) -> Vec<f64> {
        let scrapes = self.0.scrapes.lock();
        scrapes.iter().filter(|(id, _)| id == worker).map(|(_, at)| *at).collect()
    }

    pub(super) fn now(&self) -> f64 {
        self.0.clock.now().0
    }
}

struct ScriptedCluster(FakeSources, String);

impl Connect for FakeSources {
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        self.0.connects.fetch_add(1, Ordering::SeqCst);
        Arc::new(ScriptedCluster(self.clone(), bootstrap_servers[0].clone()))
    }
}

impl Cluster for ScriptedCluster {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], _: Duration) -> BoxFuture<'a, SampleResults> {
        async move {
            let Self(fake, name) = self;
            fake.0.in_flight.fetch_add(1, Ordering::SeqCst);
            let _in_flight = InFlight(&fake.0.in_flight);
            fake.0.rounds.lock().push((name.clone(), fake.now(), requests.to_vec()));
            tokio::time::sleep(Duration::from_millis(5)).await;
            let behaviour = fake.behaviour(name);
            let partitions = if let Behaviour::Large(partitions) = behaviour { partitions } else { 1 };
            let sample = || {
                let partition =
                    PartitionSample { id: "t/0".to_owned(), due_end: Some(7), ..PartitionSample::default() };
                SourceSample {
                    at: Seconds(fake.now()),
                    partitions: vec![partition; partitions],
                    group: None,
                    producer_time: Some(false),
                }
            };
            let too_large = requests.iter().any(|request| request.topic.starts_with("huge"));
            match behaviour {
                Behaviour::NeverAnswers => std::future::pending().await,
                Behaviour::Panics => panic!("the client has a bug"),
                _ => requests
                    .iter()
                    .enumerate()
                    .map(|(number, request)| match behaviour {
                        Behaviour::Reaches(most) if number >= most => {
                            Err(SourceError::NotReached { cluster: name.clone() })
                        }
                        Behaviour::SomeHuge if too_large => Err(SourceError::RoundTooLarge {
                            cluster: name.clone(),
                            detail: "its brokers have sent too much".to_owned(),
                        }),
                        Behaviour::Down => {
                            Err(SourceError::Unreachable { cluster: name.clone(), detail: "\u{1b}[2J\nx".repeat(100) })
                        }
                        Behaviour::SomeMissing if request.topic.starts_with("missing") => {
                            Err(SourceError::TopicMissing { topic: request.topic.clone(), cluster: name.clone() })
                        }
                        _ => Ok(sample()),
                    })
                    .collect(),
            }
        }
        .boxed()
    }
}

impl Scrape for FakeSources {
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        _: &'a [String],
        _: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        async move {
            self.0.scrapes.lock().push((worker.id.clone(), self.now()));
            match self.behaviour(&worker.id) {
                Behaviour::NeverAnswers => std::future::pending().await,
                Behaviour::Down => Err(ScrapeError::Unreachable { url: "u".to_owned(), detail: "refused".to_owned() }),
                _ => Ok(WorkerSample { at: Seconds(self.now()), ..WorkerSample::default() }),
            }
        }
        .boxed()
    }
}

pub(super) fn job(name: &str) -> JobKey {
    JobKey { namespace: "team".to_owned(), name: name.to_owned() }
}

pub(super) fn source(cluster: &str, topic: &str) -> SourceSpec {
    let kafka = Kafka {
        bootstrap_servers: vec![cluster.to_owned()],
        topic: topic.to_owned(),
        consumer_group: format!("{topic}-group"),
        offset_reset: None,
    };
    SourceSpec { name: topic.to_owned(), kafka }
}

/// Returns a watch with a latency of 10 s, and thus an interval of 2 s.
pub(super) fn watch(cluster: &str, topic: &str) -> WatchSpec {
    WatchSpec { latency: Duration::from_secs(10), sources: vec![source(cluster, topic)], workers: Vec::new() }
}

pub(super) fn worker(id: &str) -> WorkerEndpoint {
    let address = "10.0.0.1:9090".parse().unwrap();
    WorkerEndpoint { id: id.to_owned(), uid: format!("{id}-uid"), address, path: "/metrics".to_owned() }
}
