//! Tests of cluster addresses, of sharing clients, and of limits, against krafka's fake broker.

use krafka::testing::{ApiKey, ClassicGroupState, Control, FakeBroker, GroupMember};
use tokio::net::TcpListener;

use super::*;
use crate::egress::NamespaceRanges;
use crate::sample::{Category, SourceSample};

const DEADLINE: Duration = Duration::from_secs(2);

fn request(topic: &str, group: &str) -> GroupTopic {
    GroupTopic { topic: topic.to_owned(), group: group.to_owned(), latency: Duration::from_secs(10) }
}

fn connect() -> KafkaConnect {
    KafkaConnect::new(Clock::system(), Egress::allow_loopback())
}

async fn sample(broker: &FakeBroker, topic: &str, group: &str) -> Result<SourceSample, SourceError> {
    let servers = broker.bootstrap_servers().split(',').map(str::to_owned).collect();
    connect().connect_to(&ClusterAddress::new(servers)).sample(&[request(topic, group)], DEADLINE).await.remove(0)
}

fn servers(servers: &[&str]) -> Vec<String> {
    servers.iter().map(|server| (*server).to_owned()).collect()
}

/// Catalogue: B4.
#[test]
fn short_name_is_a_different_cluster_in_each_namespace() {
    let pod = connect().in_cluster(true);
    let (a, b) = (pod.address("a", &servers(&["kafka:9092"])), pod.address("b", &servers(&["kafka:9092"])));
    assert_eq!(
        (a.servers.as_slice(), b.servers.as_slice()),
        (&["kafka.a.svc:9092".to_owned()][..], &["kafka.b.svc:9092".to_owned()][..])
    );
    assert_eq!(pod.address("b", &servers(&["kafka.a.svc:9092"])), a, "by what is looked up, not by what is written");
    let far = ["b-2.example.com:9092", "b-1.example.com:9092", "b-2.example.com:9092"];
    assert_eq!(pod.address("a", &servers(&far)), pod.address("b", &servers(&far[..2])));
    // Outside a cluster, a name is the host of that name.
    assert_eq!(connect().address("a", &servers(&["kafka:9092"])).servers, ["kafka:9092"]);
}

/// Catalogue: B4.
#[tokio::test]
async fn advertised_short_name_is_in_the_namespace_of_its_cluster() {
    let name_of = |servers: &[&str]| {
        let address = connect().in_cluster(true).address("team", &self::servers(servers));
        KafkaCluster::new(&connect().in_cluster(true), &address).short_names
    };
    assert!(matches!(name_of(&["kafka:9092"]), ShortNames::Namespace(namespace) if namespace == "team"));
    assert!(matches!(name_of(&["kafka.infra:9092"]), ShortNames::Namespace(namespace) if namespace == "infra"));
    assert!(matches!(name_of(&["10.1.2.3:9092"]), ShortNames::Unknown));
    // Short names are never looked up in the operator's own namespace.
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let address = ClusterAddress::new(broker.bootstrap_servers().split(',').map(str::to_owned).collect());
    broker.with_state(|state| "kafka-0".clone_into(&mut state.brokers[0].host));
    let error = connect().in_cluster(true).connect_to(&address).sample(&[request("orders", "g")], DEADLINE).await;
    let error = error[0].as_ref().unwrap_err().to_string();
    assert!(
        error.contains("failed to resolve kafka-0:") && error.contains("advertise a name with its namespace"),
        "{error}"
    );
}

/// Catalogue: B4.
#[tokio::test]
async fn namespace_connects_only_where_its_rules_allow() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let server = broker.bootstrap_servers();
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = |text: &str| vec![text.parse::<NamespaceRanges>().unwrap()];
    for (rules, only_listed, namespace, open) in [
        (rules(&format!("team-a={server}")), false, "team-a", true),
        (rules(&format!("team-a={}", elsewhere.local_addr().unwrap())), false, "team-a", false),
        (rules("team-a="), false, "team-a", false),
        (rules("team-a="), false, "team-b", true),
        (rules("team-a="), true, "team-b", false),
    ] {
        let egress = Egress::allow_loopback().with_namespaces(rules, only_listed);
        let connect = KafkaConnect::new(Clock::system(), egress);
        let address = connect.address(namespace, std::slice::from_ref(&server));
        assert_eq!(
            address.namespace.is_none(),
            namespace == "team-b" && open,
            "no client is shared where rules differ"
        );
        let answer = connect.connect_to(&address).sample(&[request("orders", "g")], DEADLINE).await.remove(0);
        assert_eq!(answer.is_ok(), open, "{namespace}: {answer:?}");
        if let Err(error) = answer {
            assert_eq!(error.category(), Category::DestinationRefused);
            let words = format!(
                "{server} is outside the ranges of namespace {namespace}, to which Sluice does not connect; correct the address, or ask Sluice's administrator to set --egress-namespace {namespace}={server}"
            );
            assert!(error.to_string().contains(&words), "{error}");
        }
    }
}

