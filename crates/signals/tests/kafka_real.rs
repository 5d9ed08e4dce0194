//! Tests `signals::kafka` against a real broker. It is the authority, because krafka's fake broker shares krafka's code.
//!
//! Not part of plain `cargo test`. With a broker from `hack/kafka up`:
//!
//! ```text
//! SLUICE_TEST_KAFKA_HOST=127.0.0.1:19092 cargo test --test kafka_real
//! ```
//!
//! One test stops the broker and starts it again, with `$SLUICE_TEST_KAFKA_CONTROL stop|start` (default: hack/kafka).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use krafka::Kafka;
use krafka::Record;
use krafka::admin::{CreatePartitionsOptions, CreateTopicsOptions, DescribeTopicsOptions, NewTopic};
use krafka::consumer::{AutoOffsetReset, Consumer, GroupProtocol};
use sluice_base::clock::Clock;
use sluice_signals::source::GroupTopic;
use sluice_signals::{Category, Cluster, Connect, Egress, KafkaConnect, SourceSample};
use tokio::sync::RwLock;

const SECOND: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(2);

/// Locked for writing by the test that stops the broker.
static BROKER: RwLock<()> = RwLock::const_new(());

fn host() -> String {
    std::env::var("SLUICE_TEST_KAFKA_HOST").expect(
        "SLUICE_TEST_KAFKA_HOST is not set: start a broker with `hack/kafka up` and set it to the output of `hack/kafka bootstrap`",
    )
}

/// Returns a name that no other run uses.
fn fresh(what: &str) -> String {
    format!("{what}-{:016x}", RandomState::new().hash_one(0))
}

async fn kafka(client_id: &str) -> Kafka {
    let host = host();
    Kafka::builder(&host).client_id(client_id).connect().await.unwrap_or_else(|error| panic!("{host}: {error}"))
}

async fn topic(partitions: i32) -> String {
    topic_with(partitions, "LogAppendTime").await
}

async fn topic_with(partitions: i32, timestamps: &str) -> String {
    let name = fresh("topic");
    let new = NewTopic::new(&name, partitions, 1).unwrap().with_config("message.timestamp.type", timestamps);
    let admin = kafka("test").await.admin();
    let created = admin.create_topics([new], CreateTopicsOptions::default()).await.unwrap();
    created[&name].as_ref().unwrap();
    // The controller knows the topic; the broker learns of it a moment later.
    while admin.describe_topics([&name], DescribeTopicsOptions::default()).await.unwrap()[&name].is_err() {
        tokio::time::sleep(SECOND / 20).await;
    }
    name
}

async fn produce(topic: &str, partition: i32, records: usize) {
    let producer = kafka("test").await.producer().build().await.unwrap();
    for _ in 0..records {
        let _ = producer.send(Record::new(topic, "x").partition(partition)).await.unwrap();
    }
    producer.close().await.unwrap();
}

fn cluster() -> Arc<dyn Cluster> {
    KafkaConnect::new(Clock::system(), Egress::allow_loopback()).connect(&[host()])
}

fn request(topic: &str, group: &str, latency: Duration) -> GroupTopic {
    GroupTopic { topic: topic.to_owned(), group: group.to_owned(), latency }
}

/// Takes a sample, and returns it with the time that it took.
async fn sample(cluster: &dyn Cluster, topic: &str, group: &str, latency: Duration) -> (SourceSample, Duration) {
    let clock = Clock::system();
    let before = clock.monotonic();
    let mut answers = cluster.sample(&[request(topic, group, latency)], DEADLINE).await;
    let took = clock.monotonic() - before;
    let sample = answers.remove(0).unwrap_or_else(|error| panic!("{error}"));
    println!("{took:?} {:?} {:?}", sample.group, sample.partitions.first());
    (sample, took)
}

/// Waits until every partition has an owner, and the group is stable.
async fn settled(cluster: &dyn Cluster, topic: &str, group: &str, members: usize) -> SourceSample {
    for _ in 0..100 {
        let (sample, _) = sample(cluster, topic, group, SECOND).await;
        let group = sample.group.as_ref().expect("the group can be read");
        let owned = sample.partitions.iter().all(|partition| partition.owner.is_some());
        if group.state == "Stable" && group.members.len() == members && owned {
            return sample;
        }
        tokio::time::sleep(SECOND / 5).await;
    }
    panic!("the group did not settle");
}

