//! Kafka: the client of one cluster and its life. What is asked is in `round.rs`, what the answers mean in `answer.rs`.
//!
//! krafka is young and changes often, so nothing of it leaves this folder, but that tests begin clients themselves.

mod answer;
mod problem;
mod round;
mod stamps;
mod way;

#[cfg(test)]
mod limit_tests;
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
use self::way::{TopicList, Way};
use super::dial::DialError;
use super::egress::Egress;
use super::limits::{self, Limits};
use super::names;
use super::source::{Answers, Cluster, Connect, GroupTopic, Place, SourceError};
use super::tunnel::{Home, Pass, Round};
use sluice_base::clock::Clock;

/// After so many rounds in a row to which nothing was answered, the client is thrown away and built anew: it may be stuck on
/// connections that are dead, or on addresses that have changed.
const MISSES_BEFORE_REBUILD: u32 = 3;

/// krafka waits so long for a TCP connection. The deadline of a round is what counts; this ends what outlives it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// krafka closes a connection on which a request is unanswered for so long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Larger than the answer for 100,000 partitions, far below krafka's default of 100 MiB.
const LARGEST_ANSWER: usize = 8 << 20;

/// Why a round was given up that had much of what all rounds share.
const TOO_SLOW: &str = "its answers are large, and did not come in their time, or other large answers were before them; name a topic with fewer partitions, or ask the administrator of Sluice for more memory (--source-memory)";

/// Begins a client of the brokers at these addresses, with commas between them.
pub type Begin = Arc<dyn Fn(&str) -> KafkaBuilder + Send + Sync>;

/// Reaches Kafka clusters through krafka.
#[derive(Clone)]
pub struct KafkaConnect {
    clock: Clock,
    egress: Egress,
    in_cluster: bool,
    way: Way,
    begin: Option<Begin>,
}

impl KafkaConnect {
    /// `clock` gives samples their time, and must agree with the brokers' to well within the latency objective. `egress`
    /// says where brokers may be.
    pub fn new(clock: Clock, egress: Egress) -> Self {
        Self { clock, egress, in_cluster: false, way: Way::new(Limits::default(), CONNECT_TIMEOUT), begin: None }
    }

    /// With these limits, before anything is connected to.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { way: Way::new(limits, CONNECT_TIMEOUT), ..self }
    }

    /// Names without a dot are looked up as pods of the job's namespace would, or else as this process does.
    #[must_use]
    pub fn in_cluster(self, in_cluster: bool) -> Self {
        Self { in_cluster, ..self }
    }

    /// As `new`, with clients that `begin` begins: those of krafka's brokers in memory, which nobody reaches by an address.
    pub fn through(clock: Clock, begin: Begin) -> Self {
        Self { begin: Some(begin), ..Self::new(clock, Egress::of_this_machine()) }
    }
}

impl Connect for KafkaConnect {
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster> {
        self.connect_to(&Place { servers: bootstrap_servers.to_vec(), under: None })
    }

    fn connect_to(&self, place: &Place) -> Arc<dyn Cluster> {
        Arc::new(KafkaCluster::new(self, place))
    }

    fn place(&self, namespace: &str, bootstrap_servers: &[String]) -> Place {
        let look_up = |server: &String| {
            if self.in_cluster { names::of_namespace(server, namespace) } else { server.clone() }
        };
        let under = self.egress.distinguishes(namespace).then(|| namespace.to_owned());
        Place { under, ..Place::of(bootstrap_servers.iter().map(look_up).collect()) }
    }
}

/// One cluster.
struct KafkaCluster {
    clock: Clock,
    begin: Option<Begin>,
    servers: Vec<String>,
    /// The bootstrap servers, for messages.
    name: String,
    egress: Egress,
    home: Home,
    way: Way,
    client: tokio::sync::Mutex<Option<Client>>,
    /// Rounds since something was answered.
    misses: AtomicU32,
    /// What the last round that has ended knew. A round that is dropped takes nothing of it along.
    kept: Mutex<Arc<Kept>>,
}

/// krafka's client, and the way that it has to the brokers.
#[derive(Clone)]
struct Client {
    admin: Arc<AdminClient>,
    /// `None`: it dials nobody.
    pass: Option<Arc<Pass>>,
    /// Room for what krafka keeps of all topics of the cluster, which it asks for while it connects. `None`: there is none, and
    /// the client is used for one round.
    topic_list: Option<TopicList>,
}

