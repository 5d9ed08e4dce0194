//! The client of one Kafka cluster and its lifetime. `round.rs` has the requests, `answer.rs` the meaning of the
//! answers.
//!
//! krafka is young and changes often, so nothing of it leaves this folder, except that tests may build clients of their
//! own.

mod answer;
mod broker_access;
mod errors;
mod round;
mod timestamp_type;

#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use krafka::admin::AdminClient;
use krafka::{Kafka, KafkaBuilder};
use parking_lot::Mutex;
use tracing::info;

use self::broker_access::{BrokerAccess, TopicList};
use self::round::RoundCache;
use super::dial::DialError;
use super::egress::Egress;
use super::limits::{self, Limits};
use super::service_names;
use super::source::{Cluster, ClusterAddress, Connect, GroupTopic, SampleResults, SourceError};
use super::tunnel::{ProxyHandle, RoundBudget, ShortNames};
use sluice_base::clock::Clock;

/// Number of consecutive rounds without any answer after which the client is dropped and built again: it may be stuck
/// on dead connections or on addresses that have changed.
const MISSES_BEFORE_REBUILD: u32 = 3;

/// krafka's limit on the time of a TCP connect. The deadline of a round counts; this ends what outlives the round.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time after which krafka closes a connection on which a request was not answered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of an answer: larger than the answer for 100,000 partitions, far below krafka's default of 100 MiB.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// The failure of a large round that was not answered in time.
const TOO_SLOW: &str = "its large answers did not arrive in time, or waited for other large answers; use a topic with fewer partitions, or ask Sluice's administrator for more memory (--source-memory)";

/// Starts building a client of the brokers at these addresses, which are separated by commas.
pub type BuildClient = Arc<dyn Fn(&str) -> KafkaBuilder + Send + Sync>;

/// Connects to Kafka clusters with krafka.
#[derive(Clone)]
pub struct KafkaConnect {
    clock: Clock,
    egress: Egress,
    in_cluster: bool,
    broker_access: BrokerAccess,
    build_client: Option<BuildClient>,
}

impl KafkaConnect {
    /// Creates the connector. `clock` gives samples their time, and must agree with the brokers' clocks to well within
    /// the latency objective. `egress` determines where brokers may be.
    pub fn new(clock: Clock, egress: Egress) -> Self {
        Self {
            clock,
            egress,
            in_cluster: false,
            broker_access: BrokerAccess::new(Limits::default(), CONNECT_TIMEOUT),
            build_client: None,
        }
    }

    /// Sets the limits. Call this before anything is connected to.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { broker_access: BrokerAccess::new(limits, CONNECT_TIMEOUT), ..self }
    }

    /// Sets whether names without a dot are looked up as pods of the job's namespace would look them up, or as this
    /// process does.
    #[must_use]
    pub fn in_cluster(self, in_cluster: bool) -> Self {
        Self { in_cluster, ..self }
    }

    /// Creates a connector whose clients are built by `build_client`: for krafka's in-memory brokers, which have no address.
    pub fn with_client_builder(clock: Clock, build_client: BuildClient) -> Self {
        Self { build_client: Some(build_client), ..Self::new(clock, Egress::allow_loopback()) }
    }
}

impl Connect for KafkaConnect {
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        self.connect_to(&ClusterAddress { servers: bootstrap_servers.to_vec(), namespace: None })
    }

    fn connect_to(&self, address: &ClusterAddress) -> Arc<dyn Cluster> {
        Arc::new(KafkaCluster::new(self, address))
    }

    fn address(&self, namespace: &str, bootstrap_servers: &[String]) -> ClusterAddress {
        let look_up = |server: &String| {
            if self.in_cluster { service_names::qualify(server, namespace) } else { server.clone() }
        };
        let own_rules = self.egress.has_rules_for(namespace).then(|| namespace.to_owned());
        ClusterAddress { namespace: own_rules, ..ClusterAddress::new(bootstrap_servers.iter().map(look_up).collect()) }
    }
}

