//! Tests of whole workers against krafka's fake broker. It shares krafka's code, so real Kafka is the authority; the
//! figures measured there are in docs/worker-metrics.md.

use std::collections::BTreeMap;

use krafka::testing::FakeBroker;
use tokio::task::JoinHandle;

use super::load::profile::{LoadProfile, Step};
use super::load::{Progress, Target, replay};
use super::*;

const PARTITIONS: i32 = 6;

struct Running {
    stop: CancellationToken,
    address: SocketAddr,
    done: JoinHandle<Result<Snapshot, Error>>,
}

impl Running {
    async fn stop(self) -> Snapshot {
        self.stop.cancel();
        self.done.await.unwrap().unwrap()
    }

    /// Returns the status and the body of a path; status 0 while the worker does not answer.
    async fn get(&self, path: &str) -> (u16, String) {
        match reqwest::get(format!("http://{}{path}", self.address)).await {
            Ok(response) => (response.status().as_u16(), response.text().await.unwrap()),
            Err(_) => (0, String::new()),
        }
    }

    async fn partitions(&self) -> usize {
        self.get("/metrics").await.1.matches("sluice_worker_next_offset{").count()
    }
}

/// Returns a free port. Another process could take it before it is used, but none here does.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn start(broker: &FakeBroker, name: &str, cost: Cost) -> Running {
    start_and_join_after(broker, name, cost, Duration::ZERO).await
}

async fn start_and_join_after(broker: &FakeBroker, name: &str, cost: Cost, join_after: Duration) -> Running {
    let address = free_address().await;
    let settings = Settings {
        kafka: KafkaSettings {
            bootstrap_servers: broker.bootstrap_servers(),
            topic: "orders".to_owned(),
            group: "enricher".to_owned(),
            // The fake broker's classic groups have a single member.
            group_protocol: GroupProtocol::Consumer,
            start: Start::Earliest,
            static_membership: false,
            leave_on_stop: LeaveOnStop::Always,
            session_timeout: Duration::from_secs(10),
        },
        source: "orders".to_owned(),
        name: name.to_owned(),
        listen: address,
        cost,
        join_after,
        commit_interval: Duration::from_millis(100),
        drain_timeout: Duration::from_secs(10),
        processing_file: None,
        totals: false,
    };
    let stop = CancellationToken::new();
    let done = tokio::spawn({
        let stop = stop.clone();
        async move { run(&settings, Clock::system(), stop, |_| {}).await }
    });
    Running { stop, address, done }
}

async fn load(broker: &FakeBroker, rate: f64, seconds: f64) -> Progress {
    let target = Target {
        bootstrap_servers: broker.bootstrap_servers(),
        topic: "orders".to_owned(),
        create_partitions: Some(PARTITIONS),
        record_bytes: 10,
        keys: None,
        skew: 0.0,
    };
    let profile = LoadProfile::new(&[Step { seconds, rate }]);
    replay(&profile, &target, Clock::system(), CancellationToken::new(), |_| {}).await.unwrap()
}

/// Checks repeatedly until the condition holds, for at most 20 s.
async fn eventually<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let asking = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), asking).await.is_ok(), "{what}");
}

fn committed(broker: &FakeBroker) -> BTreeMap<i32, i64> {
    (0..PARTITIONS).filter_map(|p| Some((p, broker.committed_offset("enricher", "orders", p)?))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_partitions_and_a_drain_loses_nothing() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", PARTITIONS);
    let cost = Cost { wait: Duration::from_millis(1), cpu: Duration::ZERO };

    let first = start(&broker, "orders-0", cost).await;
    eventually("the first worker owns everything", || async { first.partitions().await == 6 }).await;
    assert_eq!(first.get("/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(first.get("/livez").await.0, 200);

    // Load runs while partitions move between the workers.
    let (sent, second) = tokio::join!(load(&broker, 300.0, 6.0), async {
        let second = start(&broker, "orders-1", cost).await;
        eventually("each owns half", || async { first.partitions().await == 3 && second.partitions().await == 3 })
            .await;
        let second = second.stop().await;
        eventually("the first has everything again", || async { first.partitions().await == 6 }).await;
        second
    });
    assert!(sent.kept_pace() && sent.failed == 0, "{sent:?}");

    let sent = sent.acknowledged;
    eventually("everything is processed and committed", || async {
        committed(&broker).values().sum::<i64>() == i64::try_from(sent).unwrap()
    })
    .await;
    let first = first.stop().await;
    assert!(second.processed > 0, "the second one had its share");
    // On an overloaded machine the epoch may advance during the last commit, and a few records are processed twice.
    let processed = first.processed + second.processed;
    assert!((sent..=sent + sent / 20).contains(&processed), "{processed} processed of {sent}");
    assert_eq!(first.in_time, None, "without a processing file the objective is unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_survives_a_broker_outage() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", PARTITIONS);
    let worker = start(&broker, "orders-0", Cost::default()).await;
    eventually("it owns everything", || async { worker.partitions().await == 6 }).await;

    broker.crash(0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(worker.get("/livez").await.0, 200, "it must not be restarted");
    broker.restart(0);

    let sent = load(&broker, 200.0, 1.0).await;
    eventually("it consumes again", || async {
        committed(&broker).values().sum::<i64>() == i64::try_from(sent.acknowledged).unwrap()
    })
    .await;
    assert!(worker.stop().await.processed >= sent.acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_with_join_delay_is_ready_and_can_be_stopped() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", PARTITIONS);
    let wait = Duration::from_secs(2);
    let worker = start_and_join_after(&broker, "orders-0", Cost::default(), wait).await;
    eventually("it is ready", || async { worker.get("/readyz").await.0 == 200 }).await;
    assert_eq!(worker.partitions().await, 0, "it has not joined");
    eventually("it owns everything", || async { worker.partitions().await == 6 }).await;
    worker.stop().await;

    let worker = start_and_join_after(&broker, "orders-1", Cost::default(), Duration::from_hours(1)).await;
    eventually("it is ready", || async { worker.get("/readyz").await.0 == 200 }).await;
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), worker.stop()).await.unwrap().processed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_without_a_topic_can_be_stopped() {
    let broker = FakeBroker::start().await.unwrap();
    let worker = start(&broker, "orders-0", Cost::default()).await;
    eventually("it answers", || async { worker.get("/livez").await.0 == 200 }).await;
    assert_eq!(worker.get("/readyz").await.0, 503, "the topic does not exist, so it has not joined");
    let stopping = tokio::time::timeout(Duration::from_secs(5), worker.stop());
    assert_eq!(stopping.await.unwrap().processed, 0);
}
