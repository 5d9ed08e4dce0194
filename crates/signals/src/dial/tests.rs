//! Tests the ways to write an address that an attacker might try. Only loopback addresses are connected to.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn closed() -> Egress {
    Egress::new(Vec::new(), Vec::new(), vec!["10.96.0.1".parse().unwrap()])
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Returns a resolver that gives these answers one after the other and then repeats the last one, and the number of
/// look-ups.
fn answering(answers: Vec<Vec<SocketAddr>>) -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let resolver: Resolver = Arc::new(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        let answer = answers[number].clone();
        async move { Ok(answer) }.boxed()
    });
    (resolver, asked)
}

/// Catalogue: S12.
#[tokio::test]
async fn every_notation_of_an_address_is_checked_by_its_target() {
    // What the system makes of historical notations is up to the system: 127.0.0.1 or an unknown host, but never a
    // connection.
    let elsewhere = ["a loopback address", "failed to resolve", "the host name is invalid"];
    let loopback = ["a loopback address", "the loopback address"];
    for host in [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0x7f000001",
        "017700000001",
        "127.0.0.1.",
        "localhost.",
        "2852039166",
    ] {
        let error = closed().resolve(&format!("{host}:9092"), 2 * SECOND).await.unwrap_err().to_string();
        let link_local = host == "2852039166" && error.contains("a link-local address");
        assert!(link_local || elsewhere.iter().any(|words| error.contains(words)), "{host}: {error}");
    }
    for host in
        ["127.0.0.1", "[::1]", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"]
    {
        let error = closed().resolve(&format!("{host}:9092"), 2 * SECOND).await.unwrap_err().to_string();
        assert!(loopback.iter().any(|words| error.contains(words)), "{host}: {error}");
        assert!(
            error.contains("--egress-allow 127.0.0.1:9092") || error.contains("--egress-allow [::1]:9092"),
            "{error}"
        );
    }
    for (host, words) in [
        ("169.254.169.254:80", "169.254.169.254:80 is a link-local address"),
        ("[::ffff:a9fe:a9fe]:80", "(169.254.169.254:80) is a link-local address"),
        ("[::ffff:0:a9fe:a9fe]:80", "(169.254.169.254:80) is a link-local address"),
        ("[64:ff9b::a9fe:a9fe]:80", "(169.254.169.254:80) is a link-local address"),
        ("[2002:a9fe:a9fe::]:80", "(169.254.169.254:80) is a link-local address"),
        ("[64:ff9b:1::a9fe:a9fe]:80", "a local NAT64"),
        ("[fe80::1]:9092", "a link-local address"),
        ("[fd00:ec2::254]:80", "the cloud's metadata service"),
        ("0.0.0.0:9092", "an unspecified address"),
        ("[::]:9092", "the unspecified address"),
        ("10.96.0.1:443", "10.96.0.1:443 is the API server"),
        ("[::ffff:10.96.0.1]:443", "(10.96.0.1:443) is the API server"),
        ("203.0.113.7:10250", "the port of the kubelet"),
        ("[2001:db8::1]:10255", "the read-only port of the kubelet"),
        ("203.0.113.7:0", "the port must be 1 to 65535"),
        ("203.0.113.7:65536", "the port must be 1 to 65535"),
        ("203.0.113.7", "the port is missing"),
        ("user@169.254.169.254:9092", "the host name is invalid"),
        ("[fe80::1%eth0]:9092", "the host name is invalid"),
        ("fe80::1%eth0:9092", "the host name is invalid"),
        ("::1:9092", "the host name is invalid"),
        (" 127.0.0.1:9092", "the host name is invalid"),
        ("127.0.0.1 :9092", "the host name is invalid"),
        ("127.0.0.1\n:9092", "the host name is invalid"),
        ("127.0.0.1\0:9092", "the host name is invalid"),
        ("%31%32%37.0.0.1:9092", "the host name is invalid"),
        ("http://127.0.0.1:9092", "the host name is invalid"),
        ("127.0.0.1/x:9092", "the host name is invalid"),
        ("127.0.0.1:9092,10.0.0.1:9092", "the host name is invalid"),
        ("１２７.0.0.1:9092", "the host name is invalid"),
        ("127。0。0。1:9092", "the host name is invalid"),
        (":9092", "the host name is invalid"),
        ("[]:9092", "the host name is invalid"),
    ] {
        let error = closed().resolve(host, SECOND).await.unwrap_err().to_string();
        assert!(error.contains(words), "{host:?}: {error}");
        assert!(!error.contains(['\n', '\0']) && error.len() < 300, "{error}");
    }
}

/// Catalogue: S12.
#[tokio::test]
async fn name_with_one_denied_address_is_denied() {
    for (answer, words) in [
        (
            vec![at("203.0.113.7:9092"), at("127.0.0.1:9092")],
            "kafka.example:9092 (127.0.0.1:9092) is a loopback address",
        ),
        (vec![at("10.96.0.1:443")], "kafka.example:9092 (10.96.0.1:443) is the API server"),
        (Vec::new(), "the name has no address"),
    ] {
        let egress = closed().with_resolver(answering(vec![answer]).0);
        let error = egress.resolve("kafka.example:9092", SECOND).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Catalogue: S12.
#[tokio::test]
async fn only_checked_addresses_of_a_name_are_used() {
    let many = |last: u8| (1..=last).map(|n| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, n), 9092)));
    let mut answer: Vec<_> = many(99).collect();
    answer.push(at("127.0.0.1:9092"));
    let egress = closed().with_resolver(answering(vec![answer]).0);
    let used = egress.resolve("kafka.example:9092", SECOND).await.unwrap();
    assert_eq!(used, many(16).collect::<Vec<_>>());
}

