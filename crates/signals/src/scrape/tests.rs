//! Tests of pages as workers write them, and of servers that misbehave.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn page(text: &str) -> Result<WorkerSample, String> {
    let topics = ["orders".to_owned()];
    let mut page = MetricsPage::new(&topics);
    text.lines().for_each(|line| page.read_line(line.as_bytes()));
    page.into_sample(Seconds(5.0))
}

#[test]
fn sums_over_sources_and_reads_positions() {
    let sample = page(
        r#"# TYPE sluice_worker_records_processed counter
sluice_worker_records_processed_total{source="orders"} 10
sluice_worker_records_processed_total{source="returns"} 5
sluice_worker_records_in_time_total{source="orders"} 9
sluice_worker_busy_seconds_total 1.5
sluice_worker_next_offset{topic="orders",partition="11"} 123441
sluice_worker_next_offset{topic="orders",partition="2"} 7
process_start_time_seconds 1.7e9
process_cpu_seconds_total 2.25
sluice_worker_concurrency 4
process_open_fds 12
http_requests_total{path="/"} 3"#,
    )
    .unwrap();
    let expected = WorkerSample {
        at: Seconds(5.0),
        started_at: Some(Seconds(1.7e9)),
        processed: Some(15.0),
        in_time: Some(9.0),
        busy_seconds: Some(1.5),
        cpu_seconds: Some(2.25),
        concurrency: Some(4),
        positions: vec![("orders/2".to_owned(), 7), ("orders/11".to_owned(), 123_441)],
    };
    assert_eq!(sample, expected);
}

#[test]
fn absent_metric_and_sum_with_invalid_part_are_unknown() {
    for bad in ["NaN", "-1", "+Inf", "x", ""] {
        let sample = page(&format!(
            "sluice_worker_records_processed_total{{source=\"a\"}} 10\nsluice_worker_records_processed_total{{source=\"b\"}} {bad}\n"
        ))
        .unwrap();
        assert_eq!(sample.processed, None, "{bad:?}: 10 alone would look like a counter that fell");
        assert_eq!(sample.in_time, None);
        assert_eq!(sample.started_at, None);
    }
}

#[test]
fn concurrency_other_than_a_positive_integer_is_unknown() {
    let concurrency = |value: &str| page(&format!("sluice_worker_concurrency {value}\n")).unwrap().concurrency;
    assert_eq!((concurrency("1"), concurrency("16.0"), concurrency("1e4")), (Some(1), Some(16), Some(10_000)));
    for bad in ["0", "-1", "0.5", "2.5", "NaN", "+Inf", "1e300", "x"] {
        assert_eq!(concurrency(bad), None, "{bad}");
    }
}

#[test]
fn infinite_sum_of_finite_parts_is_unknown() {
    let part = "sluice_worker_records_processed_total 1e308\n";
    assert_eq!(page(part).unwrap().processed, Some(1e308));
    assert_eq!(page(&part.repeat(2)).unwrap().processed, None);
}

#[test]
fn invalid_position_does_not_affect_others() {
    let topics = ["t".to_owned()];
    let mut page = MetricsPage::new(&topics);
    for line in [
        r#"sluice_worker_next_offset{topic="t",partition="0"} -1"#,
        r#"sluice_worker_next_offset{topic="t",partition="1"} NaN"#,
        r#"sluice_worker_next_offset{topic="t",partition="x"} 1"#,
        r#"sluice_worker_next_offset{topic="t"} 1"#,
        r#"sluice_worker_next_offset{topic="t",partition="2"} 1e300"#,
        r#"sluice_worker_next_offset{topic="t",partition="3"} 4"#,
    ] {
        page.read_line(line.as_bytes());
    }
    assert_eq!(page.errors(), 5);
    assert_eq!(page.into_sample(Seconds(0.0)).unwrap().positions, [("t/3".to_owned(), 4)]);
}

/// Catalogue: B1.
#[test]
fn positions_are_limited_to_the_jobs_topics_and_a_maximum() {
    let topics = ["orders".to_owned(), "refunds".to_owned()];
    let mut page = MetricsPage::new(&topics);
    let endless = "x".repeat(1_000);
    for (topic, partitions) in [("others", 10), (endless.as_str(), 10), ("refunds", 15_000), ("orders", 10)] {
        for partition in 0..partitions {
            let line = format!("sluice_worker_next_offset{{topic=\"{topic}\",partition=\"{partition}\"}} 7");
            page.read_line(line.as_bytes());
        }
    }
    let sample = page.into_sample(Seconds(0.0)).unwrap();
    assert_eq!(sample.positions.len(), MAX_POSITIONS + 1, "one more, which shows that there are too many");
    assert!(sample.positions.iter().all(|(id, _)| id.starts_with("refunds/")));
}