#[tokio::test]
async fn missing_group_is_dead_without_commits() {
    let _up = BROKER.read().await;
    let topic = topic(12).await;
    produce(&topic, 3, 5).await;
    let cluster = cluster();
    let (sample, _) = sample(cluster.as_ref(), &topic, &fresh("group"), 60 * SECOND).await;
    assert_eq!(sample.partitions.len(), 12);
    assert_eq!(sample.partitions[11].id, format!("{topic}/11"));
    for (number, partition) in sample.partitions.iter().enumerate() {
        let end = if number == 3 { 5 } else { 0 };
        assert_eq!((partition.start, partition.end), (Some(0), Some(end)));
        assert_eq!((partition.committed, partition.due_end), (Some(-1), Some(0)), "none committed, none due yet");
        assert_eq!((&partition.owner, &partition.problem), (&None, &None));
    }
    let group = sample.group.unwrap();
    assert_eq!((group.state.as_str(), group.assignor, group.members.len()), ("Dead", None, 0));
}

#[tokio::test]
async fn producer_timestamps_are_reported_and_not_looked_up() {
    let _up = BROKER.read().await;
    let (appended, created) = (topic(1).await, topic_with(1, "CreateTime").await);
    for topic in [&appended, &created] {
        produce(topic, 0, 2).await;
    }
    let cluster = cluster();
    for (topic, producer_time, due) in [(&appended, Some(false), Some(0)), (&created, Some(true), None)] {
        let (sample, _) = sample(cluster.as_ref(), topic, &fresh("group"), 60 * SECOND).await;
        assert_eq!(
            (sample.producer_time, sample.partitions[0].end, sample.partitions[0].due_end),
            (producer_time, Some(2), due)
        );
    }
}

async fn consumer(client_id: &str, topic: &str, group: &str, protocol: GroupProtocol) -> Arc<Consumer> {
    let consumer = kafka(client_id)
        .await
        .consumer(group)
        .group_protocol(protocol)
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .enable_auto_commit(false)
        .build()
        .await
        .unwrap();
    consumer.subscribe([topic]).await.unwrap();
    Arc::new(consumer)
}

async fn commits_members_and_owners(protocol: GroupProtocol, assignor: &str) {
    let _up = BROKER.read().await;
    let (topic, group) = (topic(12).await, fresh("group"));
    for partition in 0..12 {
        produce(&topic, partition, 2).await;
    }
    let members = [consumer("w-1", &topic, &group, protocol).await, consumer("w-2", &topic, &group, protocol).await];
    let polling: Vec<_> = members
        .iter()
        .cloned()
        .map(|member| tokio::spawn(async move { while member.poll(SECOND / 10).await.is_ok() {} }))
        .collect();
    let cluster = cluster();
    let sample_now = settled(cluster.as_ref(), &topic, &group, 2).await;
    let described = sample_now.group.unwrap();
    assert_eq!(described.assignor.as_deref(), Some(assignor));
    for member in ["w-1", "w-2"] {
        assert!(described.members.iter().any(|each| each.client_id == member));
        let owned =
            sample_now.partitions.iter().filter(|each| each.owner.as_ref().unwrap().client_id == member).count();
        assert_eq!(owned, 6, "{member}");
    }
    assert!(described.members.iter().all(|each| each.host == "127.0.0.1"), "{described:?}");
    assert!(sample_now.partitions.iter().all(|each| each.committed == Some(-1)), "the group has not committed");

    // The members poll in the background: commit until every produced record is committed.
    let mut committed = Vec::new();
    for _ in 0..50 {
        for member in &members {
            member.commit().await.unwrap();
        }
        let (sample_now, _) = sample(cluster.as_ref(), &topic, &group, SECOND).await;
        committed = sample_now.partitions.iter().map(|each| each.committed).collect();
        if committed == [Some(2); 12] {
            break;
        }
        tokio::time::sleep(SECOND / 5).await;
    }
    assert_eq!(committed, [Some(2); 12]);

    polling.iter().for_each(tokio::task::JoinHandle::abort);
    for member in &members {
        member.close().await.unwrap();
    }
    let (sample_now, _) = sample(cluster.as_ref(), &topic, &group, SECOND).await;
    let described = sample_now.group.unwrap();
    assert_eq!((described.state.as_str(), described.members.len()), ("Empty", 0));
    assert!(sample_now.partitions.iter().all(|each| each.owner.is_none() && each.committed == Some(2)));
}

