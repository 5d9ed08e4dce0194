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
    KafkaConnect::new(Clock::system(), Egress::of_this_machine())
}

async fn sample(broker: &FakeBroker, topic: &str, group: &str) -> Result<SourceSample, SourceError> {
    let servers = broker.bootstrap_servers().split(',').map(str::to_owned).collect();
    connect().connect_to(&Place::of(servers)).sample(&[request(topic, group)], DEADLINE).await.remove(0)
}

fn servers(servers: &[&str]) -> Vec<String> {
    servers.iter().map(|server| (*server).to_owned()).collect()
}

#[test]
fn b4_two_namespaces_that_write_the_same_short_name_have_two_clients_and_one_that_is_written_in_full_has_one() {
    let pod = connect().in_cluster(true);
    let (a, b) = (pod.place("a", &servers(&["kafka:9092"])), pod.place("b", &servers(&["kafka:9092"])));
    assert_eq!(
        (a.servers.as_slice(), b.servers.as_slice()),
        (&["kafka.a.svc:9092".to_owned()][..], &["kafka.b.svc:9092".to_owned()][..])
    );
    assert_eq!(pod.place("b", &servers(&["kafka.a.svc:9092"])), a, "by what is looked up, not by what is written");
    let far = ["b-2.example.com:9092", "b-1.example.com:9092", "b-2.example.com:9092"];
    assert_eq!(pod.place("a", &servers(&far)), pod.place("b", &servers(&far[..2])));
    // Outside a cluster, a name is the host of that name.
    assert_eq!(connect().place("a", &servers(&["kafka:9092"])).servers, ["kafka:9092"]);
}

#[tokio::test]
async fn b4_a_short_name_that_a_broker_gives_itself_is_one_of_the_namespace_of_its_cluster() {
    let name_of = |servers: &[&str]| {
        let place = connect().in_cluster(true).place("team", &self::servers(servers));
        KafkaCluster::new(&connect().in_cluster(true), &place).home
    };
    assert!(matches!(name_of(&["kafka:9092"]), Home::Namespace(namespace) if namespace == "team"));
    assert!(matches!(name_of(&["kafka.infra:9092"]), Home::Namespace(namespace) if namespace == "infra"));
    assert!(matches!(name_of(&["10.1.2.3:9092"]), Home::Unknown));
    // Short names are never looked up in the operator's own namespace.
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let place = Place::of(broker.bootstrap_servers().split(',').map(str::to_owned).collect());
    broker.with_state(|state| "kafka-0".clone_into(&mut state.brokers[0].host));
    let error = connect().in_cluster(true).connect_to(&place).sample(&[request("orders", "g")], DEADLINE).await;
    let error = error[0].as_ref().unwrap_err().to_string();
    assert!(
        error.contains("failed to resolve kafka-0:") && error.contains("advertise a name with its namespace"),
        "{error}"
    );
}

#[tokio::test]
async fn b4_a_namespace_is_connected_only_where_its_own_rules_let_it() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("orders", 1);
    let address = broker.bootstrap_servers();
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = |text: &str| vec![text.parse::<NamespaceRanges>().unwrap()];
    for (rules, only_listed, namespace, open) in [
        (rules(&format!("team-a={address}")), false, "team-a", true),
        (rules(&format!("team-a={}", elsewhere.local_addr().unwrap())), false, "team-a", false),
        (rules("team-a="), false, "team-a", false),
        (rules("team-a="), false, "team-b", true),
        (rules("team-a="), true, "team-b", false),
    ] {
        let egress = Egress::of_this_machine().with_namespaces(rules, only_listed);
        let connect = KafkaConnect::new(Clock::system(), egress);
        let place = connect.place(namespace, std::slice::from_ref(&address));
        assert_eq!(place.under.is_none(), namespace == "team-b" && open, "no client is shared where rules differ");
        let answer = connect.connect_to(&place).sample(&[request("orders", "g")], DEADLINE).await.remove(0);
        assert_eq!(answer.is_ok(), open, "{namespace}: {answer:?}");
        if let Err(error) = answer {
            assert_eq!(error.category(), Category::DestinationRefused);
            let words = format!(
                "{address} is outside the ranges of namespace {namespace}, to which Sluice does not connect; correct the address, or ask Sluice's administrator to set --egress-namespace {namespace}={address}"
            );
            assert!(error.to_string().contains(&words), "{error}");
        }
    }
}

#[tokio::test]
async fn b1_a_topic_of_more_partitions_than_are_read_is_asked_for_nothing_else_and_the_others_are_read() {
    let broker = FakeBroker::start().await.unwrap();
    broker.create_topic("large", 10_001);
    broker.create_topic("orders", 3);
    let place = Place::of(vec![broker.bootstrap_servers()]);
    let requests = [request("large", "g"), request("orders", "g")];
    let answers = connect().connect_to(&place).sample(&requests, 5 * DEADLINE).await;
    let error = answers[0].as_ref().unwrap_err();
    assert_eq!(error.category(), Category::LimitExceeded);
    assert!(error.to_string().contains("topic large has 10001 partitions, more than the limit of 10000"), "{error}");
    assert_eq!(answers[1].as_ref().unwrap().partitions.len(), 3);
}

/// Before, the smallest of them was refused in every round, and waited ten minutes.
#[tokio::test]
async fn c14_topics_that_do_not_fit_into_one_round_have_their_turn_and_are_no_failures() {
    let broker = FakeBroker::start().await.unwrap();
    for topic in ["a", "b", "c"] {
        broker.create_topic(topic, 5_000);
    }
    let cluster = connect().connect_to(&Place::of(vec![broker.bootstrap_servers()]));
    for (order, last) in [(["a", "b", "c"], "c"), (["c", "a", "b"], "b")] {
        let requests = order.map(|topic| request(topic, "g"));
        let answers = cluster.sample(&requests, 10 * DEADLINE).await;
        for (topic, answer) in order.iter().zip(&answers) {
            let is_unreached = matches!(answer, Err(SourceError::NotReached { .. }));
            assert_eq!((is_unreached, answer.is_ok()), (*topic == last, *topic != last), "{topic}");
        }
    }
}

#[tokio::test]
async fn b1_members_that_are_too_many_or_say_too_much_of_themselves_are_not_kept() {
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
#[tokio::test]
async fn c14_groups_are_asked_in_the_order_of_the_requests_and_who_is_not_reached_has_not_failed() {
    let broker = FakeBroker::start_cluster(2).await.unwrap();
    broker.create_topic("orders", 1);
    broker.set_leader("orders", 0, 1);
    let requests: Vec<_> = (0..500).rev().map(|number| request("orders", &format!("g-{number:03}"))).collect();
    for request in &requests {
        broker.set_group_coordinator(&request.group, 0);
    }
    broker.on(ApiKey::OffsetFetch, |_| Control::Delay(Duration::from_millis(15)));
    let place = Place::of(broker.bootstrap_servers().split(',').map(str::to_owned).collect());
    let answers = connect().connect_to(&place).sample(&requests, 2 * DEADLINE).await;
    let unreached = |answer: &Result<SourceSample, SourceError>| matches!(answer, Err(SourceError::NotReached { .. }));
    assert!(answers[0].is_ok(), "the first request is served first, whatever the group's name: {:?}", answers[0]);
    assert!(unreached(&answers[499]), "{:?}", answers[499]);
    let others = answers.iter().filter(|answer| answer.is_err() && !unreached(answer)).count();
    assert_eq!(others, 0, "no other request has failed");
}
