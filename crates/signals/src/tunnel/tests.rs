//! Tests of clients that are not ours, and of connections that end.

use futures::FutureExt;

use super::*;
use crate::sample::Category;

const SECOND: Duration = Duration::from_secs(1);

async fn tunnel() -> Arc<Tunnel> {
    Tunnel::open(Limits { connections_per_cluster: 5, ..Limits::default() }, SECOND).await.unwrap()
}

/// Registers a client for brokers on this machine.
fn register(tunnel: &Arc<Tunnel>) -> ProxyHandle {
    tunnel.register_client(Egress::allow_loopback(), ShortNames::ThisProcess)
}

/// Sends these messages one after the other and returns the proxy's answers, until it closes the connection.
async fn converse(tunnel: &Tunnel, messages: &[&[u8]]) -> (TcpStream, Vec<Vec<u8>>) {
    let mut stream = TcpStream::connect(tunnel.address).await.unwrap();
    let mut answers = Vec::new();
    for message in messages {
        if stream.write_all(message).await.is_err() {
            break;
        }
        let mut answer = [0; 64];
        match stream.read(&mut answer).await {
            Ok(length) if length > 0 => answers.push(answer[..length].to_vec()),
            _ => break,
        }
    }
    (stream, answers)
}

fn login(user: &str, password: &str) -> Vec<u8> {
    let mut message = vec![1, u8::try_from(user.len()).unwrap()];
    message.extend(user.bytes());
    message.push(u8::try_from(password.len()).unwrap());
    message.extend(password.bytes());
    message
}

fn request(command: u8, target: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = target.ip() else { panic!("an IPv4 address") };
    [&[5, command, 0, 1], &ip.octets()[..], &target.port().to_be_bytes()].concat()
}

const HELLO: &[u8] = &[5, 2, 0, 2];

#[tokio::test]
async fn client_without_password_is_rejected() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tunnel = tunnel().await;
    let proxy = register(&tunnel);
    let (_, user, password) = proxy.login();
    let right = login(user, password);
    let connect = request(CONNECT, target.local_addr().unwrap());
    let almost = format!("{}x", &password[..31]);
    for (messages, answers) in [
        (vec![&[5, 1, 0][..], &connect], vec![vec![5, 0xff]]),
        (vec![&[4, 1, 2][..], &connect], vec![vec![5, 0xff]]),
        (vec![HELLO, &login(user, ""), &connect], vec![vec![5, 2], vec![1, 1]]),
        (vec![HELLO, &login(user, &password[..31]), &connect], vec![vec![5, 2], vec![1, 1]]),
        (vec![HELLO, &login(user, &almost), &connect], vec![vec![5, 2], vec![1, 1]]),
        (vec![HELLO, &login("unknown", password), &connect], vec![vec![5, 2], vec![1, 1]]),
        (
            vec![HELLO, &right, &request(2, target.local_addr().unwrap())],
            vec![vec![5, 2], vec![1, 0], vec![5, reply::UNKNOWN_COMMAND, 0, 1, 0, 0, 0, 0, 0, 0]],
        ),
        (
            vec![HELLO, &right, &[5, 1, 0, 9]],
            vec![vec![5, 2], vec![1, 0], vec![5, reply::UNKNOWN_KIND, 0, 1, 0, 0, 0, 0, 0, 0]],
        ),
    ] {
        assert_eq!(converse(&tunnel, &messages).await.1, answers);
    }
    assert!(target.accept().now_or_never().is_none(), "no connection was made");
    let (_stream, answers) = converse(&tunnel, &[HELLO, &right, &connect]).await;
    assert_eq!(answers.last().unwrap()[1], reply::CONNECTED);
    drop(proxy);
    let answers = converse(&tunnel, &[HELLO, &right, &connect]).await.1;
    assert_eq!(answers.last().unwrap(), &[1, 1], "the login is invalid once its handle is dropped");
}

#[tokio::test]
async fn client_gets_its_own_errors_and_denials_take_precedence() {
    let tunnel = tunnel().await;
    let (one, other) = (register(&tunnel), register(&tunnel));
    let (_, user, password) = one.login();
    let right = login(user, password);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (target, code) in [("169.254.169.254:80".parse().unwrap(), reply::REFUSED), (gone, reply::UNREACHABLE)] {
        let answers = converse(&tunnel, &[HELLO, &right, &request(CONNECT, target)]).await.1;
        assert_eq!(answers[2][1], code);
    }
    assert!(other.last_error().is_none());
    for _ in 0..DENIAL_REPORTS {
        let reported = one.last_error().unwrap().to_string();
        assert!(reported.contains("169.254.169.254:80 is a link-local address"), "{reported}");
    }
    assert!(one.last_error().is_none());
}

