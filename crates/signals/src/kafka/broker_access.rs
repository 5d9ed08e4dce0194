//! Access to the brokers. krafka opens connections by itself, also to the addresses that brokers advertise, and
//! supports proxies. So it is given this process's proxy (`signals/tunnel.rs`), whose errors are added to the answers
//! here.

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
use crate::tunnel::{ProxyHandle, ShortNames, Tunnel};

/// One proxy for all clusters, started for the first one.
#[derive(Debug, Clone)]
pub(super) struct BrokerAccess {
    limits: Limits,
    connect_timeout: Duration,
    tunnel: Arc<OnceCell<Arc<Tunnel>>>,
    /// What clients may keep about the topics of their clusters, in KiB.
    topic_lists: Arc<Semaphore>,
}

/// Memory for what a client keeps about the topics of its cluster, until it is dropped.
pub(super) type TopicList = Arc<OwnedSemaphorePermit>;

impl BrokerAccess {
    /// Creates the access with these limits. Connections must be made within `connect_timeout`.
    pub(super) fn new(limits: Limits, connect_timeout: Duration) -> Self {
        let topic_lists = Arc::new(Semaphore::new((limits.topic_list_bytes >> 10).min(Semaphore::MAX_PERMITS)));
        Self { limits, connect_timeout, tunnel: Arc::default(), topic_lists }
    }

    /// Reserves memory for a list of topics that was sent in this many bytes; `None` if the other clients leave too
    /// little. A short list needs none.
    pub(super) fn reserve_topic_list(&self, sent: u64) -> Option<TopicList> {
        let is_short = sent <= limits::expected_bytes(0, 0);
        let kib = if is_short { 0 } else { sent.saturating_mul(limits::BYTES_PER_BYTE_SENT) >> 10 };
        let kib = u32::try_from(kib).ok()?;
        Arc::clone(&self.topic_lists).try_acquire_many_owned(kib).ok().map(Arc::new)
    }

    /// Returns the proxy for a cluster whose brokers may be where `egress` allows.
    pub(super) async fn register_client(&self, egress: Egress, short_names: ShortNames) -> io::Result<ProxyHandle> {
        let open = || Tunnel::open(self.limits, self.connect_timeout);
        Ok(self.tunnel.get_or_try_init(open).await?.register_client(egress, short_names))
    }
}

/// Returns krafka's configuration of the proxy.
pub(super) fn proxy_config(proxy: &ProxyHandle) -> ProxyConfig {
    let (address, user, password) = proxy.login();
    ProxyConfig::with_credentials(address, user, password)
}

/// Adds the cause to answers for which krafka only reports that it could not connect. If a limit was exceeded,
/// incomplete samples are replaced as well, because it is unknown whose answers were too large.
pub(super) fn add_connection_error(
    answers: &mut [Result<SourceSample, SourceError>],
    cause: &DialError,
    cluster: &str,
) {
    let is_limit = matches!(cause, DialError::LimitExceeded { .. });
    for answer in answers {
        match answer {
            Ok(sample) if is_limit && !sample.is_complete() => *answer = Err(from_dial_error(cause.clone(), cluster)),
            Err(error @ (SourceError::Unreachable { .. } | SourceError::Protocol { .. })) => {
                *error = from_dial_error(cause.clone(), cluster);
            }
            Err(_) => {}
            Ok(sample) => {
                let unknown =
                    sample.partitions.iter_mut().filter(|each| each.end.is_none() || each.committed.is_none());
                unknown.filter_map(|each| each.problem.as_mut()).for_each(|problem| *problem = cause.to_string());
            }
        }
    }
}

/// Translates a connection error. A denial remains a denial, whether a user or a broker named the address.
pub(super) fn from_dial_error(error: DialError, cluster: &str) -> SourceError {
    let cluster = cluster.to_owned();
    match error {
        source @ DialError::Refused { .. } => SourceError::Forbidden { cluster, source },
        DialError::LimitExceeded { detail } => SourceError::RoundTooLarge { cluster, detail },
        other => SourceError::Unreachable { cluster, detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
