//! The way to the brokers: krafka dials by itself, also what brokers name as their own addresses, and knows proxies. So it
//! is given one of ours (`signals/tunnel.rs`), and the answers say what became of the connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use krafka::ProxyConfig;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::dial::DialError;
use crate::egress::Egress;
use crate::limits::{self, Limits};
use crate::sample::SourceSample;
use crate::source::SourceError;
use crate::tunnel::{Home, Pass, Tunnel};

/// One tunnel for all clusters, opened when the first is asked.
#[derive(Debug, Clone)]
pub(super) struct Way {
    limits: Limits,
    patience: Duration,
    tunnel: Arc<OnceCell<Arc<Tunnel>>>,
    /// What clients may keep of the topics of their clusters, in KiB.
    topic_lists: Arc<Semaphore>,
}

/// Room for what a client keeps of the topics of its cluster, until it is dropped.
pub(super) type TopicList = Arc<OwnedSemaphorePermit>;

impl Way {
    /// Within these limits; a connection is to be made within `patience`.
    pub(super) fn new(limits: Limits, patience: Duration) -> Self {
        let topic_lists = Arc::new(Semaphore::new((limits.topic_list_bytes >> 10).min(Semaphore::MAX_PERMITS)));
        Self { limits, patience, tunnel: Arc::default(), topic_lists }
    }

    /// Room for a list of topics that came in so many bytes; `None`: the other clients leave too little. A short one needs none.
    pub(super) fn topic_list(&self, sent: u64) -> Option<TopicList> {
        let is_short = sent <= limits::bytes_explained(0, 0);
        let kib = if is_short { 0 } else { sent.saturating_mul(limits::BYTES_PER_BYTE_SENT) >> 10 };
        let kib = u32::try_from(kib).ok()?;
        Arc::clone(&self.topic_lists).try_acquire_many_owned(kib).ok().map(Arc::new)
    }

    /// For a cluster whose brokers may be where `egress` says.
    pub(super) async fn pass(&self, egress: Egress, home: Home) -> io::Result<Pass> {
        let open = || Tunnel::open(self.limits, self.patience);
        Ok(self.tunnel.get_or_try_init(open).await?.pass(egress, home))
    }
}

pub(super) fn proxy(pass: &Pass) -> ProxyConfig {
    let (address, user, password) = pass.way();
    ProxyConfig::with_credentials(address, user, password)
}

/// Says why where krafka only knows that it could not connect. With a limit exceeded, what is not known in full is as if it
/// had not been asked: whose answers were too large is not known.
pub(super) fn explain(answers: &mut [Result<SourceSample, SourceError>], trouble: &DialError, cluster: &str) {
    let is_limit = matches!(trouble, DialError::LimitExceeded { .. });
    for answer in answers {
        match answer {
            Ok(sample) if is_limit && !sample.is_complete() => *answer = Err(unreached(trouble.clone(), cluster)),
            Err(error @ (SourceError::Unreachable { .. } | SourceError::Protocol { .. })) => {
                *error = unreached(trouble.clone(), cluster);
            }
            Err(_) => {}
            Ok(sample) => {
                let unknown =
                    sample.partitions.iter_mut().filter(|each| each.end.is_none() || each.committed.is_none());
                unknown.filter_map(|each| each.problem.as_mut()).for_each(|problem| *problem = trouble.to_string());
            }
        }
    }
}

/// A refusal is told as one, whoever named the address.
pub(super) fn unreached(trouble: DialError, cluster: &str) -> SourceError {
    let cluster = cluster.to_owned();
    match trouble {
        source @ DialError::Refused { .. } => SourceError::Forbidden { cluster, source },
        DialError::LimitExceeded { detail } => SourceError::RoundTooLarge { cluster, detail },
        other => SourceError::Unreachable { cluster, detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