#[tokio::test]
async fn connection_ends_with_either_side_and_with_the_tunnel() {
    let brokers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tunnel = tunnel().await;
    let proxy = register(&tunnel);
    let (_, user, password) = proxy.login();
    let messages = [HELLO, &login(user, password), &request(CONNECT, brokers.local_addr().unwrap())];
    for side in ["client", "broker", "tunnel"] {
        let (mut client, answers) = converse(&tunnel, &messages).await;
        assert_eq!(answers[2][1], reply::CONNECTED);
        let (mut broker, _) = brokers.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut heard = [0; 4];
        broker.read_exact(&mut heard).await.unwrap();
        broker.write_all(&heard).await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
        match side {
            "client" => {
                drop(client);
                assert_eq!(broker.read(&mut heard).await.unwrap_or(0), 0);
            }
            "broker" => {
                drop(broker);
                assert_eq!(client.read(&mut heard).await.unwrap_or(0), 0);
            }
            _ => {
                tunnel.listening.abort();
                assert_eq!(client.read(&mut heard).await.unwrap_or(0), 0);
                assert!(TcpStream::connect(tunnel.address).await.is_err());
            }
        }
    }
}

#[tokio::test]
async fn connections_are_limited_per_client() {
    let brokers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tunnel = tunnel().await;
    let (greedy, modest) = (register(&tunnel), register(&tunnel));
    let _all = greedy.client.connections.try_acquire_many(5).unwrap();
    for (proxy, code) in [(&greedy, reply::FAILED), (&modest, reply::CONNECTED)] {
        let (_, user, password) = proxy.login();
        let messages = [HELLO, &login(user, password), &request(CONNECT, brokers.local_addr().unwrap())];
        assert_eq!(converse(&tunnel, &messages).await.1[2][1], code);
    }
    let reported = greedy.last_error().unwrap();
    assert_eq!(reported.category(), Category::LimitExceeded);
    assert!(reported.to_string().contains("already has 5 connections"), "{reported}");
}

#[tokio::test(start_paused = true)]
async fn silent_client_is_disconnected() {
    let tunnel = tunnel().await;
    let mut stream = TcpStream::connect(tunnel.address).await.unwrap();
    stream.write_all(&[5]).await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

/// Endless pages and large frames amount to the same.
///
/// Catalogue: B1.
#[tokio::test]
async fn endless_broker_is_disconnected_at_the_round_budget() {
    let brokers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = brokers.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = brokers.accept().await {
            tokio::spawn(async move { while stream.write_all(&[7; 1 << 10]).await.is_ok() {} });
        }
    });
    let tunnel = tunnel().await;
    let (hostile, honest) = (register(&tunnel), register(&tunnel));
    let (_, user, password) = hostile.login();
    let round = hostile.round(1 << 20);
    let messages = [HELLO, &login(user, password), &request(CONNECT, address)];
    // The limit holds for all connections together, including those that are made after it was exceeded.
    let mut received = 0;
    for _ in 0..3 {
        let (mut client, _) = converse(&tunnel, &messages).await;
        let mut piece = vec![0; 1 << 16];
        while let Ok(length) = client.read(&mut piece).await
            && length > 0
        {
            received += length;
        }
    }
    assert!((1 << 19..=1 << 20).contains(&received), "{received}");
    let reported = hostile.last_error().unwrap();
    assert_eq!(reported.category(), Category::LimitExceeded);
    assert!(reported.to_string().contains("more than 1 MiB in one round"), "{reported}");
    assert!(honest.last_error().is_none());
    drop(round);
    let _round = hostile.round(1 << 20);
    assert_eq!(converse(&tunnel, &messages).await.1[2][1], reply::CONNECTED, "the next round has a new budget");
}

/// Catalogue: B1.
#[tokio::test]
async fn connections_are_limited_per_process() {
    let brokers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { connections: 3, connections_per_cluster: 2, ..Limits::default() };
    let tunnel = Tunnel::open(limits, SECOND).await.unwrap();
    let passes: Vec<ProxyHandle> = (0..4).map(|_| register(&tunnel)).collect();
    let mut open = Vec::new();
    for (number, proxy) in passes.iter().enumerate() {
        let (_, user, password) = proxy.login();
        let messages = [HELLO, &login(user, password), &request(CONNECT, brokers.local_addr().unwrap())];
        let (stream, answers) = converse(&tunnel, &messages).await;
        assert_eq!(answers[2][1], if number < 3 { reply::CONNECTED } else { reply::FAILED });
        open.push(stream);
    }
    let reported = passes[3].last_error().unwrap();
    assert_eq!(reported.category(), Category::LimitExceeded);
    assert!(reported.to_string().contains("the operator already has 3 connections to brokers"), "{reported}");
}
