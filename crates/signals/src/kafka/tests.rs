//! Tests against krafka's fake broker: the content of answers, and what one fault leaves of the others. The authority
//! on what Kafka answers is `tests/kafka_real.rs`.

use std::collections::BTreeMap;

use axum::body::Bytes;
use krafka::Record;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, ClassicGroupState, Control, FakeBroker, GroupMember};
use tokio::net::TcpListener;

use super::*;
use crate::sample::{Category, SourceSample};
use sluice_base::units::Seconds;

const SECOND: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(2);

fn connect() -> KafkaConnect {
    KafkaConnect::new(Clock::system(), Egress::allow_loopback())
}

fn place(servers: &[String]) -> ClusterAddress {
    ClusterAddress { servers: servers.to_vec(), namespace: None }
}

fn cluster(broker: &FakeBroker) -> KafkaCluster {
    let servers: Vec<_> = broker.bootstrap_servers().split(',').map(str::to_owned).collect();
    KafkaCluster::new(&connect(), &place(&servers))
}

fn request(topic: &str, group: &str) -> GroupTopic {
    GroupTopic { topic: topic.to_owned(), group: group.to_owned(), latency: 10 * SECOND }
}

async fn sample(cluster: &KafkaCluster, topic: &str, group: &str) -> Result<SourceSample, SourceError> {
    cluster.sample(&[request(topic, group)], DEADLINE).await.remove(0)
}

async fn produce(broker: &FakeBroker, topic: &str, partition: i32, records: usize) {
    let producer =
        Kafka::builder(broker.bootstrap_servers()).connect().await.unwrap().producer().build().await.unwrap();
    for _ in 0..records {
        let _ = producer.send(Record::new(topic, "x").partition(partition)).await.unwrap();
    }
}

/// Sets what the fake broker does not answer: whether these topics' timestamps are the producers', valid until `until`.
fn know(cluster: &KafkaCluster, producers: &[(&str, bool)], until: tokio::time::Instant) {
    let mut kept = cluster.kept.lock();
    let timestamp_types = &mut Arc::get_mut(&mut kept).unwrap().timestamp_types;
    for (topic, set_by_producers) in producers {
        let timestamp_type = timestamp_types.get_mut(*topic).unwrap();
        (timestamp_type.set_by_producers, timestamp_type.refresh_at) = (Some(*set_by_producers), until);
    }
}

/// Returns a time after the end of the test.
fn later() -> tokio::time::Instant {
    Clock::system().monotonic() + 600 * SECOND
}

fn commit(broker: &FakeBroker, group: &str, topic: &str, partition: i32, offset: i64) {
    broker.with_state(|state| {
        let offset = krafka::testing::CommittedOffset { offset, leader_epoch: -1, metadata: None };
        state.groups.entry(group.to_owned()).or_default().offsets.insert((topic.to_owned(), partition), offset);
    });
}

#[tokio::test]
async fn offsets_are_passed_on_unchanged() {
    let broker = FakeBroker::start_cluster(3).await.unwrap();
    broker.create_topic("orders", 4);
    produce(&broker, "orders", 0, 3).await;
    produce(&broker, "orders", 1, 3).await;
    commit(&broker, "g", "orders", 0, 2);
    commit(&broker, "g", "orders", 1, 99);
    let before = Clock::system().now();
    let sample = sample(&cluster(&broker), "orders", "g").await.unwrap();
    assert!(sample.at >= before && sample.at.0 < before.0 + 5.0);
    let partitions: Vec<_> =
        sample.partitions.iter().map(|each| (each.id.as_str(), each.start, each.end, each.committed)).collect();
    assert_eq!(partitions[0], ("orders/0", Some(0), Some(3), Some(2)));
    assert_eq!(partitions[1], ("orders/1", Some(0), Some(3), Some(99)), "beyond the end: the policy handles that");
    assert_eq!(partitions[2], ("orders/2", Some(0), Some(0), Some(-1)));
    let due: Vec<_> = sample.partitions.iter().map(|each| each.due_end).collect();
    assert_eq!(due, [None; 4], "the fake broker does not report the timestamp type");
    let high: Vec<_> = sample.partitions.iter().map(|each| each.high_watermark).collect();
    assert_eq!(high, [Some(3), Some(3), Some(0), Some(0)]);
}