#[tokio::test]
async fn commits_members_and_owners_of_a_classic_group() {
    commits_members_and_owners(GroupProtocol::Classic, "range").await;
}

#[tokio::test]
async fn commits_members_and_owners_of_a_kip_848_group() {
    commits_members_and_owners(GroupProtocol::Consumer, "uniform").await;
}

#[tokio::test]
async fn due_ends_are_exact_and_quiet_partitions_do_not_wait() {
    let _up = BROKER.read().await;
    let (topic, group) = (topic(3).await, fresh("group"));
    produce(&topic, 0, 10).await;
    produce(&topic, 1, 5).await;
    tokio::time::sleep(3 * SECOND).await;
    produce(&topic, 0, 7).await;
    let cluster = cluster();
    let due = |sample: &SourceSample| sample.partitions.iter().map(|each| each.due_end).collect::<Vec<_>>();
    // The first sample connects.
    sample(cluster.as_ref(), &topic, &group, 2 * SECOND).await;
    let (recent, took) = sample(cluster.as_ref(), &topic, &group, 2 * SECOND).await;
    assert_eq!(due(&recent), [Some(10), Some(5), Some(0)]);
    assert!(took < SECOND / 2, "krafka would retry the partition without so new a record: {took:?}");
    let (long, _) = sample(cluster.as_ref(), &topic, &group, 600 * SECOND).await;
    assert_eq!(due(&long), [Some(0), Some(0), Some(0)], "nothing is that old");
    tokio::time::sleep(2 * SECOND).await;
    let (later, took) = sample(cluster.as_ref(), &topic, &group, SECOND).await;
    assert_eq!(due(&later), [Some(17), Some(5), Some(0)]);
    assert!(took < SECOND / 2, "{took:?}");
}

#[tokio::test]
async fn open_transaction_ends_the_log_of_committed_records() {
    let _up = BROKER.read().await;
    let (topic, group) = (topic(1).await, fresh("group"));
    produce(&topic, 0, 4).await;
    let producer = kafka("test").await.producer().build_transactional(fresh("txn")).await.unwrap();
    producer.begin().unwrap();
    let _ = producer.send(Record::new(&topic, "x").partition(0)).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let cluster = cluster();
    let (open, _) = sample(cluster.as_ref(), &topic, &group, SECOND / 2).await;
    assert_eq!((open.partitions[0].end, open.partitions[0].due_end), (Some(4), Some(4)));
    assert_eq!(open.partitions[0].high_watermark, Some(5), "what is appended, though no consumer can read it yet");
    producer.commit().await.unwrap();
    tokio::time::sleep(SECOND).await;
    let (done, took) = sample(cluster.as_ref(), &topic, &group, SECOND / 2).await;
    assert_eq!((done.partitions[0].end, done.partitions[0].due_end), (Some(6), Some(6)), "with the marker");
    assert!(took < SECOND / 2, "{took:?}");
}

#[tokio::test]
async fn missing_topic_does_not_affect_others() {
    let _up = BROKER.read().await;
    let (topic, group, missing) = (topic(2).await, fresh("group"), fresh("missing"));
    let requests = [
        request(&missing, &group, SECOND),
        request(&topic, &group, SECOND),
        request("..", &group, SECOND),
        request(&topic, &group, 5 * SECOND),
    ];
    let answers = cluster().sample(&requests, DEADLINE).await;
    assert_eq!(answers.len(), 4);
    let error = answers[0].as_ref().unwrap_err();
    assert_eq!(error.category(), Category::TopicMissing);
    assert!(error.to_string().contains(&missing), "{error}");
    assert_eq!(answers[1].as_ref().unwrap().partitions.len(), 2);
    assert_eq!(answers[2].as_ref().unwrap_err().category(), Category::TopicMissing, "no topic can have that name");
    assert_eq!(answers[3].as_ref().unwrap().partitions.len(), 2);
}

