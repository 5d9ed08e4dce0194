//! Tests of the hub under paused time, with scripted clusters and workers.

mod fake_sources;
mod limits;

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::*;
use crate::sample::{Category, WorkerEndpoint, WorkerSample};
use crate::scrape::ScrapeError;
use crate::source::GroupTopic;
use fake_sources::{Behaviour, FakeSources, job, source, watch, worker};

const SECOND: Duration = Duration::from_secs(1);

fn gaps(times: &[f64]) -> Vec<f64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn times(rounds: &[(f64, Vec<GroupTopic>)]) -> Vec<f64> {
    rounds.iter().map(|(at, _)| *at).collect()
}

/// Tokio's paused timers tick in milliseconds.
const TICK: f64 = 0.002;

#[tokio::test(start_paused = true)]
async fn samples_each_interval_within_a_tenth() {
    let (fake, hub) = FakeSources::start();
    hub.watch(&job("a"), watch("k", "orders"));
    tokio::time::sleep(200 * SECOND).await;
    let times = times(&fake.rounds("k"));
    assert!(times[0] <= 1001.0 + TICK, "the first one within a second");
    let gaps = gaps(&times);
    assert!(gaps.iter().all(|gap| (1.8 - TICK..2.2 + TICK).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < 1.95) && gaps.iter().any(|gap| *gap > 2.05), "{gaps:?}");
    let samples = hub.read(&job("a")).unwrap();
    let age = fake.now() - samples.sources[0].sample.as_ref().unwrap().at.0;
    assert!(age < 2.3, "{age}");
    assert_eq!(samples.sources[0].failure, None);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_one_cluster_share_client_and_rounds() {
    let (fake, hub) = FakeSources::start();
    hub.watch(&job("a"), watch("k", "orders"));
    tokio::time::sleep(Duration::from_millis(2300)).await;
    hub.watch(&job("b"), watch("k", "returns"));
    hub.watch(&job("same-question"), watch("k", "returns"));
    tokio::time::sleep(10 * SECOND).await;
    let before = fake.rounds("k").len();
    tokio::time::sleep(100 * SECOND).await;
    let rounds = fake.rounds("k").split_off(before);
    assert!((45..=56).contains(&rounds.len()), "{}", rounds.len());
    assert!(rounds.iter().all(|(_, asked)| asked.len() == 2), "each question once, in every round");
    assert_eq!(fake.0.connects.load(Ordering::SeqCst), 1);
    assert_eq!(hub.stats().clusters, 1);
}

#[tokio::test(start_paused = true)]
async fn slow_job_keeps_its_interval_beside_a_fast_one() {
    let (fake, hub) = FakeSources::start();
    hub.watch(&job("fast"), WatchSpec { latency: 2 * SECOND, ..watch("k", "fast") });
    hub.watch(&job("slow"), WatchSpec { latency: 60 * SECOND, ..watch("k", "slow") });
    tokio::time::sleep(100 * SECOND).await;
    let rounds = fake.rounds("k");
    let asked = |topic| rounds.iter().filter(|(_, asked)| asked.iter().any(|each| each.topic == topic)).count();
    assert!((180..=225).contains(&asked("fast")), "{}", asked("fast"));
    assert!((19..=24).contains(&asked("slow")), "{}", asked("slow"));
    // The jitter makes the fast job's rounds 0.45 s to 0.55 s apart, and each takes along what is due within 0.25 s. So the
    // slow job has a round of its own if it is due first of all, or in the middle of a gap of more than 0.5 s.
    assert!(
        rounds.len() <= asked("fast") + 3,
        "the slow job has few rounds of its own: {} {}",
        rounds.len(),
        asked("fast")
    );
}

#[tokio::test(start_paused = true)]
async fn silent_cluster_does_not_delay_another_cluster() {
    let (fake, hub) = FakeSources::start();
    fake.set("hole", Behaviour::NeverAnswers);
    hub.watch(&job("a"), watch("hole", "orders"));
    let mut both = watch("good", "orders");
    both.sources.push(source("hole", "returns"));
    hub.watch(&job("b"), both);
    tokio::time::sleep(100 * SECOND).await;
    let gaps = gaps(&times(&fake.rounds("good")));
    assert!(gaps.len() > 44 && gaps.iter().all(|gap| (1.8 - TICK..2.2 + TICK).contains(gap)), "{gaps:?}");
    let samples = hub.read(&job("b")).unwrap();
    assert!(samples.sources[0].failure.is_none() && samples.sources[0].sample.is_some());
    let failure = samples.sources[1].failure.as_ref().unwrap();
    assert_eq!(failure.category, Category::Unreachable);
    assert!(failure.message.contains("no answer within 2.0s"), "{}", failure.message);
    assert!((1002.0..1003.1).contains(&failure.since.0), "the deadline is 2 s: {}", failure.since.0);
}

#[tokio::test(start_paused = true)]
async fn outage_keeps_last_sample_and_reports_its_beginning() {
    let (fake, hub) = FakeSources::start();
    hub.watch(&job("a"), watch("k", "orders"));
    tokio::time::sleep(10 * SECOND).await;
    let before = hub.read(&job("a")).unwrap().sources[0].sample.clone().unwrap();
    fake.set("k", Behaviour::Down);
    tokio::time::sleep(60 * SECOND).await;

    let reading = hub.read(&job("a")).unwrap().sources.remove(0);
    let failure = reading.failure.unwrap();
    assert!(reading.sample.unwrap().at.0 - before.at.0 < 2.3, "the sample keeps its own time");
    assert!((1010.0..1012.3).contains(&failure.since.0), "{failure:?}");
    assert!(failure.at.0 > failure.since.0 + 10.0, "{failure:?}");
    assert_eq!(failure.message.chars().count(), 300);
    assert_eq!(
        hub.stats().source_errors.iter().next(),
        Some((Category::Unreachable, hub.stats().source_errors.total()))
    );

    fake.set("k", Behaviour::Good);
    tokio::time::sleep(31 * SECOND).await;
    let reading = hub.read(&job("a")).unwrap().sources.remove(0);
    assert_eq!(reading.failure, None);
    assert!(fake.now() - reading.sample.unwrap().at.0 < 31.0);

    fake.set("k", Behaviour::Down);
    tokio::time::sleep(3 * SECOND).await;
    let since = hub.read(&job("a")).unwrap().sources[0].failure.as_ref().unwrap().since.0;
    assert!(fake.now() - since < 3.1, "a new outage");
}

/// A failure message is shown on terminals and written to logs, where a second line could pass for one of Sluice's own.
///
/// Catalogue: S10.
#[tokio::test(start_paused = true)]
async fn failure_message_is_one_line_of_text() {
    let (fake, hub) = FakeSources::start();
    fake.set("k", Behaviour::Down);
    hub.watch(&job("a"), watch("k", "orders"));
    tokio::time::sleep(10 * SECOND).await;
    let message = hub.read(&job("a")).unwrap().sources.remove(0).failure.unwrap().message;
    assert!(message.contains("[2J x") && !message.contains(char::is_control), "{message:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_to_30_s() {
    let (fake, hub) = FakeSources::start();
    fake.set("k", Behaviour::Down);
    hub.watch(&job("a"), watch("k", "orders"));
    tokio::time::sleep(300 * SECOND).await;
    let gaps = gaps(&times(&fake.rounds("k")));
    for (gap, expected) in gaps.iter().zip([4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
        assert!((expected * 0.9 - TICK..=30.0_f64.min(expected * 1.1) + TICK).contains(gap), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn missing_topic_is_retried_every_5_s() {
    let (fake, hub) = FakeSources::start();
    fake.set("k", Behaviour::SomeMissing);
    hub.watch(&job("a"), watch("k", "orders"));
    hub.watch(&job("b"), watch("k", "missing"));
    tokio::time::sleep(100 * SECOND).await;
    let failure = hub.read(&job("b")).unwrap().sources.remove(0).failure.unwrap();
    assert_eq!(failure.category, Category::TopicMissing);
    assert!(fake.now() - failure.at.0 < 5.6);
    let reading = hub.read(&job("a")).unwrap().sources.remove(0);
    assert!(reading.failure.is_none() && fake.now() - reading.sample.unwrap().at.0 < 2.3);
}

#[tokio::test(start_paused = true)]
async fn forget_stops_running_attempts() {
    let (fake, hub) = FakeSources::start();
    fake.set("k", Behaviour::NeverAnswers);
    hub.watch(&job("a"), WatchSpec { workers: vec![worker("w")], ..watch("k", "orders") });
    while fake.0.in_flight.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(SECOND / 10).await;
    }
    hub.forget(&job("a"));
    tokio::task::yield_now().await;
    assert_eq!(fake.0.in_flight.load(Ordering::SeqCst), 0);
    let (rounds, scrapes) = (fake.rounds("k").len(), fake.scrapes("w").len());
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!((fake.rounds("k").len(), fake.scrapes("w").len()), (rounds, scrapes));
    assert!(hub.read(&job("a")).is_none());
    assert_eq!((hub.stats().jobs, hub.stats().clusters, hub.stats().workers), (0, 0, 0));
    assert!(hub.shared.tracker.is_empty(), "no task is left");
}

#[tokio::test(start_paused = true)]
async fn watch_after_forget_starts_one_task() {
    let (fake, hub) = FakeSources::start();
    for _ in 0..20 {
        hub.watch(&job("a"), watch("k", "orders"));
        tokio::time::sleep(SECOND / 3).await;
        hub.forget(&job("a"));
    }
    hub.watch(&job("a"), watch("k", "orders"));
    tokio::time::sleep(5 * SECOND).await;
    let before = fake.rounds("k").len();
    tokio::time::sleep(100 * SECOND).await;
    assert!((45..=56).contains(&(fake.rounds("k").len() - before)));
    assert_eq!(hub.shared.tracker.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn repeated_watch_changes_nothing() {
    let (fake, hub) = FakeSources::start();
    let watch = WatchSpec { workers: vec![worker("w")], ..watch("k", "orders") };
    for _ in 0..1000 {
        hub.watch(&job("a"), watch.clone());
        tokio::time::sleep(SECOND / 10).await;
    }
    for gaps in [gaps(&times(&fake.rounds("k"))), gaps(&fake.scrapes("w"))] {
        assert!(gaps.len() > 44 && gaps.iter().all(|gap| (1.8 - TICK..2.2 + TICK).contains(gap)), "{gaps:?}");
    }
    assert_eq!(fake.0.connects.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn changed_watch_keeps_samples_of_what_remains() {
    let (fake, hub) = FakeSources::start();
    let first = WatchSpec { workers: vec![worker("w-1"), worker("w-2")], ..watch("k", "orders") };
    hub.watch(&job("a"), first.clone());
    tokio::time::sleep(10 * SECOND).await;

    let mut second = WatchSpec { workers: vec![worker("w-3"), worker("w-2")], ..first };
    second.sources.insert(0, source("other", "returns"));
    hub.watch(&job("a"), second.clone());
    let samples = hub.read(&job("a")).unwrap();
    let known: Vec<_> = samples.sources.iter().map(|source| (source.name.as_str(), source.sample.is_some())).collect();
    assert_eq!(known, [("returns", false), ("orders", true)]);
    let known: Vec<_> = samples.workers.iter().map(|worker| (worker.id.as_str(), worker.sample.is_some())).collect();
    assert_eq!(known, [("w-3", false), ("w-2", true)]);
    assert_eq!(samples.sources[1].sample.as_ref().unwrap().partitions[0].due_end, Some(7));

    hub.watch(&job("a"), WatchSpec { latency: 20 * SECOND, ..second });
    let samples = hub.read(&job("a")).unwrap();
    let due = samples.sources[1].sample.as_ref().unwrap().partitions[0].due_end;
    assert_eq!(due, None, "it was the answer for another latency");

    let scrapes = fake.scrapes("w-1").len();
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(fake.scrapes("w-1").len(), scrapes, "the removed worker is not scraped any more");
    let asked = fake.rounds("k").pop().unwrap().1;
    assert_eq!((asked.len(), asked[0].latency), (1, 20 * SECOND));
    assert!(hub.read(&job("a")).unwrap().sources.iter().all(|source| source.sample.is_some()));
}

#[tokio::test(start_paused = true)]
async fn stuck_workers_do_not_delay_other_workers() {
    let (fake, hub) = FakeSources::start();
    let stuck: Vec<_> = (0..100).map(|number| format!("stuck-{number}")).collect();
    for id in &stuck {
        fake.set(id, Behaviour::NeverAnswers);
    }
    let mut workers: Vec<_> = stuck.iter().map(|id| worker(id)).collect();
    workers.push(worker("good"));
    hub.watch(&job("a"), WatchSpec { latency: 10 * SECOND, sources: Vec::new(), workers });
    tokio::time::sleep(100 * SECOND).await;
    // Each of the hundred first has half a second to show that it is quick, 16 at a time.
    let later: Vec<f64> = fake.scrapes("good").into_iter().filter(|at| *at > 1_005.0).collect();
    let gaps = gaps(&later);
    assert!(gaps.len() > 44 && gaps.iter().all(|gap| (1.8 - TICK..2.2 + TICK).contains(gap)), "{gaps:?}");
    let samples = hub.read(&job("a")).unwrap();
    assert!(samples.workers[100].failure.is_none());
    let failure = samples.workers[0].failure.as_ref().unwrap();
    assert_eq!(failure.category, Category::Unreachable);
    assert!(fake.scrapes("stuck-0").len() <= 7, "backs off");
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_client_is_a_failure_and_recovers() {
    let (fake, hub) = FakeSources::start();
    fake.set("k", Behaviour::Panics);
    hub.watch(&job("a"), watch("k", "orders"));
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(hub.read(&job("a")).unwrap().sources[0].failure.as_ref().unwrap().category, Category::Protocol);
    fake.set("k", Behaviour::Good);
    tokio::time::sleep(31 * SECOND).await;
    assert!(hub.read(&job("a")).unwrap().sources[0].failure.is_none());
}

#[tokio::test(start_paused = true)]
async fn updates_report_each_job_once_and_end_with_the_hub() {
    let (fake, hub) = FakeSources::start();
    let mut updates = std::pin::pin!(hub.updates());
    fake.set("down", Behaviour::Down);
    hub.watch(&job("a"), watch("k", "orders"));
    hub.watch(&job("b"), watch("down", "orders"));
    tokio::time::sleep(100 * SECOND).await;
    let mut reported = vec![updates.next().await.unwrap(), updates.next().await.unwrap()];
    reported.sort();
    assert_eq!(reported, [job("a"), job("b")], "once each, however slow the reader");
    assert_eq!(updates.next().now_or_never(), None);
    assert_eq!(updates.next().await, Some(job("a")), "and again with the next sample");

    hub.shutdown().await;
    hub.watch(&job("c"), watch("k", "orders"));
    let rounds = fake.rounds("k").len();
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(fake.rounds("k").len(), rounds);
    assert!(hub.read(&job("a")).is_some() && hub.read(&job("c")).is_none());
    while let Some(job) = updates.next().await {
        assert_ne!(job.name, "c");
    }
    assert_eq!(hub.updates().boxed().next().await, None, "a later stream ends, too");
}

/// A scraper that signals that it has begun and then blocks its thread until a message arrives, like a decoder that never
/// yields.
struct BlockingScraper {
    began: tokio::sync::Notify,
    resume: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Scrape for BlockingScraper {
    fn scrape<'a>(
        &'a self,
        _: &'a WorkerEndpoint,
        _: &'a [String],
        _: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        self.began.notify_one();
        let resumed = self.resume.lock().recv_timeout(30 * SECOND);
        let processed = resumed.is_ok().then_some(1.0);
        std::future::ready(Ok(WorkerSample { processed, ..WorkerSample::default() })).boxed()
    }
}

/// The test has one thread. If the hub's tasks used it, the message that ends the wait could not be sent.
///
/// Catalogue: B1.
#[tokio::test]
async fn decoding_uses_the_threads_of_the_hub_only() {
    let (fake, _) = FakeSources::start();
    let (sender, receiver) = std::sync::mpsc::channel();
    let scrape = Arc::new(BlockingScraper { began: tokio::sync::Notify::new(), resume: Mutex::new(receiver) });
    let threads = Threads::start().unwrap();
    let hub = Hub::on_threads(threads, Limits::default(), Clock::system(), Arc::new(fake), Arc::clone(&scrape) as _);
    let mut updates = std::pin::pin!(hub.updates());
    hub.watch(&job("a"), WatchSpec { sources: Vec::new(), workers: vec![worker("w")], ..watch("k", "orders") });
    scrape.began.notified().await;
    sender.send(()).unwrap();
    assert_eq!(updates.next().await, Some(job("a")));
    assert_eq!(hub.read(&job("a")).unwrap().workers[0].sample.as_ref().unwrap().processed, Some(1.0));
    drop(sender);
    hub.shutdown().await;
}
