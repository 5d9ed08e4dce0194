//! Tests of clients that are not ours, and of connections that end.

use futures::FutureExt;

use super::*;
use crate::sample::Category;

const SECOND: Duration = Duration::from_secs(1);

async fn tunnel() -> Arc<Tunnel> {
    Tunnel::open(Limits { connections_per_cluster: 5, ..Limits::default() }, SECOND).await.unwrap()
}

/// Registers a client for brokers on this machine.
fn pass(tunnel: &Arc<Tunnel>) -> Pass {
    tunnel.pass(Egress::of_this_machine(), Home::Here)
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
async fn who_has_no_password_gets_nowhere() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tunnel = tunnel().await;
    let pass = pass(&tunnel);
    let (_, user, password) = pass.way();
    let right = login(user, password);
    let connect = request(CONNECT, target.local_addr().unwrap());
    let almost = format!("{}x", &password[..31]);
    for (messages, answers) in [
        (vec![&[5, 1, 0][..], &connect], vec![vec![5, 0xff]]),
        (vec![&[4, 1, 2][..], &connect], vec![vec![5, 0xff]]),
        (vec![HELLO, &login(user, ""), &connect], vec![vec![5, 2], vec![1, 1]]),
        (vec![HELLO, &login(user, &password[..31]), &connect], vec![vec![5, 2], vec![1, 1]]),
        (vec![HELLO, &login(user, &almost), &connect], vec![vec![5, 2], vec![1, 1]]),
        (vec![HELLO, &login("nobody", password), &connect], vec![vec![5, 2], vec![1, 1]]),
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
    drop(pass);
    let answers = converse(&tunnel, &[HELLO, &right, &connect]).await.1;
    assert_eq!(answers.last().unwrap(), &[1, 1], "the login is invalid once its handle is dropped");
}

#[tokio::test]
async fn each_client_is_told_of_its_own_connections_and_for_a_while_of_a_refusal_before_all_else() {
    let tunnel = tunnel().await;
    let (one, other) = (pass(&tunnel), pass(&tunnel));
    let (_, user, password) = one.way();
    let right = login(user, password);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (target, code) in [("169.254.169.254:80".parse().unwrap(), reply::REFUSED), (gone, reply::UNREACHABLE)] {
        let answers = converse(&tunnel, &[HELLO, &right, &request(CONNECT, target)]).await.1;
        assert_eq!(answers[2][1], code);
    }
    assert!(other.trouble().is_none());
    for _ in 0..TOLD {
        let told = one.trouble().unwrap().to_string();
        assert!(told.contains("169.254.169.254:80 is a link-local address"), "{told}");
    }
    assert!(one.trouble().is_none());
}

#[tokio::test]
async fn a_connection_ends_with_either_side_and_with_the_tunnel() {
    let brokers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tunnel = tunnel().await;
    let pass = pass(&tunnel);
    let (_, user, password) = pass.way();
    let messages = [HELLO, &login(user, password), &request(CONNECT, brokers.local_addr().unwrap())];
    for who in ["client", "broker", "tunnel"] {
        let (mut client, answers) = converse(&tunnel, &messages).await;
        assert_eq!(answers[2][1], reply::CONNECTED);
        let (mut broker, _) = brokers.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut heard = [0; 4];
        broker.read_exact(&mut heard).await.unwrap();
        broker.write_all(&heard).await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
        match who {
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
async fn a_client_has_no_more_than_its_share_of_connections() {
    let brokers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tunnel = tunnel().await;
    let (greedy, modest) = (pass(&tunnel), pass(&tunnel));
    let _all = greedy.client.connections.try_acquire_many(5).unwrap();
    for (pass, code) in [(&greedy, reply::FAILED), (&modest, reply::CONNECTED)] {
        let (_, user, password) = pass.way();
        let messages = [HELLO, &login(user, password), &request(CONNECT, brokers.local_addr().unwrap())];
        assert_eq!(converse(&tunnel, &messages).await.1[2][1], code);
    }
    let told = greedy.trouble().unwrap();
    assert_eq!(told.category(), Category::LimitExceeded);
    assert!(told.to_string().contains("already has 5 connections"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_shown_out() {
    let tunnel = tunnel().await;
    let mut stream = TcpStream::connect(tunnel.address).await.unwrap();
    stream.write_all(&[5]).await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

/// Endless pages and large frames amount to the same.
#[tokio::test]
async fn b1_a_broker_that_sends_without_end_is_cut_off_at_the_budget_of_the_round() {
    let brokers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = brokers.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = brokers.accept().await {
            tokio::spawn(async move { while stream.write_all(&[7; 1 << 10]).await.is_ok() {} });
        }
    });
    let tunnel = tunnel().await;
    let (hostile, honest) = (pass(&tunnel), pass(&tunnel));
    let (_, user, password) = hostile.way();
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
    let told = hostile.trouble().unwrap();
    assert_eq!(told.category(), Category::LimitExceeded);
    assert!(told.to_string().contains("more than 1 MiB in one round"), "{told}");
    assert!(honest.trouble().is_none());
    drop(round);
    let _round = hostile.round(1 << 20);
    assert_eq!(converse(&tunnel, &messages).await.1[2][1], reply::CONNECTED, "the next round has a new budget");
}

#[tokio::test]
async fn b1_all_clients_together_have_no_more_connections_than_the_process() {
    let brokers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { connections: 3, connections_per_cluster: 2, ..Limits::default() };
    let tunnel = Tunnel::open(limits, SECOND).await.unwrap();
    let passes: Vec<Pass> = (0..4).map(|_| pass(&tunnel)).collect();
    let mut open = Vec::new();
    for (number, pass) in passes.iter().enumerate() {
        let (_, user, password) = pass.way();
        let messages = [HELLO, &login(user, password), &request(CONNECT, brokers.local_addr().unwrap())];
        let (stream, answers) = converse(&tunnel, &messages).await;
        assert_eq!(answers[2][1], if number < 3 { reply::CONNECTED } else { reply::FAILED });
        open.push(stream);
    }
    let told = passes[3].trouble().unwrap();
    assert_eq!(told.category(), Category::LimitExceeded);
    assert!(told.to_string().contains("the operator already has 3 connections to brokers"), "{told}");
}
