//! A source, whatever it is: the trait that hides the client library, and what can go wrong with it.
//!
//! The hub knows only this file. Kafka is behind it in `kafka.rs`; a test puts a script there.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use thiserror::Error;

use super::sample::{Category, SourceSample};

/// One question to a cluster: how far has this group come with this topic?
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupTopic {
    /// Name of the topic.
    pub topic: String,
    /// Name of the consumer group.
    pub group: String,
    /// The objective's latency: `due_end` is the end offset that long ago.
    pub latency: Duration,
}

/// The answers to a round of questions, in their order.
pub type Answers = Vec<Result<SourceSample, SourceError>>;

/// A cluster that can be asked. One client is behind it, shared by every job that reads from the cluster.
pub trait Cluster: Send + Sync {
    /// Answers every request, in order, within `deadline`, or soon after: who calls enforces it by dropping the future,
    /// which must do no harm. A failure that concerns one request or one partition stays there.
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], deadline: Duration) -> BoxFuture<'a, Answers>;
}

/// Where a source is, for the jobs of one namespace. Jobs with the same place share a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Bootstrap servers as they are looked up, sorted: two jobs that list them in another order share a client.
    pub servers: Vec<String>,
    /// The namespace whose own rules say where may be connected to; `None`: none has any.
    pub under: Option<String>,
}

impl Place {
    /// Servers in any order, without rules of a namespace.
    pub fn of(mut servers: Vec<String>) -> Self {
        servers.sort_unstable();
        servers.dedup();
        Self { servers, under: None }
    }
}

/// How clusters are reached.
pub trait Connect: Send + Sync {
    /// Where these servers are for a job of this namespace. What is written means the same everywhere unless this says
    /// otherwise.
    fn place(&self, _namespace: &str, bootstrap_servers: &[String]) -> Place {
        Place::of(bootstrap_servers.to_vec())
    }

    /// A handle to the cluster at this place. As `connect`.
    fn connect_to(&self, place: &Place) -> Arc<dyn Cluster> {
        self.connect(&place.servers)
    }

    /// A handle to the cluster behind `bootstrap_servers`. Contacts nobody: the first `sample` does, so that this
    /// cannot fail or block.
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster>;
}

/// Why a source could not be read.
#[derive(Debug, Clone, Error)]
pub enum SourceError {
    /// Nothing answers, or not in time.
    #[error(
        "failed to reach {cluster}: {detail}; check that the brokers run and that the operator's network policy lets it connect"
    )]
    Unreachable {
        /// Bootstrap servers.
        cluster: String,
        /// What was tried, and what came of it.
        detail: String,
    },
    /// The cluster refuses.
    #[error(
        "failed to read {what} from {cluster}: {detail}; grant Describe on the topic and the group to the operator"
    )]
    Unauthorised {
        /// Topic or group.
        what: String,
        /// Bootstrap servers.
        cluster: String,
        /// The broker's answer.
        detail: String,
    },
    /// Our own policy refuses to connect there.
    #[error("failed to connect to {cluster}: {source}")]
    Forbidden {
        /// Bootstrap servers.
        cluster: String,
        /// Which address, and why.
        source: super::dial::DialError,
    },
    /// More than it may cost.
    #[error("failed to read {cluster}: {detail}")]
    LimitExceeded {
        /// Bootstrap servers.
        cluster: String,
        /// What was too much, the limit, and the mend.
        detail: String,
    },
    /// All answers of a round together were more than it may cost: whose it was is not known.
    #[error("failed to read {cluster}: {detail}")]
    RoundTooLarge {
        /// Bootstrap servers.
        cluster: String,
        /// The limit, and the mend.
        detail: String,
    },
    /// It was another's turn, and there was no time left. No failure: it comes first the next time.
    #[error("{cluster} was asked for others first")]
    NotReached {
        /// Bootstrap servers.
        cluster: String,
    },
    /// The topic does not exist.
    #[error("failed to find topic {topic} on {cluster}: the cluster has no such topic; create it, or correct the name")]
    TopicMissing {
        /// Name of the topic.
        topic: String,
        /// Bootstrap servers.
        cluster: String,
    },
    /// It answers, and the answer makes no sense.
    #[error("failed to understand {cluster}: {detail}; Kafka 3.9 and later are supported")]
    Protocol {
        /// Bootstrap servers.
        cluster: String,
        /// What was asked, and what came.
        detail: String,
    },
}

impl SourceError {
    /// For the metric, the condition's reason, and how long to wait before asking again.
    pub fn category(&self) -> Category {
        match self {
            Self::Unreachable { .. } | Self::NotReached { .. } => Category::Unreachable,
            Self::LimitExceeded { .. } | Self::RoundTooLarge { .. } => Category::LimitExceeded,
            Self::Unauthorised { .. } => Category::Unauthorised,
            Self::Forbidden { source, .. } => source.category(),
            Self::TopicMissing { .. } => Category::TopicMissing,
            Self::Protocol { .. } => Category::Protocol,
        }
    }
}
