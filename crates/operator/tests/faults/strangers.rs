//! Brokers and workers that mean harm, over loopback: what they send is bounded, and what they are told is which limit it was.
//! How much memory they come to is measured by `cargo bench --bench scale -- strangers 2`.

use std::time::Duration;

use krafka::testing::FakeBroker;
use sluice_base::clock::Clock;
use sluice_signals::source::{GroupTopic, SourceError};
use sluice_signals::{Category, Connect as _, Egress, HttpScraper, KafkaConnect, Limits, Scrape as _, WorkerEndpoint};

use sluice_testkit::hostile::{self, Broker, Page, TOPIC};

const DEADLINE: Duration = Duration::from_secs(4);

fn request(topic: &str) -> GroupTopic {
    GroupTopic { topic: topic.to_owned(), group: "g".to_owned(), latency: Duration::from_secs(10) }
}

/// Why a topic cannot be read from such a broker, in the second round: the first may have ended while it connected.
async fn refused(connect: &KafkaConnect, kind: Broker) -> SourceError {
    let cluster = connect.connect(&[hostile::broker(kind).await.to_string()]);
    cluster.sample(&[request(TOPIC)], DEADLINE).await;
    cluster.sample(&[request(TOPIC)], DEADLINE).await.remove(0).expect_err("nothing can be read there")
}

#[tokio::test]
async fn b1_a_hostile_broker_is_cut_off_at_the_budget_of_its_round() {
    let connect = KafkaConnect::new(Clock::system(), Egress::allow_loopback());
    // As fast as this machine is, by the bytes or by the time that they take.
    let endless = refused(&connect, Broker::EndlessPages).await;
    assert_eq!(endless.category(), Category::LimitExceeded, "{endless}");
    let large = refused(&connect, Broker::OneLargePage).await;
    assert_eq!(large.category(), Category::LimitExceeded, "{large}");
    let words = "topic orders has 60000 partitions, more than the limit of 10000";
    assert!(large.to_string().contains(words), "{large}");
    for kind in [Broker::SlowDrip, Broker::LargeFrames, Broker::LargeList] {
        let error = refused(&connect, kind).await;
        let categories = [Category::Unreachable, Category::Protocol, Category::LimitExceeded];
        assert!(categories.contains(&error.category()), "{kind:?}: {error}");
    }
}

/// With room for one large answer at a time, and many of them under way, an honest cluster is read as before.
#[tokio::test]
async fn b1_hostile_brokers_leave_an_honest_one_its_answers() {
    let limits = Limits::for_process(1 << 20, None);
    let connect = KafkaConnect::new(Clock::system(), Egress::allow_loopback()).with_limits(limits);
    let honest = FakeBroker::start().await.unwrap();
    honest.create_topic("honest", 24);
    let honest = connect.connect(&[honest.bootstrap_servers()]);
    let hostile = (0..10).map(|number| {
        let kind = hostile::BROKERS[number % hostile::BROKERS.len()];
        let connect = &connect;
        async move { refused(connect, kind).await }
    });
    let mut hostile = std::pin::pin!(futures::future::join_all(hostile));
    let (mut ended, requests) = (false, [request("honest")]);
    loop {
        let answer = tokio::select! {
            _ = &mut hostile, if !ended => {
                ended = true;
                continue;
            }
            answers = honest.sample(&requests, DEADLINE) => answers.into_iter().next().expect("an answer"),
        };
        match answer {
            Ok(sample) => assert!(sample.partitions.iter().all(|partition| partition.end == Some(0))),
            // They all share two processors in this test; but nothing of theirs counts as ours.
            Err(error) => assert_eq!(error.category(), Category::Unreachable, "{error}"),
        }
        if ended {
            break;
        }
    }
    honest.sample(&requests, DEADLINE).await.remove(0).expect("it is read");
}

#[tokio::test]
async fn b1_a_hostile_page_costs_its_own_reading_and_names_the_limit() {
    let reader = HttpScraper::new(Clock::system(), Egress::allow_loopback()).unwrap();
    for kind in hostile::PAGES {
        let (category, words) = match kind {
            Page::Positions => (Category::LimitExceeded, "more than 10000 positions"),
            Page::EndlessLabel => (Category::LimitExceeded, "larger than 2 MiB"),
            Page::SlowDrip => (Category::Unreachable, "no answer in time"),
        };
        let address = hostile::worker(kind).await;
        let worker = WorkerEndpoint { id: "w".to_owned(), uid: "u".to_owned(), address, path: "/metrics".to_owned() };
        let topics = [TOPIC.to_owned()];
        let error = reader.scrape(&worker, &topics, Duration::from_secs(2)).await.expect_err("it is too much");
        assert_eq!(error.category(), category, "{kind:?}: {error}");
        assert!(error.to_string().contains(words), "{kind:?}: {error}");
    }
}
