//! The trait of a source, which hides the client library, and its errors.
//!
//! The hub depends on this module only. `kafka` implements it, and tests implement it with a script.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use thiserror::Error;

use super::sample::{Category, SourceSample};

/// One question to a cluster: how far has this group read this topic?
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupTopic {
    /// Name of the topic.
    pub topic: String,
    /// Name of the consumer group.
    pub group: String,
    /// Latency of the objective: `due_end` is the end offset at this time before the sample.
    pub latency: Duration,
}

/// The answers to the questions of a round, in the order of the questions.
pub type SampleResults = Vec<Result<SourceSample, SourceError>>;

/// A cluster that can be sampled. It has one client, shared by every job that reads from the cluster.
pub trait Cluster: Send + Sync {
    /// Answers every request, in order, within `deadline` or soon after. The caller enforces the deadline by dropping
    /// the future, which must not do any harm. A failure that concerns one request or one partition does not affect the
    /// others.
    fn sample<'a>(&'a self, requests: &'a [GroupTopic], deadline: Duration) -> BoxFuture<'a, SampleResults>;
}

/// Where a cluster is, for the jobs of one namespace. Jobs with the same address share a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterAddress {
    /// Bootstrap servers as they are looked up, sorted, so that two jobs that list them in different orders share a
    /// client.
    pub servers: Vec<String>,
    /// Namespace whose own egress rules apply; `None` if there are no such rules.
    pub namespace: Option<String>,
}

impl ClusterAddress {
    /// Creates an address from servers in any order, without egress rules of a namespace.
    pub fn new(mut servers: Vec<String>) -> Self {
        servers.sort_unstable();
        servers.dedup();
        Self { servers, namespace: None }
    }
}

/// Creates clients of clusters.
pub trait Connect: Send + Sync {
    /// Returns the address of these servers for a job of this namespace. By default it is the same for every namespace.
    fn address(&self, _namespace: &str, bootstrap_servers: &[String]) -> ClusterAddress {
        ClusterAddress::new(bootstrap_servers.to_vec())
    }

    /// Creates a handle to the cluster at this address, like `connect`.
    fn connect_to(&self, address: &ClusterAddress) -> Arc<dyn Cluster> {
        self.connect(&address.servers)
    }

    /// Creates a handle to the cluster behind `bootstrap_servers`. Sends nothing before the first `sample`, so this
    /// cannot fail or block.
    fn connect(&self, bootstrap_servers: &[String]) -> Arc<dyn Cluster>;
}

/// Why a source could not be read.
#[derive(Debug, Clone, Error)]
pub enum SourceError {
    /// The cluster does not answer, or not in time.
    #[error(
        "failed to reach {cluster}: {detail}; check that the brokers are running and that the operator's network policy allows the connection"
    )]
    Unreachable {
        /// Bootstrap servers.
        cluster: String,
        /// What was tried, and the result.
        detail: String,
    },
    /// The cluster denies access.
    #[error(
        "failed to read {what} from {cluster}: {detail}; grant the operator Describe on the topic and the consumer group"
    )]
    Unauthorised {
        /// The topic or the group.
        what: String,
        /// Bootstrap servers.
        cluster: String,
        /// The broker's answer.
        detail: String,
    },
    /// Sluice's egress policy denies the connection.
    #[error("failed to connect to {cluster}: {source}")]
    Forbidden {
        /// Bootstrap servers.
        cluster: String,
        /// The denied address, and the reason.
        source: super::dial::DialError,
    },
    /// The source exceeds a limit.
    #[error("failed to read {cluster}: {detail}")]
    LimitExceeded {
        /// Bootstrap servers.
        cluster: String,
        /// What exceeds the limit, the limit, and the fix.
        detail: String,
    },
    /// All answers of a round together exceed a limit, and it is unknown which of them are too large.
    #[error("failed to read {cluster}: {detail}")]
    RoundTooLarge {
        /// Bootstrap servers.
        cluster: String,
        /// The limit, and the fix.
        detail: String,
    },
    /// The round ended before this source was read. This is not a failure: the source comes first in the next round.
    #[error("failed to read {cluster}: the round ended before this source; it comes first in the next round")]
    NotReached {
        /// Bootstrap servers.
        cluster: String,
    },
    /// The topic does not exist.
    #[error("failed to find topic {topic} on {cluster}: the topic does not exist; create it, or correct the name")]
    TopicMissing {
        /// Name of the topic.
        topic: String,
        /// Bootstrap servers.
        cluster: String,
    },
    /// The cluster's answer cannot be understood.
    #[error("failed to read {cluster}: unexpected answer: {detail}; check that it is Kafka 3.9 or later")]
    Protocol {
        /// Bootstrap servers.
        cluster: String,
        /// The question and the answer.
        detail: String,
    },
}

impl SourceError {
    /// Returns the category for metrics, for the condition's reason, and for the back-off.
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
