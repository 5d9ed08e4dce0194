//! Tests of brokers that advertise other addresses than their own.

use krafka::testing::FakeBroker;
use tokio::net::TcpListener;

use super::super::round::{RoundCache, gather};
use super::super::{CONNECT_TIMEOUT, KafkaCluster, KafkaConnect};
use super::*;
use crate::egress::AddressRange;
use crate::sample::Category;
use crate::source::{Cluster as _, ClusterAddress, GroupTopic};
use sluice_base::clock::Clock;

const DEADLINE: Duration = Duration::from_secs(2);

fn request() -> GroupTopic {
    GroupTopic { topic: "orders".to_owned(), group: "g".to_owned(), latency: Duration::from_secs(10) }
}

fn cluster(broker: &FakeBroker, egress: Egress) -> KafkaCluster {
    let servers: Vec<_> = broker.bootstrap_servers().split(',').map(str::to_owned).collect();
    KafkaCluster::new(&KafkaConnect::new(Clock::system(), egress), &ClusterAddress { servers, namespace: None })
}

async fn sample(cluster: &KafkaCluster) -> Result<SourceSample, SourceError> {
    cluster.sample(&[request()], DEADLINE).await.remove(0)
}

/// Makes the broker advertise this address.
fn advertise(broker: &FakeBroker, node: usize, host: &str, port: u16) {
    broker.with_state(|state| {
        state.brokers[node].host = host.to_owned();
        state.brokers[node].port = i32::from(port);
    });
}

/// Catalogue: S12.
#[tokio::test]
async fn advertised_addresses_are_checked_like_given_ones() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 2);
    // Stands for the API server: it would answer, but must not be connected to.
    let api_server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = api_server.local_addr().unwrap().port();
    let own = broker.bootstrap_servers().rsplit_once(':').unwrap().1.parse().unwrap();
    let allowed = AddressRange::for_address("127.0.0.1".parse().unwrap(), Some(own));
    for (host, port, words) in [
        ("169.254.169.254", 80, "169.254.169.254:80 is a link-local address"),
        ("127.0.0.1", port, "is the API server"),
        ("2852039166", 80, "(169.254.169.254:80) is a link-local address"),
        ("localhost", port, "localhost:"),
    ] {
        advertise(&broker, 0, host, port);
        let closed = vec![
            AddressRange::for_address("127.0.0.1".parse().unwrap(), Some(port)),
            AddressRange::for_address("::1".parse().unwrap(), None),
        ];
        let cluster = cluster(&broker, Egress::new(vec![allowed], Vec::new(), closed));
        // In every round, not only in the first one.
        for _ in 0..3 {
            let error = sample(&cluster).await.unwrap_err();
            assert_eq!(error.category(), Category::DestinationRefused, "{error}");
            assert!(matches!(error, SourceError::Forbidden { .. }) && error.to_string().contains(words), "{error}");
        }
    }
    assert!(futures::FutureExt::now_or_never(api_server.accept()).is_none(), "no connection was made");
}

#[tokio::test]
async fn allowed_broker_is_read_beside_a_denied_one() {
    let broker = FakeBroker::start_cluster(2).await.unwrap();
    broker.create_topic("orders", 4);
    for partition in 0..4 {
        broker.set_leader("orders", partition, partition % 2);
    }
    broker.set_group_coordinator("g", 0);
    advertise(&broker, 1, "169.254.169.254", 80);
    let cluster = cluster(&broker, Egress::allow_loopback());
    for _ in 0..2 {
        let sample = sample(&cluster).await.unwrap();
        for (number, partition) in sample.partitions.iter().enumerate() {
            assert_eq!(partition.end.is_none(), number % 2 == 1, "{partition:?}");
            let reported = partition
                .problem
                .as_ref()
                .is_some_and(|problem| problem.contains("169.254.169.254:80 is a link-local"));
            assert_eq!(reported, number % 2 == 1, "{partition:?}");
        }
    }
}

#[tokio::test]
async fn round_through_the_tunnel_reads_the_same() {
    const ROUNDS: u32 = 30;
    let broker = FakeBroker::start_cluster(3).await.unwrap();
    broker.create_topic("orders", 36);
    let proxy = BrokerAccess::new(Limits::default(), CONNECT_TIMEOUT)
        .register_client(Egress::allow_loopback(), ShortNames::ThisProcess)
        .await
        .unwrap();
    let clock = Clock::system();
    let mut took = [Duration::ZERO; 2];
    let mut ends = [Vec::new(), Vec::new()];
    let builder = || krafka::Kafka::builder(broker.bootstrap_servers());
    let clients = [
        builder().connect().await.unwrap().admin(),
        builder().proxy(proxy_config(&proxy)).connect().await.unwrap().admin(),
    ];
    for number in 0..=ROUNDS {
        for (which, client) in clients.iter().enumerate() {
            let before = clock.monotonic();
            let round = gather(client, &clock, &[request()], DEADLINE, Arc::new(RoundCache::default()), None).await;
            // The first round connects.
            took[which] += if number > 0 { clock.monotonic() - before } else { Duration::ZERO };
            assert!(round.ends.values().all(Result::is_ok));
            ends[which] = round.ends.keys().map(|partition| partition.partition).collect();
            ends[which].sort_unstable();
        }
    }
    let [direct, through] = took.map(|time| time / ROUNDS);
    println!("a round of 36 partitions: {direct:?} without the tunnel, {through:?} with it");
    assert_eq!(ends[0], (0..36).collect::<Vec<_>>());
    assert_eq!(ends[0], ends[1]);
}

/// Catalogue: B1.
#[test]
fn topic_list_memory_is_limited_except_for_short_lists() {
    const MIB: u64 = 1 << 20;
    let broker_access = BrokerAccess::new(Limits { topic_list_bytes: 64 << 20, ..Limits::default() }, CONNECT_TIMEOUT);
    let held: Vec<Option<TopicList>> = (0..50).map(|_| broker_access.reserve_topic_list(MIB)).collect();
    assert_eq!(held.iter().flatten().count(), 6, "1 MiB sent is 10 MiB held");
    assert!(broker_access.reserve_topic_list(1 << 17).is_some());
    drop(held);
    assert!(broker_access.reserve_topic_list(6 * MIB).is_some(), "all memory was returned");
}