#[tokio::test]
async fn records_older_than_the_objective_are_due() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    produce(&broker, "orders", 0, 3).await;
    let cluster = cluster(&broker);
    tokio::time::sleep(SECOND / 2).await;
    let latency = SECOND / 4;
    let requests = [GroupTopic { latency, ..request("orders", "g") }, request("orders", "g")];
    cluster.sample(&requests, DEADLINE).await;
    know(&cluster, &[("orders", false)], later());
    let answers = cluster.sample(&requests, DEADLINE).await;
    let due: Vec<_> = answers.iter().map(|answer| answer.as_ref().unwrap().partitions[0].due_end).collect();
    assert_eq!(due, [Some(3), Some(0)], "each request has its own latency");
}

#[tokio::test]
async fn producer_timestamps_give_no_due_ends() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    broker.create_topic("refunds", 1);
    produce(&broker, "orders", 0, 3).await;
    produce(&broker, "refunds", 0, 3).await;
    let cluster = cluster(&broker);
    let requests = [request("orders", "g"), request("refunds", "g")];
    let summary = |answers: SampleResults| -> Vec<_> {
        let samples = answers.into_iter().map(Result::unwrap);
        samples.map(|sample| (sample.producer_time, sample.partitions[0].end, sample.partitions[0].due_end)).collect()
    };
    // The fake broker does not know a topic's configuration.
    let unknown = summary(cluster.sample(&requests, DEADLINE).await);
    assert_eq!(unknown, [(None, Some(3), None), (None, Some(3), None)]);
    know(&cluster, &[("orders", true), ("refunds", false)], later());
    let known = summary(cluster.sample(&requests, DEADLINE).await);
    assert_eq!(known, [(Some(true), Some(3), None), (Some(false), Some(3), Some(0))]);
}

#[tokio::test]
async fn timestamp_type_stays_known_without_an_answer() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    produce(&broker, "orders", 0, 3).await;
    let cluster = cluster(&broker);
    sample(&cluster, "orders", "g").await.unwrap();
    let due_for_another_look = Clock::system().monotonic();
    know(&cluster, &[("orders", true)], due_for_another_look);
    let refused = sample(&cluster, "orders", "g").await.unwrap();
    assert_eq!((refused.producer_time, refused.partitions[0].due_end), (Some(true), None));
    assert!(
        cluster.kept.lock().timestamp_types["orders"].refresh_at > due_for_another_look,
        "the next request is not due at once"
    );
    // For a moment the broker does not answer about the topic, while another topic is read.
    broker.create_topic("refunds", 1);
    broker.with_state(|state| _ = state.topics.remove("orders"));
    let answers = cluster.sample(&[request("orders", "g"), request("refunds", "g")], DEADLINE).await;
    assert_eq!((answers[0].is_ok(), answers[1].is_ok()), (false, true));
    assert_eq!(cluster.kept.lock().timestamp_types["orders"].set_by_producers, Some(true));
}

#[tokio::test]
async fn recreated_topic_has_its_own_timestamp_type() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let cluster = cluster(&broker);
    sample(&cluster, "orders", "g").await.unwrap();
    know(&cluster, &[("orders", true)], later());
    Arc::get_mut(&mut cluster.kept.lock()).unwrap().timestamp_types.get_mut("orders").unwrap().id = [7; 16];
    assert_eq!(sample(&cluster, "orders", "g").await.unwrap().producer_time, None);
}

#[tokio::test]
async fn open_transaction_is_between_end_and_high_watermark() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    produce(&broker, "orders", 0, 5).await;
    broker.with_state(|state| _ = state.partition_mut("orders", 0).unwrap().open_transactions.insert(1, 2));
    let partition = &sample(&cluster(&broker), "orders", "g").await.unwrap().partitions[0];
    assert_eq!((partition.end, partition.high_watermark), (Some(2), Some(5)));
}

#[tokio::test]
async fn partition_without_leader_does_not_delay_others() {
    let broker = FakeBroker::start_cluster(3).await.unwrap();
    broker.create_topic("orders", 3);
    commit(&broker, "g", "orders", 1, 0);
    broker.with_state(|state| state.partition_mut("orders", 1).unwrap().leader = -1);
    let cluster = cluster(&broker);
    let clock = Clock::system();
    let before = clock.monotonic();
    let sample = sample(&cluster, "orders", "g").await.unwrap();
    assert!(clock.monotonic() - before < SECOND, "nothing is retried until the timeout");
    let sick = &sample.partitions[1];
    assert_eq!((sick.start, sick.end, sick.due_end, sick.committed), (None, None, None, Some(0)));
    assert_eq!(sick.problem.as_deref(), Some("the partition has no leader"));
    assert!(
        [0, 2]
            .iter()
            .all(|number| sample.partitions[*number].end == Some(0) && sample.partitions[*number].problem.is_none())
    );
}

