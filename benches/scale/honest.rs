//! Brokers and workers' pages of jobs that mean no harm, over loopback: krafka's broker, and what `sluice_testkit::sources` makes up.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use krafka::testing::{ClassicGroupState, ClusterState, CommittedOffset, FakeBroker, GroupMember, GroupState};
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use sluice_testkit::sources::{Pages, UNCOMMITTED, end};

/// How often what is in the brokers moves on.
const TICK: Duration = Duration::from_millis(200);

/// A job's topic: its name is the job's, as its group's is.
pub(crate) struct Topic {
    pub(crate) job: String,
    pub(crate) partitions: usize,
}

/// Starts a broker with these topics, and keeps it moving for as long as the runtime runs.
pub(crate) async fn broker(clock: &Clock, pages: &Arc<Pages>, topics: Vec<Topic>) -> String {
    let broker = FakeBroker::start().await.unwrap();
    let address = broker.bootstrap_servers();
    for topic in &topics {
        broker.create_topic(&topic.job, i32::try_from(topic.partitions).unwrap());
    }
    let (clock, pages) = (clock.clone(), Arc::clone(pages));
    tokio::spawn(async move {
        loop {
            // It notes every request, and forgets none by itself.
            broker.clear_requests();
            broker.with_state(|state| {
                state.list_offsets_lookups.clear();
                for topic in &topics {
                    go_on(state, topic, clock.now(), &pages.workers_of(&topic.job));
                }
            });
            tokio::time::sleep(TICK).await;
        }
    });
    address
}

fn go_on(state: &mut ClusterState, topic: &Topic, now: Seconds, workers: &[String]) {
    let (ended, committed) = (end(now, topic.partitions), end(now - Seconds(UNCOMMITTED), topic.partitions));
    if let Some(known) = state.topics.get_mut(&topic.job) {
        known.partitions.iter_mut().for_each(|partition| partition.next_offset = ended);
    }
    let group = state.groups.entry(topic.job.clone()).or_insert_with(|| group(topic));
    group.offsets.values_mut().for_each(|commit| commit.offset = committed);
    if !group.members.iter().map(|member| &member.client_id).eq(workers) {
        group.members = workers.iter().map(|name| member(name)).collect();
        let each = workers.iter().enumerate();
        group.assignments = each
            .map(|(turn, name)| {
                let partitions = (turn..topic.partitions).step_by(workers.len()).collect();
                (member(name).member_id, assignment(&topic.job, partitions).into())
            })
            .collect();
        group.state = if workers.is_empty() { ClassicGroupState::Empty } else { ClassicGroupState::Stable };
    }
}

fn group(topic: &Topic) -> GroupState {
    let commit = || CommittedOffset { offset: 0, leader_epoch: -1, metadata: None };
    GroupState {
        protocol_type: "consumer".to_owned(),
        protocol_name: Some("cooperative-sticky".to_owned()),
        offsets: (0..).take(topic.partitions).map(|number| ((topic.job.clone(), number), commit())).collect(),
        ..GroupState::default()
    }
}

fn member(name: &str) -> GroupMember {
    GroupMember {
        member_id: format!("{name}-1"),
        group_instance_id: None,
        metadata: Vec::new().into(),
        client_id: name.to_owned(),
        client_host: "127.0.0.1".to_owned(),
    }
}

/// As the classic protocol writes it: a version, one topic with its partitions, no user data.
fn assignment(topic: &str, partitions: Vec<usize>) -> Vec<u8> {
    let number = |number: usize| i32::try_from(number).unwrap().to_be_bytes();
    let mut bytes = vec![0; 2];
    bytes.extend(number(1));
    bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    bytes.extend(topic.bytes());
    bytes.extend(number(partitions.len()));
    bytes.extend(partitions.into_iter().flat_map(number));
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

/// Serves the workers' pages at each address of loopback, for as long as the runtime runs. The path is the pod's name.
pub(crate) async fn workers(pages: Arc<Pages>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            if SocketAddr::ip(&peer).is_loopback() {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move { serve(stream, &pages).await });
            }
        }
    });
    port
}

/// Answers the requests of one connection until one of them fails. They have no bodies, and each comes after the last answer.
async fn serve(mut stream: TcpStream, pages: &Pages) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut request = Vec::new();
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        }
        let head = std::str::from_utf8(&request).ok()?;
        let sample = pages.sample(head.split_whitespace().nth(1)?.trim_start_matches('/'));
        let page = format!(
            "sluice_worker_records_processed_total {}\nsluice_worker_busy_seconds_total {}\nprocess_start_time_seconds {}\n",
            sample.processed?, sample.busy_seconds?, sample.started_at?.0
        );
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{page}", page.len());
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}
