//! Connects to sources and workers: resolves a name once, checks each of its addresses against the [`Egress`] policy,
//! and connects to exactly these addresses.
//!
//! Architecture invariant: every connection to a source or worker is opened after [`Egress::check`] has allowed it. The
//! connections that krafka opens by itself, such as those to advertised brokers, go through `tunnel.rs` and thereby
//! through this module.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, select_ok};
use thiserror::Error;
use tokio::net::TcpStream;

use super::egress::{Egress, effective_address};
use super::sample::Category;

/// Maximum number of addresses of a name that are checked and used.
const MAX_ADDRESSES: usize = 16;

/// Delay before the next address of a name is tried while the previous one has not answered (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Maximum length of a host in a message, in characters.
const LONGEST_HOST: usize = 80;

/// Resolves `name:port`.
pub(super) type Resolver = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Returns the system's resolver.
pub(super) fn system_resolver() -> Resolver {
    Arc::new(|host| async move { Ok(tokio::net::lookup_host(host).await?.collect()) }.boxed())
}

/// Why a connection was not made. The length of each message is limited.
#[derive(Debug, Clone, Error)]
pub enum DialError {
    /// The egress policy denies the address.
    #[error(
        "{address} is {kind}, to which Sluice does not connect; correct the address, or ask Sluice's administrator to set {option}"
    )]
    Refused {
        /// The address, preceded by the name that resolved to it.
        address: String,
        /// Why the address is denied.
        kind: Cow<'static, str>,
        /// The flag that would allow it.
        option: String,
    },
    /// There are too many connections, or too much was received through them.
    #[error("{detail}")]
    LimitExceeded {
        /// The limit, and how to stay within it.
        detail: String,
    },
    /// The text is not host:port.
    #[error("\"{host}\" is not an address: {detail}; write host:port")]
    Malformed {
        /// The text.
        host: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The name cannot be resolved.
    #[error("failed to resolve {host}: {detail}; correct the name, or check the cluster's DNS")]
    Unresolved {
        /// The name and the port.
        host: String,
        /// The resolver's error.
        detail: String,
    },
    /// The connection failed.
    #[error("failed to connect to {host}: {detail}")]
    Failed {
        /// The host and the port.
        host: String,
        /// The system's error.
        detail: String,
    },
}

impl DialError {
    /// Returns the failure category.
    pub fn category(&self) -> Category {
        match self {
            Self::Refused { .. } => Category::DestinationRefused,
            Self::LimitExceeded { .. } => Category::LimitExceeded,
            Self::Malformed { .. } | Self::Unresolved { .. } | Self::Failed { .. } => Category::Unreachable,
        }
    }
}

impl Egress {
    /// Checks whether a connection to `address` is allowed.
    pub fn check(&self, address: SocketAddr) -> Result<(), DialError> {
        let checked = SocketAddr::new(effective_address(address.ip()), address.port());
        let refused = |kind, option| Err(DialError::Refused { address: checked.to_string(), kind, option });
        match (self.denial_reason(checked), self.namespace_denial_reason(checked)) {
            (Some(kind), _) => refused(kind, format!("--egress-allow {checked}")),
            (None, Some((kind, namespace))) => refused(kind, format!("--egress-namespace {namespace}={checked}")),
            (None, None) => Ok(()),
        }
    }

    /// Looks up the addresses of `host` (`name:port`) within `deadline`. Returns an error if any of them is denied: a
    /// broker's name does not also resolve to a denied address, and the result must not depend on the order of the
    /// addresses. The caller connects to these addresses, and does not resolve the name again.
    pub async fn resolve(&self, host: &str, deadline: Duration) -> Result<Vec<SocketAddr>, DialError> {
        let printable_host = printable(host);
        check_form(host).map_err(|detail| DialError::Malformed { host: printable_host.clone(), detail })?;
        let unresolved = |detail: String| DialError::Unresolved { host: printable_host.clone(), detail };
        let found = tokio::time::timeout(deadline, (self.resolver)(host.to_owned()))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {deadline:.1?}")))
            })
            .map_err(|error| unresolved(error.to_string()))?;
        let addresses: Vec<_> = found.into_iter().take(MAX_ADDRESSES).collect();
        if addresses.is_empty() {
            return Err(unresolved("the name has no address".to_owned()));
        }
        for address in &addresses {
            self.check(*address).map_err(|error| match error {
                DialError::Refused { address, kind, option } if address != host => {
                    DialError::Refused { address: format!("{printable_host} ({address})"), kind, option }
                }
                other => other,
            })?;
        }
        Ok(addresses)
    }

    /// Connects to `host` (`name:port`) within `deadline`.
    pub(super) async fn connect(&self, host: &str, deadline: Duration) -> Result<TcpStream, DialError> {
        let failed = |detail: String| DialError::Failed { host: printable(host), detail };
        let connecting = async {
            let addresses = self.resolve(host, deadline).await?;
            let attempts = addresses.into_iter().zip(0..).map(|(address, number)| {
                async move {
                    tokio::time::sleep(STAGGER * number).await;
                    TcpStream::connect(address).await
                }
                .boxed()
            });
            // There is at least one attempt: a name without addresses is an error.
            let (stream, _) = select_ok(attempts).await.map_err(|error| failed(error.to_string()))?;
            Ok(stream)
        };
        let late = |_| Err(failed(format!("no answer within {deadline:.1?}")));
        tokio::time::timeout(deadline, connecting).await.unwrap_or_else(late)
    }
}

/// Checks that a name consists of letters, digits, `-`, `_` and dots. No broker needs other characters, and resolvers
/// might misread them.
fn check_form(host: &str) -> Result<(), &'static str> {
    let (name, port) = host.rsplit_once(':').ok_or("the port is missing")?;
    if port.parse::<u16>().is_ok_and(|port| port != 0) {
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let legal = literal.map_or_else(|| !name.is_empty() && plain(name), |ip| ip.parse::<IpAddr>().is_ok());
        return if legal { Ok(()) } else { Err("the host name is invalid") };
    }
    Err("the port must be 1 to 65535")
}

/// Returns the host as it may occur in a message: on one line, with a limited length.
pub(super) fn printable(host: &str) -> String {
    host.chars().flat_map(char::escape_debug).take(LONGEST_HOST).collect()
}

#[cfg(test)]
mod tests;