#[tokio::test]
async fn topic_without_any_leader_is_unreachable() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    broker.with_state(|state| state.partition_mut("orders", 0).unwrap().leader = -1);
    let error = sample(&cluster(&broker), "orders", "g").await.unwrap_err();
    assert_eq!(error.category(), Category::Unreachable);
    assert!(error.to_string().contains("no partition of topic orders has a leader"), "{error}");
}

#[tokio::test]
async fn silent_broker_affects_only_its_partitions() {
    let broker = FakeBroker::start_cluster(3).await.unwrap();
    broker.create_topic("orders", 6);
    for partition in 0..6 {
        broker.set_leader("orders", partition, partition % 3);
    }
    broker.set_group_coordinator("g", 0);
    broker.on(ApiKey::ListOffsets, |request| if request.node_id == 2 { Control::Silence } else { Control::Pass });
    let cluster = cluster(&broker);
    let clock = Clock::system();
    let before = clock.monotonic();
    let sample = sample(&cluster, "orders", "g").await.unwrap();
    assert!(clock.monotonic() - before < DEADLINE);
    for (number, partition) in sample.partitions.iter().enumerate() {
        assert_eq!(partition.end.is_none(), number % 3 == 2, "{partition:?}");
        assert_eq!(partition.problem.is_some(), number % 3 == 2, "{partition:?}");
        assert_eq!(partition.committed, Some(-1));
    }
}

#[tokio::test]
async fn unreadable_commits_are_unknown() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    broker.on(ApiKey::OffsetFetch, |_| Control::Error(ErrorCode::GroupAuthorizationFailed));
    let sample = sample(&cluster(&broker), "orders", "g").await.unwrap();
    assert_eq!((sample.partitions[0].end, sample.partitions[0].committed), (Some(0), None));
    let problem = sample.partitions[0].problem.as_deref().unwrap();
    assert_eq!(
        problem,
        "failed to read the committed offsets of the group: the broker answered GroupAuthorizationFailed"
    );
}

#[tokio::test]
async fn undescribable_group_is_unknown() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    broker.on(ApiKey::DescribeGroups, |_| Control::Error(ErrorCode::GroupAuthorizationFailed));
    let sample = sample(&cluster(&broker), "orders", "g").await.unwrap();
    assert_eq!((sample.group, sample.partitions[0].committed), (None, Some(-1)));
}

/// Adds members to a classic group, each with these partitions of the topic.
fn join(broker: &FakeBroker, group: &str, topic: &str, members: &[(&str, &[i32])]) {
    let bytes = |partitions: &[i32]| {
        let mut bytes = [0_i16.to_be_bytes().as_slice(), &1_i32.to_be_bytes()].concat();
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
        bytes.extend(i32::try_from(partitions.len()).unwrap().to_be_bytes());
        bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    };
    broker.with_state(|state| {
        let group = state.groups.entry(group.to_owned()).or_default();
        "consumer".clone_into(&mut group.protocol_type);
        group.state = ClassicGroupState::Stable;
        for (id, partitions) in members {
            group.members.push(GroupMember {
                member_id: (*id).to_owned(),
                group_instance_id: None,
                metadata: Bytes::new(),
                client_id: "consumer".to_owned(),
                client_host: "/10.0.0.1".to_owned(),
            });
            group.assignments.insert((*id).to_owned(), bytes(partitions).into());
        }
    });
}

#[tokio::test]
async fn assignments_are_unknown_during_a_rebalance() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 3);
    join(&broker, "g", "orders", &[("m-1", &[0, 2]), ("m-2", &[])]);
    let cluster = cluster(&broker);
    let members = async || {
        let group = sample(&cluster, "orders", "g").await.unwrap().group.unwrap();
        group.members.into_iter().map(|member| (member.member_id, member.partitions)).collect::<BTreeMap<_, _>>()
    };
    let known = |first, second| BTreeMap::from([("m-1".to_owned(), first), ("m-2".to_owned(), second)]);
    assert_eq!(members().await, known(Some(2), Some(0)));
    let owner = sample(&cluster, "orders", "g").await.unwrap().partitions[2].owner.clone().unwrap();
    assert_eq!((owner.member_id.as_str(), owner.host.as_str()), ("m-1", "10.0.0.1"));
    broker.with_state(|state| state.groups.get_mut("g").unwrap().state = ClassicGroupState::CompletingRebalance);
    assert_eq!(members().await, known(None, None));
}

