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
fn answering(answers: Vec<Vec<SocketAddr>>) -> (LookUp, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let look_up: LookUp = Arc::new(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        let answer = answers[number].clone();
        async move { Ok(answer) }.boxed()
    });
    (look_up, asked)
}

#[tokio::test]
async fn t10_s12_every_way_to_write_an_address_is_judged_by_where_it_leads() {
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

#[tokio::test]
async fn t10_s12_a_name_is_refused_for_one_of_its_addresses_and_names_the_one() {
    for (answer, words) in [
        (
            vec![at("203.0.113.7:9092"), at("127.0.0.1:9092")],
            "kafka.example:9092 (127.0.0.1:9092) is a loopback address",
        ),
        (vec![at("10.96.0.1:443")], "kafka.example:9092 (10.96.0.1:443) is the API server"),
        (Vec::new(), "the name has no address"),
    ] {
        let egress = closed().looking_up(answering(vec![answer]).0);
        let error = egress.resolve("kafka.example:9092", SECOND).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn t10_s12_of_many_addresses_only_those_that_were_looked_at_are_used() {
    let many = |last: u8| (1..=last).map(|n| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, n), 9092)));
    let mut answer: Vec<_> = many(99).collect();
    answer.push(at("127.0.0.1:9092"));
    let egress = closed().looking_up(answering(vec![answer]).0);
    let used = egress.resolve("kafka.example:9092", SECOND).await.unwrap();
    assert_eq!(used, many(16).collect::<Vec<_>>());
}

#[tokio::test]
async fn t10_s12_a_name_that_changes_between_two_look_ups_is_asked_for_once() {
    let (brokers, other) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (broker, forbidden) = (brokers.local_addr().unwrap(), other.local_addr().unwrap());
    let open = vec![broker.to_string().parse().unwrap()];
    let (look_up, asked) = answering(vec![vec![broker], vec![forbidden]]);
    let egress = Egress::new(open, Vec::new(), Vec::new()).looking_up(look_up);
    let stream = egress.connect("kafka.example:9092", SECOND).await.unwrap();
    assert_eq!((stream.peer_addr().unwrap(), asked.load(Ordering::Relaxed)), (broker, 1));
    let error = egress.connect("kafka.example:9092", SECOND).await.unwrap_err();
    assert_eq!(error.category(), Category::DestinationRefused, "{error}");
    assert!(other.accept().now_or_never().is_none(), "no connection was made");
}

#[tokio::test]
async fn an_address_that_does_not_answer_does_not_hold_up_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let here = listener.local_addr().unwrap();
    let egress = Egress::of_this_machine().looking_up(answering(vec![vec![gone, here]]).0);
    assert_eq!(egress.connect("kafka.example:9092", SECOND).await.unwrap().peer_addr().unwrap(), here);
    let nowhere = Egress::of_this_machine().connect(&gone.to_string(), SECOND).await.unwrap_err();
    assert_eq!(nowhere.category(), Category::Unreachable);
    assert!(nowhere.to_string().contains(&format!("failed to connect to {gone}: ")), "{nowhere}");
}

#[tokio::test]
async fn says_which_name_has_no_address() {
    let error = closed().resolve("no-such-host.invalid:9092", Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.category(), Category::Unreachable);
    assert!(error.to_string().contains("no-such-host.invalid:9092"), "{error}");
}

#[tokio::test]
async fn the_api_server_by_its_name_is_the_api_server() {
    let egress = closed().looking_up(answering(vec![vec![at("10.96.0.1:443")]]).0);
    for host in ["kubernetes.default.svc:443", "kubernetes.default.svc.cluster.local.:443"] {
        let error = egress.resolve(host, SECOND).await.unwrap_err().to_string();
        assert!(error.contains("(10.96.0.1:443) is the API server"), "{error}");
    }
}

#[tokio::test]
async fn a_resolver_that_says_nothing_costs_the_deadline() {
    let silent: LookUp = Arc::new(|_| std::future::pending().boxed());
    let error = closed().looking_up(silent).resolve("kafka.example:9092", SECOND / 20).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 50.0ms"), "{error}");
}

#[test]
fn a_message_is_bounded_whatever_the_host_is() {
    for host in ["x".repeat(100_000), "\u{1}".repeat(100_000), "é\n".repeat(50_000)] {
        let error = DialError::Unresolved { host: shown(&host), detail: String::new() };
        assert!(error.to_string().chars().count() < 200);
    }
}