/// One Kafka cluster.
struct KafkaCluster {
    clock: Clock,
    build_client: Option<BuildClient>,
    servers: Vec<String>,
    /// The bootstrap servers as messages show them.
    name: String,
    egress: Egress,
    short_names: ShortNames,
    broker_access: BrokerAccess,
    client: tokio::sync::Mutex<Option<BrokerClient>>,
    /// Number of rounds since the last answer.
    misses: AtomicU32,
    /// What the last complete round learned. A round that is dropped does not take it along.
    kept: Mutex<Arc<RoundCache>>,
}

/// krafka's client, and its access to the brokers.
#[derive(Clone)]
struct BrokerClient {
    admin: Arc<AdminClient>,
    /// `None` if the client opens no connections.
    proxy: Option<Arc<ProxyHandle>>,
    /// Memory for what krafka keeps about all topics of the cluster, which it requests while it connects. `None` if
    /// there was too little: then the client is used for one round only.
    topic_list: Option<TopicList>,
}

impl KafkaCluster {
    fn new(connect: &KafkaConnect, address: &ClusterAddress) -> Self {
        let short_names = match service_names::common_namespace(&address.servers) {
            _ if !connect.in_cluster => ShortNames::ThisProcess,
            Some(namespace) => ShortNames::Namespace(namespace),
            None => ShortNames::Unknown,
        };
        Self {
            clock: connect.clock.clone(),
            build_client: connect.build_client.clone(),
            servers: address.servers.clone(),
            name: cluster_name(&address.servers),
            egress: match &address.namespace {
                Some(namespace) => connect.egress.for_namespace(namespace),
                None => connect.egress.clone(),
            },
            short_names,
            broker_access: connect.broker_access.clone(),
            client: tokio::sync::Mutex::new(None),
            misses: AtomicU32::new(0),
            kept: Mutex::default(),
        }
    }

    async fn run_round(&self, requests: &[GroupTopic], deadline: Duration) -> SampleResults {
        // Counted before anything is awaited, because a round that is dropped at its deadline is a miss, too.
        let misses = self.misses.fetch_add(1, Ordering::Relaxed);
        if misses > 0 && misses.is_multiple_of(MISSES_BEFORE_REBUILD) && self.client.lock().await.take().is_some() {
            info!(cluster = self.name, misses, "cluster does not answer; reconnecting");
        }
        let client = match self.client(deadline.mul_f64(0.4)).await {
            Ok(client) => client,
            Err(error) => return requests.iter().map(|_| Err(error.clone())).collect(),
        };
        let known = Arc::clone(&*self.kept.lock());
        let budget = client.proxy.as_ref().map(|proxy| {
            let round = proxy.round(limits::max_bytes_per_round(requests.len()));
            round.with_reserve(limits::reserve_for_questions(requests.len()))
        });
        let deadline = deadline.mul_f64(0.55);
        let round = round::gather(&client.admin, &self.clock, requests, deadline, known, budget.as_ref()).await;
        if round.answered {
            self.misses.store(0, Ordering::Relaxed);
        }
        let mut answers: SampleResults =
            requests.iter().map(|request| answer::sample_from(request, &round, &self.name)).collect();
        if let Some(error) = client.proxy.as_ref().and_then(|proxy| proxy.last_error()) {
            broker_access::add_connection_error(&mut answers, &error, &self.name);
        }
        if let Some(budget) = budget {
            let partitions = round.topics.values().flatten().map(|topic| topic.partitions.len()).sum();
            let expected = limits::expected_bytes(requests.len(), partitions);
            if budget.sent() > expected || client.topic_list.is_none() {
                *self.client.lock().await = None;
            }
            self.end_round(budget, &mut answers);
        }
        *self.kept.lock() = round.kept;
        answers
    }