#[tokio::test]
async fn missing_topic_does_not_affect_others() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let cluster = cluster(&broker);
    let answers =
        cluster.sample(&[request("nowhere", "g"), request("a b", "g"), request("orders", "g")], DEADLINE).await;
    for (answer, name) in answers.iter().zip(["nowhere", "a b"]) {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(error.category(), Category::TopicMissing);
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(answers[2].is_ok());
}

#[tokio::test]
async fn many_jobs_take_few_requests() {
    let broker = FakeBroker::start_cluster(3).await.unwrap();
    for topic in 0..20 {
        broker.create_topic(&format!("t-{topic}"), 12);
    }
    let requests: Vec<_> = (0..300).map(|job| request(&format!("t-{}", job % 20), &format!("g-{job}"))).collect();
    let cluster = cluster(&broker);
    let deadline = 10 * SECOND;
    assert!(cluster.sample(&requests, deadline).await.iter().all(Result::is_ok));
    broker.clear_requests();
    let clock = Clock::system();
    let before = clock.monotonic();
    assert!(cluster.sample(&requests, deadline).await.iter().all(Result::is_ok));
    let took = clock.monotonic() - before;
    let mut counts = BTreeMap::new();
    for request in broker.requests() {
        *counts.entry(format!("{:?}", request.api_key)).or_insert(0_usize) += 1;
    }
    println!("{took:?}, {} connections: {counts:?}", broker.open_connections());
    assert_eq!(
        counts["ListOffsets"], 9,
        "ends, high watermarks and starts, at three leaders; empty partitions need no more: {counts:?}"
    );
    assert_eq!(counts["OffsetFetch"], 300);
    assert!(counts["DescribeGroups"] <= 3 && counts["FindCoordinator"] <= 600, "{counts:?}");
    assert!(counts.get("Metadata").copied().unwrap_or(0) <= 1, "{counts:?}");
    assert!(broker.open_connections() <= 8);
}

#[tokio::test]
async fn silent_cluster_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cluster = KafkaCluster::new(&connect(), &place(&[listener.local_addr().unwrap().to_string()]));
    let clock = Clock::system();
    let before = clock.monotonic();
    let error = sample(&cluster, "orders", "g").await.unwrap_err();
    assert_eq!(error.category(), Category::Unreachable);
    assert!(clock.monotonic() - before < DEADLINE, "{error}");
}

#[tokio::test]
async fn crashed_cluster_is_read_again_after_a_restart() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let cluster = cluster(&broker);
    sample(&cluster, "orders", "g").await.unwrap();
    let node = broker.with_state(|state| state.partition("orders", 0).unwrap().leader);
    broker.crash(node);
    for _ in 0..4 {
        assert_eq!(sample(&cluster, "orders", "g").await.unwrap_err().category(), Category::Unreachable);
    }
    assert!(cluster.client.lock().await.is_none(), "the client was dropped");
    broker.restart(node);
    let mut left = 20;
    while sample(&cluster, "orders", "g").await.is_err() {
        left -= 1;
        assert!(left > 0, "it recovers");
        tokio::time::sleep(SECOND / 10).await;
    }
    assert_eq!(cluster.misses.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn dropped_round_counts_as_a_miss() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let cluster = cluster(&broker);
    sample(&cluster, "orders", "g").await.unwrap();
    know(&cluster, &[("orders", true)], later());
    let requests = [request("orders", "g")];
    assert!(cluster.sample(&requests, DEADLINE).now_or_never().is_none());
    assert_eq!(cluster.misses.load(Ordering::Relaxed), 1);
    assert_eq!(
        cluster.kept.lock().timestamp_types["orders"].set_by_producers,
        Some(true),
        "what was known remains known"
    );
    assert_eq!(sample(&cluster, "orders", "g").await.unwrap().producer_time, Some(true));
}

#[tokio::test]
async fn bootstrap_servers_are_checked_before_dialling() {
    let servers = ["127.0.0.1:1".to_owned(), "169.254.169.254:9092".to_owned()];
    let cluster =
        KafkaCluster::new(&KafkaConnect { clock: Clock::starting_at(Seconds(0.0)), ..connect() }, &place(&servers));
    let error = sample(&cluster, "orders", "g").await.unwrap_err();
    assert_eq!(error.category(), Category::DestinationRefused);
    assert!(
        error
            .to_string()
            .starts_with("failed to connect to 127.0.0.1:1 (and 1 more): 169.254.169.254:9092 is a link-local"),
        "{error}"
    );
}
