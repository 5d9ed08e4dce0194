//! Kafka: the client of one cluster and its life. What is asked is in `round.rs`, what the answers mean in `answer.rs`.
//!
//! krafka is young and changes often, so nothing of it leaves this folder, but that tests begin clients themselves.

mod answer;
mod problem;
mod round;
mod stamps;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use krafka::admin::AdminClient;
use krafka::{Kafka, KafkaBuilder};
use tracing::info;

use self::round::Kept;
use super::dial::{self, DialError};
use super::source::{Answers, Cluster, Connect, GroupTopic, SourceError};
use crate::clock::Clock;

/// After so many rounds in a row to which nothing was answered, the client is thrown away and built anew: it may be stuck on
/// connections that are dead, or on addresses that have changed.
const MISSES_BEFORE_REBUILD: u32 = 3;

/// krafka waits so long for a TCP connection. The deadline of a round is what counts; this ends what outlives it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// krafka closes a connection on which a request is unanswered for so long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Larger than the answer for 100,000 partitions, far below krafka's default of 100 MiB.
const LARGEST_ANSWER: usize = 16 << 20;

/// Begins a client of the brokers at these addresses, with commas between them.
pub type Begin = Arc<dyn Fn(&str) -> KafkaBuilder + Send + Sync>;

/// Reaches Kafka clusters through krafka.
#[derive(Clone)]
pub struct KafkaConnect {
    clock: Clock,
    begin: Begin,
}

impl KafkaConnect {
    /// `clock` gives samples their time, and must agree with the brokers' to well within the latency objective.
    pub fn new(clock: Clock) -> Self {
        Self::through(clock, Arc::new(|addresses: &str| Kafka::builder(addresses)))
    }

    /// As `new`, with clients that `begin` begins: those of krafka's brokers in memory, which nobody reaches by an address.
    pub fn through(clock: Clock, begin: Begin) -> Self {
        Self { clock, begin }
    }
}

impl Connect for KafkaConnect {
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        Arc::new(KafkaCluster::new(self, bootstrap_servers))
    }
}

/// One cluster.
struct KafkaCluster {
    clock: Clock,
    begin: Begin,
    servers: Vec<String>,
    /// The bootstrap servers, for messages.
    name: String,
    client: tokio::sync::Mutex<Option<Arc<AdminClient>>>,
    /// Rounds since something was answered.
    misses: AtomicU32,
    kept: Mutex<Kept>,
}

impl KafkaCluster {
    fn new(connect: &KafkaConnect, servers: &[String]) -> Self {
        Self {
            clock: connect.clock.clone(),
            begin: Arc::clone(&connect.begin),
            servers: servers.to_vec(),
            name: name(servers),
            client: tokio::sync::Mutex::new(None),
            misses: AtomicU32::new(0),
            kept: Mutex::default(),
        }
    }

    async fn round(&self, requests: &[GroupTopic], deadline: Duration) -> Answers {
        // Counted before anything is awaited: a round that is dropped at its deadline is a miss, too.
        let misses = self.misses.fetch_add(1, Ordering::Relaxed);
        if misses > 0 && misses.is_multiple_of(MISSES_BEFORE_REBUILD) && self.client.lock().await.take().is_some() {
            info!(cluster = self.name, misses, "nothing was answered; connecting anew");
        }
        let client = match self.client(deadline.mul_f64(0.4)).await {
            Ok(client) => client,
            Err(error) => return requests.iter().map(|_| Err(error.clone())).collect(),
        };
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let round = round::gather(&client, &self.clock, requests, deadline.mul_f64(0.55), kept).await;
        if round.answered {
            self.misses.store(0, Ordering::Relaxed);
        }
        let answers = requests.iter().map(|request| answer::of(request, &round, &self.name)).collect();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = round.kept;
        answers
    }

    async fn client(&self, deadline: Duration) -> Result<Arc<AdminClient>, SourceError> {
        let mut client = self.client.lock().await;
        if let Some(client) = client.as_ref() {
            return Ok(Arc::clone(client));
        }
        let connecting = async {
            // The addresses that were checked are those that are dialled: no second look-up in between.
            let addresses = self.resolve(deadline).await?;
            let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            (self.begin)(&addresses.join(","))
                .client_id("sluice")
                .connect_timeout(CONNECT_TIMEOUT)
                .request_timeout(REQUEST_TIMEOUT)
                .max_response_size(LARGEST_ANSWER)
                .connect()
                .await
                .map_err(|error| problem::of_cluster(&error, &self.name))
        };
        let kafka = tokio::time::timeout(deadline, connecting).await.unwrap_or_else(|_| {
            let detail = format!("no broker answered within {deadline:.1?}");
            Err(SourceError::Unreachable { cluster: self.name.clone(), detail })
        })?;
        // A round asks a few times a second: it is better to be told at once than to be retried for.
        let admin = Arc::new(kafka.admin().retry_backoff(round::RETRY_PAUSE));
        *client = Some(Arc::clone(&admin));
        Ok(admin)
    }

    /// The addresses of all bootstrap servers. One that cannot be resolved is left out; one that is refused is an error.
    async fn resolve(&self, deadline: Duration) -> Result<Vec<SocketAddr>, SourceError> {
        let mut addresses = Vec::new();
        let mut unresolved = None;
        for found in join_all(self.servers.iter().map(|server| dial::resolve(server, deadline / 2))).await {
            match found {
                Ok(found) => addresses.extend(found),
                Err(error @ DialError::Unresolved { .. }) => unresolved = Some(error),
                Err(error) => return Err(SourceError::Forbidden { cluster: self.name.clone(), source: error }),
            }
        }
        match unresolved {
            Some(error) if addresses.is_empty() => {
                Err(SourceError::Unreachable { cluster: self.name.clone(), detail: error.to_string() })
            }
            _ => Ok(addresses),
        }
    }
}

impl Cluster for KafkaCluster {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], deadline: Duration) -> BoxFuture<'a, Answers> {
        self.round(requests, deadline).boxed()
    }
}

/// The first server, and how many more: the list may be long, and messages are bounded.
fn name(servers: &[String]) -> String {
    match servers {
        [] => "a cluster without bootstrap servers".to_owned(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}