impl KafkaCluster {
    fn new(connect: &KafkaConnect, place: &Place) -> Self {
        let home = match names::home(&place.servers) {
            _ if !connect.in_cluster => Home::Here,
            Some(namespace) => Home::Namespace(namespace),
            None => Home::Unknown,
        };
        Self {
            clock: connect.clock.clone(),
            begin: connect.begin.clone(),
            servers: place.servers.clone(),
            name: name(&place.servers),
            egress: match &place.under {
                Some(namespace) => connect.egress.under(namespace),
                None => connect.egress.clone(),
            },
            home,
            way: connect.way.clone(),
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
        let known = Arc::clone(&*self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let account = client.pass.as_ref().map(|pass| {
            let round = pass.round(limits::bytes_of_a_round(requests.len()));
            round.with_free(limits::free_for_questions(requests.len()))
        });
        let deadline = deadline.mul_f64(0.55);
        let round = round::gather(&client.admin, &self.clock, requests, deadline, known, account.as_ref()).await;
        if round.answered {
            self.misses.store(0, Ordering::Relaxed);
        }
        let mut answers: Answers = requests.iter().map(|request| answer::of(request, &round, &self.name)).collect();
        if let Some(trouble) = client.pass.as_ref().and_then(|pass| pass.trouble()) {
            way::explain(&mut answers, &trouble, &self.name);
        }
        if let Some(account) = account {
            let partitions = round.topics.values().flatten().map(|topic| topic.partitions.len()).sum();
            let explained = limits::bytes_explained(requests.len(), partitions);
            if account.sent() > explained || client.topic_list.is_none() {
                *self.client.lock().await = None;
            }
            self.settle(account, &mut answers);
        }
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = round.kept;
        answers
    }

    /// Ends the account of a round. One that has taken much of what all have together, and was not answered in its time, is
    /// not asked for again as soon as one that nobody answers.
    fn settle(&self, account: Round<'_>, answers: &mut Answers) {
        let unanswered = answers.iter().any(|answer| matches!(answer, Err(SourceError::Unreachable { .. })));
        let partial = answers.iter().flatten().any(|sample| !sample.is_complete());
        if account.is_large() && unanswered {
            for answer in answers.iter_mut() {
                if matches!(answer, Err(SourceError::Unreachable { .. })) {
                    *answer =
                        Err(SourceError::RoundTooLarge { cluster: self.name.clone(), detail: TOO_SLOW.to_owned() });
                }
            }
        }
        if !unanswered && !partial {
            account.ended_well();
        }
    }

    async fn client(&self, deadline: Duration) -> Result<Client, SourceError> {
        let mut client = self.client.lock().await;
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let unreachable = |detail: String| SourceError::Unreachable { cluster: self.name.clone(), detail };
        let pass = match self.begin {
            None => Some(
                self.way
                    .pass(self.egress.clone(), self.home.clone())
                    .await
                    .map_err(|error| unreachable(format!("failed to listen on loopback: {error}")))?,
            ),
            Some(_) => None,
        };
        let connecting = async {
            // The addresses that were checked are those that are dialled: no second look-up in between.
            let addresses = self.resolve(deadline).await?;
            let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            let addresses = addresses.join(",");
            let client =
                self.begin.as_ref().map_or_else(|| Kafka::builder(addresses.clone()), |begin| begin(&addresses));
            match &pass {
                Some(pass) => client.proxy(way::proxy(pass)),
                None => client,
            }
            .client_id("sluice")
            .connect_timeout(CONNECT_TIMEOUT)
            .request_timeout(REQUEST_TIMEOUT)
            .max_response_size(LARGEST_ANSWER)
            .connect()
            .await
            .map_err(|error| problem::of_cluster(&error, &self.name))
        };
        let late = |_| Err(unreachable(format!("no broker answered within {deadline:.1?}")));
        let kafka =
            tokio::time::timeout(deadline, connecting).await.unwrap_or_else(late).map_err(|error| match error {
                SourceError::Unreachable { .. } => {
                    pass.as_ref().and_then(Pass::trouble).map_or(error, |trouble| way::unreached(trouble, &self.name))
                }
                other => other,
            })?;
        // A round asks a few times a second: it is better to be told at once than to be retried for.
        let admin = Arc::new(kafka.admin().retry_backoff(round::RETRY_PAUSE));
        let topic_list = self.way.topic_list(pass.as_ref().map_or(0, Pass::sent));
        let connected = Client { admin, pass: pass.map(Arc::new), topic_list };
        *client = Some(connected.clone());
        Ok(connected)
    }

    /// The addresses of all bootstrap servers. One that cannot be resolved is left out; one that is refused is an error.
    async fn resolve(&self, deadline: Duration) -> Result<Vec<SocketAddr>, SourceError> {
        let mut addresses = Vec::new();
        let mut unresolved = None;
        for found in join_all(self.servers.iter().map(|server| self.egress.resolve(server, deadline / 2))).await {
            match found {
                Ok(found) => addresses.extend(found),
                Err(error @ DialError::Refused { .. }) => return Err(way::unreached(error, &self.name)),
                Err(error) => unresolved = Some(error),
            }
        }
        match unresolved {
            Some(error) if addresses.is_empty() => Err(way::unreached(error, &self.name)),
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