/// Catalogue: S12.
#[tokio::test]
async fn name_is_resolved_once_per_connection() {
    let (brokers, other) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (broker, forbidden) = (brokers.local_addr().unwrap(), other.local_addr().unwrap());
    let open = vec![broker.to_string().parse().unwrap()];
    let (resolver, asked) = answering(vec![vec![broker], vec![forbidden]]);
    let egress = Egress::new(open, Vec::new(), Vec::new()).with_resolver(resolver);
    let stream = egress.connect("kafka.example:9092", SECOND).await.unwrap();
    assert_eq!((stream.peer_addr().unwrap(), asked.load(Ordering::Relaxed)), (broker, 1));
    let error = egress.connect("kafka.example:9092", SECOND).await.unwrap_err();
    assert_eq!(error.category(), Category::DestinationRefused, "{error}");
    assert!(other.accept().now_or_never().is_none(), "no connection was made");
}

#[tokio::test]
async fn unreachable_address_does_not_delay_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let here = listener.local_addr().unwrap();
    let egress = Egress::allow_loopback().with_resolver(answering(vec![vec![gone, here]]).0);
    assert_eq!(egress.connect("kafka.example:9092", SECOND).await.unwrap().peer_addr().unwrap(), here);
    let nowhere = Egress::allow_loopback().connect(&gone.to_string(), SECOND).await.unwrap_err();
    assert_eq!(nowhere.category(), Category::Unreachable);
    assert!(nowhere.to_string().contains(&format!("failed to connect to {gone}: ")), "{nowhere}");
}

#[tokio::test]
async fn resolve_error_contains_the_name() {
    let error = closed().resolve("no-such-host.invalid:9092", Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.category(), Category::Unreachable);
    assert!(error.to_string().contains("no-such-host.invalid:9092"), "{error}");
}

#[tokio::test]
async fn api_server_is_denied_by_its_name() {
    let egress = closed().with_resolver(answering(vec![vec![at("10.96.0.1:443")]]).0);
    for host in ["kubernetes.default.svc:443", "kubernetes.default.svc.cluster.local.:443"] {
        let error = egress.resolve(host, SECOND).await.unwrap_err().to_string();
        assert!(error.contains("(10.96.0.1:443) is the API server"), "{error}");
    }
}

#[tokio::test]
async fn silent_resolver_ends_at_the_deadline() {
    let silent: Resolver = Arc::new(|_| std::future::pending().boxed());
    let error = closed().with_resolver(silent).resolve("kafka.example:9092", SECOND / 20).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 50.0ms"), "{error}");
}

#[test]
fn message_length_is_limited_for_any_host() {
    for host in ["x".repeat(100_000), "\u{1}".repeat(100_000), "é\n".repeat(50_000)] {
        let error = DialError::Unresolved { host: printable(&host), detail: String::new() };
        assert!(error.to_string().chars().count() < 200);
    }
}
