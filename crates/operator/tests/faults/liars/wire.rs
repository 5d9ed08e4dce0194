//! Servers in place of brokers and workers that do not speak their protocols. Over loopback, in real time.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_base::clock::Clock;
use sluice_signals::source::GroupTopic;
use sluice_signals::{Category, Connect as _, Egress, HttpScraper, KafkaConnect, Scrape as _, WorkerEndpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECOND: Duration = Duration::from_secs(1);

/// Answers each request with `first`, and then with `more` after each `pause` as long as the client reads.
async fn server(first: Vec<u8>, more: Vec<u8>, pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (first, more) = (first.clone(), more.clone());
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let mut open = stream.write_all(&first).await.is_ok();
                while open && !more.is_empty() {
                    tokio::time::sleep(pause).await;
                    open = stream.write_all(&more).await.is_ok();
                }
            });
        }
    });
    address
}

/// Returns a frame of Kafka's protocol with this length field.
fn frame(length: i32, body: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], body].concat()
}

/// Catalogue: M1.
#[tokio::test]
async fn invalid_broker_answer_fails_in_time() {
    let garbage: Vec<u8> = (0..4096_u32).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect();
    let answers = [
        ("garbage", garbage.clone()),
        ("a web server", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_vec()),
        ("an absurd length", frame(i32::MAX, &garbage)),
        ("a negative length", frame(-1, &garbage)),
        ("no body", frame(0, &[])),
        ("another's answer", frame(8, &[0x7f, 0, 0, 1, 0, 0, 0, 0])),
        ("an answer of too many", frame(16, &[0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0])),
    ];
    let ask = |what: &'static str, answer: Vec<u8>| async move {
        let address = server(answer, Vec::new(), Duration::ZERO).await;
        let cluster = KafkaConnect::new(Clock::system(), Egress::allow_loopback()).connect(&[address.to_string()]);
        let request = GroupTopic { topic: "orders".to_owned(), group: "g".to_owned(), latency: 10 * SECOND };
        let begun = Clock::system().monotonic();
        let answers = tokio::time::timeout(3 * SECOND, cluster.sample(&[request], 2 * SECOND)).await.unwrap();
        assert!(begun.elapsed() < 3 * SECOND, "{what}");
        let error = answers.into_iter().next().unwrap().expect_err(what);
        assert!(matches!(error.category(), Category::Unreachable | Category::Protocol), "{what}: {error}");
        assert!(error.to_string().chars().count() < 600, "{what}: {error}");
    };
    futures::future::join_all(answers.map(|(what, answer)| ask(what, answer))).await;
}

async fn scrape(address: SocketAddr) -> Result<sluice_signals::WorkerSample, sluice_signals::scrape::ScrapeError> {
    let worker = WorkerEndpoint { id: "w".to_owned(), uid: "u".to_owned(), address, path: "/metrics".to_owned() };
    let reader = HttpScraper::new(Clock::system(), Egress::allow_loopback()).unwrap();
    tokio::time::timeout(3 * SECOND, reader.scrape(&worker, &[], 2 * SECOND)).await.expect("within its deadline")
}

fn page(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes(), body].concat()
}

/// Name, first bytes, bytes that are repeated after each pause, the pause, and the expected category of the error.
type Case = (&'static str, Vec<u8>, Vec<u8>, Duration, Option<Category>);

/// Catalogue: M3.
#[tokio::test]
async fn invalid_metrics_page_fails_in_time() {
    let sized = |body: &[u8]| page(&format!("content-length: {}\r\n", body.len()), body);
    let line = b"sluice_worker_busy_seconds_total 1\n";
    let endless = page("", line);
    let gzip = page("content-encoding: gzip\r\ncontent-length: 4\r\n", &[0x1f, 0x8b, 0x08, 0x00]);
    let million = line.repeat(55_000);
    let cases: [Case; 8] = [
        (
            "ten megabytes",
            page("content-length: 10485760\r\n", line),
            vec![b'#'; 1 << 20],
            Duration::ZERO,
            Some(Category::LimitExceeded),
        ),
        (
            "a page without end",
            endless.clone(),
            [vec![b'#'; 1 << 20], b"\n".to_vec()].concat(),
            Duration::ZERO,
            Some(Category::LimitExceeded),
        ),
        (
            "a line without end",
            page("", b"sluice_worker_"),
            vec![b'x'; 1 << 20],
            Duration::ZERO,
            Some(Category::LimitExceeded),
        ),
        ("a byte a second", endless, vec![b'x'], SECOND, Some(Category::Unreachable)),
        ("a bomb", gzip, Vec::new(), Duration::ZERO, Some(Category::Protocol)),
        (
            "a page of the web",
            sized(b"<html>\n<p>sluice_worker_busy_seconds_total</p>\n"),
            Vec::new(),
            Duration::ZERO,
            Some(Category::Protocol),
        ),
        (
            "invalid UTF-8",
            sized(b"sluice_worker_busy_seconds_total{x=\"\xff\xfe\"} \xff\n\xff\xff 3\n"),
            Vec::new(),
            Duration::ZERO,
            None,
        ),
        ("very many series", sized(&million), Vec::new(), Duration::ZERO, None),
    ];
    let read = cases.map(|(what, first, more, pause, category)| async move {
        let answer = scrape(server(first, more, pause).await).await;
        match (answer, category) {
            (Err(error), Some(category)) => {
                assert_eq!(error.category(), category, "{what}: {error}");
                assert!(error.to_string().len() < 400, "{what}: {error}");
            }
            // With more series than the limit, or an invalid one, the sum is unknown.
            (Ok(sample), None) => assert_eq!(sample.busy_seconds, None, "{what}"),
            (answer, _) => panic!("{what}: {answer:?}"),
        }
    });
    futures::future::join_all(read).await;
}