/// Catalogue: B1.
#[tokio::test]
async fn topic_with_too_many_partitions_does_not_affect_others() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("large", 10_001);
    broker.create_topic("orders", 3);
    let address = ClusterAddress::new(vec![broker.bootstrap_servers()]);
    let requests = [request("large", "g"), request("orders", "g")];
    let answers = connect().connect_to(&address).sample(&requests, 5 * DEADLINE).await;
    let error = answers[0].as_ref().unwrap_err();
    assert_eq!(error.category(), Category::LimitExceeded);
    assert!(error.to_string().contains("topic large has 10001 partitions, more than the limit of 10000"), "{error}");
    assert_eq!(answers[1].as_ref().unwrap().partitions.len(), 3);
}

/// Before, the smallest of them was refused in every round, and waited ten minutes.
///
/// Catalogue: C14.
#[tokio::test]
async fn topics_that_do_not_fit_a_round_come_first_in_the_next() {
    let broker = FakeBroker::start().await.unwrap();
    for topic in ["a", "b", "c"] {
        broker.create_topic(topic, 5_000);
    }
    let cluster = connect().connect_to(&ClusterAddress::new(vec![broker.bootstrap_servers()]));
    for (order, last) in [(["a", "b", "c"], "c"), (["c", "a", "b"], "b")] {
        let requests = order.map(|topic| request(topic, "g"));
        let answers = cluster.sample(&requests, 10 * DEADLINE).await;
        for (topic, answer) in order.iter().zip(&answers) {
            let is_unreached = matches!(answer, Err(SourceError::NotReached { .. }));
            assert_eq!((is_unreached, answer.is_ok()), (*topic == last, *topic != last), "{topic}");
        }
    }
}

/// Catalogue: B1.
#[tokio::test]
async fn too_many_members_or_too_long_ids_exceed_a_limit() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let join = |group: &str, members: usize, client_id: &str| {
        broker.with_state(|state| {
            let group = state.groups.entry(group.to_owned()).or_default();
            "consumer".clone_into(&mut group.protocol_type);
            group.state = ClassicGroupState::Stable;
            group.members.extend((0..members).map(|number| GroupMember {
                member_id: format!("m-{number}"),
                group_instance_id: None,
                metadata: axum::body::Bytes::default(),
                client_id: client_id.to_owned(),
                client_host: "/10.0.0.1".to_owned(),
            }));
        });
    };
    join("wordy", 1, &"x".repeat(2_000));
    join("crowd", 10_001, "c");
    join("good", 3, "c");
    for (group, words) in
        [("wordy", "ids of 2012 bytes, more than the limit of 1024"), ("crowd", "10001 members, more than the limit")]
    {
        let error = sample(&broker, "orders", group).await.unwrap_err();
        assert_eq!(error.category(), Category::LimitExceeded);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(sample(&broker, "orders", "good").await.unwrap().group.unwrap().members.len(), 3);
}

/// The request for a group takes at most half of the time that is left. Groups that are not reached have not failed.
///
/// Catalogue: C14.
#[tokio::test]
async fn groups_are_read_in_order_and_unreached_ones_have_not_failed() {
    let broker = FakeBroker::start_cluster(2).await.unwrap();
    broker.create_topic("orders", 1);
    broker.set_leader("orders", 0, 1);
    let requests: Vec<_> = (0..500).rev().map(|number| request("orders", &format!("g-{number:03}"))).collect();
    for request in &requests {
        broker.set_group_coordinator(&request.group, 0);
    }
    broker.on(ApiKey::OffsetFetch, |_| Control::Delay(Duration::from_millis(15)));
    let address = ClusterAddress::new(broker.bootstrap_servers().split(',').map(str::to_owned).collect());
    let answers = connect().connect_to(&address).sample(&requests, 2 * DEADLINE).await;
    let unreached = |answer: &Result<SourceSample, SourceError>| matches!(answer, Err(SourceError::NotReached { .. }));
    assert!(answers[0].is_ok(), "the first request is served first, whatever the group's name: {:?}", answers[0]);
    assert!(unreached(&answers[499]), "{:?}", answers[499]);
    let others = answers.iter().filter(|answer| answer.is_err() && !unreached(answer)).count();
    assert_eq!(others, 0, "no other request has failed");
}