#[test]
fn too_many_samples_make_the_sum_unknown() {
    let mut page = MetricsPage::default();
    for number in 0..=MAX_SAMPLES {
        page.read_line(format!("sluice_worker_busy_seconds_total{{n=\"{number}\"}} 1").as_bytes());
    }
    assert_eq!(page.into_sample(Seconds(0.0)).unwrap().busy_seconds, None);
}

/// Answers every connection with these bytes, and closes it.
async fn serve(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

fn topics() -> Vec<String> {
    vec!["orders".to_owned()]
}

async fn scrape(address: SocketAddr, path: &str, deadline: Duration) -> Result<WorkerSample, ScrapeError> {
    let worker = WorkerEndpoint { id: "w-1".to_owned(), uid: "u".to_owned(), address, path: path.to_owned() };
    let clock = Clock::starting_at(Seconds(5.0));
    HttpScraper::new(clock, Egress::allow_loopback()).unwrap().scrape(&worker, &topics(), deadline).await
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn reads_a_page_over_http() {
    let address = serve(ok("sluice_worker_busy_seconds_total 3\n")).await;
    assert_eq!(scrape(address, "/metrics", SECOND).await.unwrap().busy_seconds, Some(3.0));
}

#[tokio::test]
async fn errors_describe_the_invalid_answer() {
    let cases = [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(), Category::Protocol, "answered 404"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            Category::Protocol,
            "answered 302",
        ),
        (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".to_vec(), Category::Unauthorised, "answered 401"),
        (ok("<html>Hello</html>"), Category::Protocol, "none of the metrics"),
        (ok(&"# filler\n".repeat(300_000)), Category::LimitExceeded, "larger than 2 MiB"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nprocess_cpu".to_vec(),
            Category::Unreachable,
            "failed to read",
        ),
    ];
    for (answer, category, expected) in cases {
        let error = scrape(serve(answer).await, "/metrics", 5 * SECOND).await.unwrap_err();
        assert_eq!(error.category(), category, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn silent_worker_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = scrape(listener.local_addr().unwrap(), "/metrics", SECOND / 10).await.unwrap_err();
    assert_eq!(error.category(), Category::Unreachable);
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn metadata_service_and_other_hosts_are_never_read() {
    let error = scrape("169.254.169.254:80".parse().unwrap(), "/latest", SECOND).await.unwrap_err();
    assert_eq!(error.category(), Category::DestinationRefused, "{error}");
    let address = serve(ok("process_cpu_seconds_total 3\n")).await;
    let sample = scrape(address, "@169.254.169.254/latest", SECOND).await.unwrap();
    assert_eq!(sample.cpu_seconds, Some(3.0), "asked the worker");
}

/// Catalogue: S12.
#[tokio::test]
async fn no_path_leads_to_another_host() {
    let worker = serve(ok("process_cpu_seconds_total 3\n")).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = elsewhere.local_addr().unwrap();
    for path in [
        format!("@{other}/"),
        format!("/@{other}/"),
        format!("//{other}/"),
        format!("///{other}/"),
        format!("\\\\{other}/"),
        format!("/\\{other}/"),
        format!(":80@{other}/"),
        format!("?@{other}/"),
        format!("#@{other}/"),
        format!("\n@{other}/"),
        format!("\t//{other}/"),
        format!(" @{other}/"),
        format!("/..//{other}/"),
        format!("%40{other}/"),
        format!("http://{other}/"),
        format!("/x HTTP/1.1\r\nhost: {other}\r\n\r\n"),
    ] {
        let sample = scrape(worker, &path, 5 * SECOND).await;
        assert_eq!(sample.map(|sample| sample.cpu_seconds).ok(), Some(Some(3.0)), "{path:?} is asked of the worker");
    }
    assert!(elsewhere.accept().now_or_never().is_none(), "no connection was made");
    for (address, expected) in [
        ("203.0.113.7:10250", "203.0.113.7:10250 is the port of the kubelet"),
        ("[::ffff:169.254.169.254]:80", "169.254.169.254:80 is a link-local address"),
        ("[64:ff9b::a9fe:a9fe]:80", "169.254.169.254:80 is a link-local address"),
    ] {
        let error = scrape(address.parse().unwrap(), "/metrics", SECOND).await.unwrap_err();
        assert!(error.category() == Category::DestinationRefused && error.to_string().contains(expected), "{error}");
    }
}
