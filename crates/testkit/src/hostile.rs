//! Hostile brokers and workers, over loopback, with enough of Kafka's protocol for a client to accept them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How a broker answers the request for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    /// Answers with an endless sequence of pages of partitions.
    EndlessPages,
    /// Answers with 60,000 partitions in one page, and with nothing after that.
    OneLargePage,
    /// Begins an answer of 7 MiB, and sends 64 bytes of it ten times per second.
    SlowDrip,
    /// Answers with large frames that do not contain an answer.
    LargeFrames,
    /// Has a list of topics of several MiB, and one small topic.
    LargeList,
}

/// Every kind of hostile broker.
pub const BROKERS: [Broker; 5] =
    [Broker::EndlessPages, Broker::OneLargePage, Broker::SlowDrip, Broker::LargeFrames, Broker::LargeList];

/// The content of a worker's metrics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// 4 MiB of positions in the job's own topic.
    Positions,
    /// An endless label.
    EndlessLabel,
    /// One byte every 100 ms.
    SlowDrip,
}

/// Every kind of hostile page.
pub const PAGES: [Page; 3] = [Page::Positions, Page::EndlessLabel, Page::SlowDrip];

/// The topic of all hostile brokers.
pub const TOPIC: &str = "orders";

/// Starts a broker on loopback, which runs as long as the runtime.
pub async fn broker(kind: Broker) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { converse(stream, kind, address.port()).await });
        }
    });
    address
}

/// Answers the requests of one connection until one of them fails.
async fn converse(mut stream: TcpStream, kind: Broker, port: u16) -> Option<()> {
    loop {
        let length = stream.read_i32().await.ok()?;
        let mut request = vec![0; usize::try_from(length).ok()?];
        stream.read_exact(&mut request).await.ok()?;
        let key = i16::from_be_bytes([request[0], request[1]]);
        let correlation = &request[4..8];
        let body = match key {
            // ApiVersions.
            18 => versions(),
            3 => metadata(port, kind),
            75 => match kind {
                Broker::EndlessPages => page(correlation, 100_000, true),
                Broker::OneLargePage => page(correlation, 60_000, false),
                Broker::LargeList => page(correlation, 4, false),
                Broker::SlowDrip => {
                    stream.write_i32(7 << 20).await.ok()?;
                    stream.write_all(correlation).await.ok()?;
                    loop {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        stream.write_all(&[0; 64]).await.ok()?;
                    }
                }
                Broker::LargeFrames => vec![1; 7 << 20],
            },
            _ => std::future::pending().await,
        };
        let header: &[u8] = if key == 18 { &[] } else { &[0] };
        stream.write_i32(i32::try_from(4 + header.len() + body.len()).ok()?).await.ok()?;
        stream.write_all(correlation).await.ok()?;
        stream.write_all(header).await.ok()?;
        stream.write_all(&body).await.ok()?;
    }
}

/// Appends a number in Kafka's variable-length encoding.
fn varint(mut number: usize, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
}

fn text(text: &str, bytes: &mut Vec<u8>) {
    varint(text.len() + 1, bytes);
    bytes.extend(text.bytes());
}

fn versions() -> Vec<u8> {
    let mut bytes = vec![0, 0];
    let keys: [(i16, i16, i16); 3] = [(3, 9, 12), (18, 0, 3), (75, 0, 0)];
    varint(keys.len() + 1, &mut bytes);
    for (key, first, last) in keys {
        bytes.extend([key, first, last].iter().flat_map(|number| number.to_be_bytes()));
        bytes.push(0);
    }
    bytes.extend([0; 5]);
    bytes
}

fn metadata(port: u16, kind: Broker) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    varint(2, &mut bytes);
    bytes.extend(1_i32.to_be_bytes());
    text("127.0.0.1", &mut bytes);
    bytes.extend(i32::from(port).to_be_bytes());
    bytes.extend([0, 0]);
    // The cluster has no id.
    bytes.push(0);
    bytes.extend(1_i32.to_be_bytes());
    let topics = if kind == Broker::LargeList { 20_000 } else { 0 };
    varint(topics + 1, &mut bytes);
    for number in 0..topics {
        bytes.extend([0, 0]);
        text(&format!("topic-{number}"), &mut bytes);
        bytes.extend([0; 16]);
        bytes.push(0);
        varint(11, &mut bytes);
        for partition in 0..10_i32 {
            bytes.extend([0, 0]);
            bytes.extend([partition, 1, 0].iter().flat_map(|number| number.to_be_bytes()));
            bytes.extend([1, 1, 1, 0]);
        }
        bytes.extend(i32::MIN.to_be_bytes());
        bytes.push(0);
    }
    bytes.push(0);
    bytes
}

/// Returns a page of partitions, 20 bytes each. With `more` its cursor points to a next page, by the correlation id,
/// which differs each time.
fn page(correlation: &[u8], partitions: i32, more: bool) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    varint(2, &mut bytes);
    bytes.extend([0, 0]);
    text(TOPIC, &mut bytes);
    bytes.extend([7; 16]);
    bytes.push(0);
    varint(usize::try_from(partitions).unwrap() + 1, &mut bytes);
    for partition in 0..partitions {
        bytes.extend([0, 0]);
        bytes.extend([partition, 1, 0].iter().flat_map(|number| number.to_be_bytes()));
        bytes.extend([1, 1, 1, 1, 1, 0]);
    }
    bytes.extend(i32::MIN.to_be_bytes());
    bytes.push(0);
    if more {
        bytes.push(1);
        text(TOPIC, &mut bytes);
        bytes.extend(correlation);
        bytes.push(0);
    } else {
        bytes.push(0xff);
    }
    bytes.push(0);
    bytes
}

/// Serves a page on loopback as long as the runtime runs.
pub async fn worker(kind: Page) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { serve(stream, kind).await });
        }
    });
    address
}

async fn serve(mut stream: TcpStream, kind: Page) -> Option<()> {
    let _request = stream.read(&mut [0; 4096]).await.ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    match kind {
        Page::Positions => {
            let line = |number: usize| {
                format!("sluice_worker_next_offset{{topic=\"{TOPIC}\",partition=\"{number}\"}} {number}\n")
            };
            let page: String = (0..70_000).map(line).collect();
            stream.write_all(page.as_bytes()).await.ok()
        }
        Page::EndlessLabel => {
            stream.write_all(b"sluice_worker_next_offset{topic=\"").await.ok()?;
            loop {
                stream.write_all(&[b'x'; 1 << 12]).await.ok()?;
            }
        }
        Page::SlowDrip => loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.write_all(b"x").await.ok()?;
        },
    }
}
