//! Benchmarks the hub's bookkeeping with many jobs on one Kafka cluster that answers at once: the cost of one round of
//! samples, and of a job whose pods change. Time is tokio's paused time, so that only work is measured.

#![allow(missing_docs, clippy::unwrap_used)] // a command; a failure is its end

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sluice_api::v1alpha1::Kafka;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_signals::scrape::ScrapeError;
use sluice_signals::source::{Cluster, Connect, GroupTopic, SampleResults};
use sluice_signals::{
    Hub, JobKey, PartitionSample, Scrape, SourceSample, SourceSpec, WatchSpec, WorkerEndpoint, WorkerSample,
};

/// Partitions of each topic.
const PARTITIONS: usize = 8;
/// An objective of 10 s is sampled every 2 s.
const ROUND: Duration = Duration::from_secs(2);

struct Instant;

impl Connect for Instant {
    fn connect(&self, _: &[String]) -> Arc<dyn Cluster> {
        Arc::new(Self)
    }
}

impl Cluster for Instant {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], _: Duration) -> BoxFuture<'a, SampleResults> {
        let partition = |number: usize, topic: &str| PartitionSample {
            id: format!("{topic}/{number}"),
            end: Some(7),
            committed: Some(5),
            ..PartitionSample::default()
        };
        let answer = |request: &GroupTopic| {
            let partitions = (0..PARTITIONS).map(|number| partition(number, &request.topic)).collect();
            Ok(SourceSample { partitions, ..SourceSample::default() })
        };
        std::future::ready(requests.iter().map(answer).collect()).boxed()
    }
}

impl Scrape for Instant {
    fn scrape<'a>(
        &'a self,
        _: &'a WorkerEndpoint,
        _: &'a [String],
        _: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        std::future::ready(Ok(WorkerSample::default())).boxed()
    }
}

fn job(number: usize) -> JobKey {
    JobKey { namespace: format!("team-{}", number % 50), name: format!("job-{number}") }
}

fn watch(number: usize, latency: Duration) -> WatchSpec {
    let kafka = Kafka {
        bootstrap_servers: vec!["kafka.infra.svc:9092".to_owned()],
        topic: format!("topic-{number}"),
        consumer_group: format!("group-{number}"),
        offset_reset: None,
    };
    WatchSpec { latency, sources: vec![SourceSpec { name: "in".to_owned(), kafka }], workers: Vec::new() }
}

fn hub(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub");
    group.sample_size(10);
    for jobs in [1_000, 10_000] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let hub = runtime.block_on(async {
            let hub = Hub::with_seed(1, Clock::starting_at(Seconds(1000.0)), Arc::new(Instant), Arc::new(Instant));
            (0..jobs).for_each(|number| hub.watch(&job(number), watch(number, 5 * ROUND)));
            tokio::time::sleep(5 * ROUND).await;
            hub
        });
        group.bench_with_input(BenchmarkId::new("a round of samples", jobs), &jobs, |bencher, _| {
            bencher.iter(|| runtime.block_on(async { tokio::time::sleep(ROUND).await }));
        });
        let mut turn = 0;
        group.bench_with_input(BenchmarkId::new("a job that changes", jobs), &jobs, |bencher, jobs| {
            bencher.iter(|| {
                turn += 1;
                let latency = 5 * ROUND + Duration::from_millis(turn % 2);
                let number = usize::try_from(turn / 2).unwrap() % jobs;
                runtime.block_on(async { hub.watch(&job(number), watch(number, latency)) });
            });
        });
        println!("{:?}", hub.stats());
    }
    group.finish();
}

criterion_group!(benches, hub);
criterion_main!(benches);