    /// Ends the budget of a round. If the round used much of the shared memory and was not answered in time, the
    /// failure is that the round is too large, so that it is not repeated as soon as that of a cluster which does not
    /// answer.
    fn end_round(&self, budget: RoundBudget<'_>, answers: &mut SampleResults) {
        let unanswered = answers.iter().any(|answer| matches!(answer, Err(SourceError::Unreachable { .. })));
        let partial = answers.iter().flatten().any(|sample| !sample.is_complete());
        if budget.is_large() && unanswered {
            for answer in answers.iter_mut() {
                if matches!(answer, Err(SourceError::Unreachable { .. })) {
                    *answer =
                        Err(SourceError::RoundTooLarge { cluster: self.name.clone(), detail: TOO_SLOW.to_owned() });
                }
            }
        }
        if !unanswered && !partial {
            budget.complete();
        }
    }

    async fn client(&self, deadline: Duration) -> Result<BrokerClient, SourceError> {
        let mut client = self.client.lock().await;
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let unreachable = |detail: String| SourceError::Unreachable { cluster: self.name.clone(), detail };
        let proxy = match self.build_client {
            None => Some(
                self.broker_access
                    .register_client(self.egress.clone(), self.short_names.clone())
                    .await
                    .map_err(|error| unreachable(format!("failed to listen on loopback: {error}")))?,
            ),
            Some(_) => None,
        };
        let connecting = async {
            // The addresses that were checked are the ones that are dialled: there is no second look-up in between.
            let addresses = self.resolve(deadline).await?;
            let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            let addresses = addresses.join(",");
            let client =
                self.build_client.as_ref().map_or_else(|| Kafka::builder(addresses.clone()), |build| build(&addresses));
            match &proxy {
                Some(proxy) => client.proxy(broker_access::proxy_config(proxy)),
                None => client,
            }
            .client_id("sluice")
            .connect_timeout(CONNECT_TIMEOUT)
            .request_timeout(REQUEST_TIMEOUT)
            .max_response_size(MAX_ANSWER_BYTES)
            .connect()
            .await
            .map_err(|error| errors::from_cluster_error(&error, &self.name))
        };
        let late = |_| Err(unreachable(format!("no broker answered within {deadline:.1?}")));
        let kafka =
            tokio::time::timeout(deadline, connecting).await.unwrap_or_else(late).map_err(|error| match error {
                SourceError::Unreachable { .. } => proxy
                    .as_ref()
                    .and_then(ProxyHandle::last_error)
                    .map_or(error, |cause| broker_access::from_dial_error(cause, &self.name)),
                other => other,
            })?;
        // A round asks a few times a second, so a prompt error is better than retries.
        let admin = Arc::new(kafka.admin().retry_backoff(round::RETRY_PAUSE));
        let topic_list = self.broker_access.reserve_topic_list(proxy.as_ref().map_or(0, ProxyHandle::sent));
        let connected = BrokerClient { admin, proxy: proxy.map(Arc::new), topic_list };
        *client = Some(connected.clone());
        Ok(connected)
    }

    /// Resolves all bootstrap servers. One that cannot be resolved is left out; one that is denied is an error.
    async fn resolve(&self, deadline: Duration) -> Result<Vec<SocketAddr>, SourceError> {
        let mut addresses = Vec::new();
        let mut unresolved = None;
        for found in join_all(self.servers.iter().map(|server| self.egress.resolve(server, deadline / 2))).await {
            match found {
                Ok(found) => addresses.extend(found),
                Err(error @ DialError::Refused { .. }) => {
                    return Err(broker_access::from_dial_error(error, &self.name));
                }
                Err(error) => unresolved = Some(error),
            }
        }
        match unresolved {
            Some(error) if addresses.is_empty() => Err(broker_access::from_dial_error(error, &self.name)),
            _ => Ok(addresses),
        }
    }
}

impl Cluster for KafkaCluster {
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], deadline: Duration) -> BoxFuture<'a, SampleResults> {
        self.run_round(requests, deadline).boxed()
    }
}

/// Returns the first server and the number of others: the list may be long, and messages are limited.
fn cluster_name(servers: &[String]) -> String {
    match servers {
        [] => "a cluster without bootstrap servers".to_owned(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}