#[tokio::test]
async fn new_partitions_are_found_at_once() {
    let _up = BROKER.read().await;
    let (topic, group) = (topic(3).await, fresh("group"));
    let cluster = cluster();
    assert_eq!(sample(cluster.as_ref(), &topic, &group, SECOND).await.0.partitions.len(), 3);
    let admin = kafka("test").await.admin();
    let grown = admin.create_partitions([(&topic, 5)], CreatePartitionsOptions::default()).await.unwrap();
    grown[&topic].as_ref().unwrap();
    tokio::time::sleep(SECOND / 2).await;
    produce(&topic, 4, 2).await;
    let (sample, _) = sample(cluster.as_ref(), &topic, &group, SECOND).await;
    assert_eq!(sample.partitions.len(), 5);
    assert_eq!(sample.partitions[4].end, Some(2));
}

#[tokio::test]
async fn three_hundred_groups_fit_into_one_round() {
    let _up = BROKER.read().await;
    let mut topics = Vec::new();
    for _ in 0..5 {
        let topic = topic(12).await;
        produce(&topic, 0, 1).await;
        topics.push(topic);
    }
    let groups: Vec<_> = (0..300).map(|_| fresh("group")).collect();
    let requests: Vec<_> =
        groups.iter().zip(topics.iter().cycle()).map(|(group, topic)| request(topic, group, 10 * SECOND)).collect();
    let (cluster, clock) = (cluster(), Clock::system());
    for _ in 0..3 {
        let before = clock.monotonic();
        let answers = cluster.sample(&requests, 10 * SECOND).await;
        println!("300 groups, 5 topics of 12 partitions: {:?}", clock.monotonic() - before);
        for answer in &answers {
            let partitions = &answer.as_ref().unwrap().partitions;
            assert!(
                partitions.iter().all(|each| each.committed == Some(-1) && each.due_end.is_some()),
                "{partitions:?}"
            );
        }
    }
}

async fn control(verb: &str) {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/kafka");
    let program = std::env::var("SLUICE_TEST_KAFKA_CONTROL").unwrap_or_else(|_| default.to_owned());
    let status = tokio::process::Command::new(&program).arg(verb).status().await.unwrap_or_else(|error| {
        panic!("failed to run {program} {verb}: {error}; set SLUICE_TEST_KAFKA_CONTROL to a program that takes stop and start")
    });
    assert!(status.success(), "{program} {verb}: {status}");
}

#[tokio::test]
async fn stopped_broker_is_unreachable_and_read_after_a_restart() {
    let _alone = BROKER.write().await;
    let (topic, group) = (topic(12).await, fresh("group"));
    produce(&topic, 0, 3).await;
    let cluster = cluster();
    sample(cluster.as_ref(), &topic, &group, SECOND).await;
    control("stop").await;
    let clock = Clock::system();
    for _ in 0..5 {
        let before = clock.monotonic();
        let answers = cluster.sample(&[request(&topic, &group, SECOND)], DEADLINE).await;
        let took = clock.monotonic() - before;
        let error = answers[0].as_ref().unwrap_err();
        println!("{took:?} {error}");
        assert_eq!(error.category(), Category::Unreachable, "{error}");
        assert!(took < DEADLINE, "{took:?}");
    }
    control("start").await;
    let before = clock.monotonic();
    loop {
        let answers = cluster.sample(&[request(&topic, &group, SECOND)], DEADLINE).await;
        if let Ok(sample) = &answers[0]
            && sample.partitions.iter().all(|each| each.end.is_some() && each.committed.is_some())
        {
            println!("read again {:?} after it was back", clock.monotonic() - before);
            assert_eq!((sample.partitions[0].end, sample.partitions.len()), (Some(3), 12));
            break;
        }
        assert!(clock.monotonic() - before < 20 * SECOND, "{answers:?}");
        tokio::time::sleep(SECOND / 5).await;
    }
}
