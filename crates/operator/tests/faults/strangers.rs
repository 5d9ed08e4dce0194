//! Hostile brokers and workers, over loopback: their answers are bounded, and the error names the exceeded limit.
//! `cargo bench --bench scale -- strangers 2` measures the memory that they cost.

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

/// Returns why a topic cannot be read from such a broker, in the second round: the first may have ended while
/// connecting.
async fn refused(connect: &KafkaConnect, kind: Broker) -> SourceError {
    let cluster = connect.connect(&[hostile::broker(kind).await.to_string()]);
    cluster.sample(&[request(TOPIC)], DEADLINE).await;
    cluster.sample(&[request(TOPIC)], DEADLINE).await.remove(0).expect_err("a hostile broker cannot be read")
}

/// Catalogue: B1.
#[tokio::test]
async fn hostile_broker_is_cut_off_at_the_limits_of_its_round() {
    let connect = KafkaConnect::new(Clock::system(), Egress::allow_loopback());
    // Depending on the speed of the machine, the limit of bytes or the deadline is reached first.
    let endless = refused(&connect, Broker::EndlessPages).await;
    assert_eq!(endless.category(), Category::LimitExceeded, "{endless}");
    let large = refused(&connect, Broker::OneLargePage).await;
    assert_eq!(large.category(), Category::LimitExceeded, "{large}");
    let message = "topic orders has 60000 partitions, more than the limit of 10000";
    assert!(large.to_string().contains(message), "{large}");
    for kind in [Broker::SlowDrip, Broker::LargeFrames, Broker::LargeList] {
        let error = refused(&connect, kind).await;
        let categories = [Category::Unreachable, Category::Protocol, Category::LimitExceeded];
        assert!(categories.contains(&error.category()), "{kind:?}: {error}");
    }
}

/// With memory for one large answer and many of them under way, an honest cluster is still read.
///
/// Catalogue: B1.
#[tokio::test]
async fn hostile_brokers_do_not_affect_an_honest_one() {
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
            // All brokers share the test's processors, so it may time out, but no limit of the others counts against
            // it.
            Err(error) => assert_eq!(error.category(), Category::Unreachable, "{error}"),
        }
        if ended {
            break;
        }
    }
    honest.sample(&requests, DEADLINE).await.remove(0).expect("the honest cluster is read");
}

/// Catalogue: B1.
#[tokio::test]
async fn hostile_metrics_page_fails_with_the_exceeded_limit() {
    let reader = HttpScraper::new(Clock::system(), Egress::allow_loopback()).unwrap();
    for kind in hostile::PAGES {
        let (category, message) = match kind {
            Page::Positions => (Category::LimitExceeded, "more than 10000 positions"),
            Page::EndlessLabel => (Category::LimitExceeded, "larger than 2 MiB"),
            Page::SlowDrip => (Category::Unreachable, "no answer in time"),
        };
        let address = hostile::worker(kind).await;
        let worker = WorkerEndpoint { id: "w".to_owned(), uid: "u".to_owned(), address, path: "/metrics".to_owned() };
        let topics = [TOPIC.to_owned()];
        let error =
            reader.scrape(&worker, &topics, Duration::from_secs(2)).await.expect_err("a hostile page cannot be read");
        assert_eq!(error.category(), category, "{kind:?}: {error}");
        assert!(error.to_string().contains(message), "{kind:?}: {error}");
    }
}
