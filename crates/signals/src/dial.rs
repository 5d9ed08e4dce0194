//! The one way to a source or a worker: a name is resolved once, every address of it is judged by [`Egress`], and the
//! connection is made to exactly those.
//!
//! Architecture invariant: every connection to a source or worker is opened after [`Egress::check`] agreed. What krafka
//! dials by itself, such as the brokers that a broker names, goes through `tunnel.rs` and so comes here, too.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, select_ok};
use thiserror::Error;
use tokio::net::TcpStream;

use super::egress::{Egress, carried};
use super::sample::Category;

/// At most so many addresses of one name are looked at and used.
const ADDRESSES: usize = 16;

/// The next address of a name is tried when the ones before it have not answered for so long (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Longest host that is repeated in a message, in characters.
const LONGEST_HOST: usize = 80;

/// Resolves `name:port`.
pub(super) type LookUp = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The system's resolver.
pub(super) fn system() -> LookUp {
    Arc::new(|host| async move { Ok(tokio::net::lookup_host(host).await?.collect()) }.boxed())
}

/// Why no connection was made. Every message is bounded.
#[derive(Debug, Clone, Error)]
pub enum DialError {
    /// The policy refuses the address.
    #[error(
        "{address} is {kind}, where Sluice does not connect; correct the address, or ask the administrator of Sluice for {option}"
    )]
    Refused {
        /// The address, behind the name that has it.
        address: String,
        /// What kind it is.
        kind: Cow<'static, str>,
        /// What would have to be set.
        option: String,
    },
    /// There are too many connections, or too much has come through them.
    #[error("{detail}")]
    LimitExceeded {
        /// Which limit it is, and the mend.
        detail: String,
    },
    /// It is not host:port.
    #[error("\"{host}\" is no address: {detail}; write host:port")]
    Malformed {
        /// What was given.
        host: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The name has no address.
    #[error("failed to resolve {host}: {detail}; correct the name, or check the cluster's DNS")]
    Unresolved {
        /// host:port.
        host: String,
        /// The resolver's words.
        detail: String,
    },
    /// Nobody answers there.
    #[error("failed to connect to {host}: {detail}")]
    Failed {
        /// host:port.
        host: String,
        /// The system's words.
        detail: String,
    },
}

impl DialError {
    /// As a category of the room.
    pub fn category(&self) -> Category {
        match self {
            Self::Refused { .. } => Category::DestinationRefused,
            Self::LimitExceeded { .. } => Category::LimitExceeded,
            Self::Malformed { .. } | Self::Unresolved { .. } | Self::Failed { .. } => Category::Unreachable,
        }
    }
}

impl Egress {
    /// Whether a connection to `address` may be made.
    pub fn check(&self, address: SocketAddr) -> Result<(), DialError> {
        let judged = SocketAddr::new(carried(address.ip()), address.port());
        let refused = |kind, option| Err(DialError::Refused { address: judged.to_string(), kind, option });
        match (self.objection(judged), self.objection_of_namespace(judged)) {
            (Some(kind), _) => refused(kind, format!("--egress-allow {judged}")),
            (None, Some((kind, namespace))) => refused(kind, format!("--egress-namespace {namespace}={judged}")),
            (None, None) => Ok(()),
        }
    }

    /// The addresses of `host` (`name:port`), looked up within `deadline`; an error if any of them is refused: a name that
    /// leads there as well is no broker's, and which of them would be dialled must not depend on the order of an answer.
    /// The caller connects to these, and does not resolve again.
    pub async fn resolve(&self, host: &str, deadline: Duration) -> Result<Vec<SocketAddr>, DialError> {
        let shown = shown(host);
        well_formed(host).map_err(|detail| DialError::Malformed { host: shown.clone(), detail })?;
        let unresolved = |detail: String| DialError::Unresolved { host: shown.clone(), detail };
        let found = tokio::time::timeout(deadline, (self.look_up)(host.to_owned()))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {deadline:.1?}")))
            })
            .map_err(|error| unresolved(error.to_string()))?;
        let addresses: Vec<_> = found.into_iter().take(ADDRESSES).collect();
        if addresses.is_empty() {
            return Err(unresolved("the name has no address".to_owned()));
        }
        for address in &addresses {
            self.check(*address).map_err(|error| match error {
                DialError::Refused { address, kind, option } if address != host => {
                    DialError::Refused { address: format!("{shown} ({address})"), kind, option }
                }
                other => other,
            })?;
        }
        Ok(addresses)
    }

    /// A connection to `host` (`name:port`), within `deadline`.
    pub(super) async fn connect(&self, host: &str, deadline: Duration) -> Result<TcpStream, DialError> {
        let failed = |detail: String| DialError::Failed { host: shown(host), detail };
        let connecting = async {
            let addresses = self.resolve(host, deadline).await?;
            let attempts = addresses.into_iter().zip(0..).map(|(address, number)| {
                async move {
                    tokio::time::sleep(STAGGER * number).await;
                    TcpStream::connect(address).await
                }
                .boxed()
            });
            // Of one at least: a name without addresses was an error.
            let (stream, _) = select_ok(attempts).await.map_err(|error| failed(error.to_string()))?;
            Ok(stream)
        };
        let late = |_| Err(failed(format!("no answer within {deadline:.1?}")));
        tokio::time::timeout(deadline, connecting).await.unwrap_or_else(late)
    }
}

/// Names are of letters, digits, `-`, `_` and dots. Anything else is for a resolver to stumble over, and no broker's.
fn well_formed(host: &str) -> Result<(), &'static str> {
    let (name, port) = host.rsplit_once(':').ok_or("the port is missing")?;
    if port.parse::<u16>().is_ok_and(|port| port != 0) {
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let legal = literal.map_or_else(|| !name.is_empty() && plain(name), |ip| ip.parse::<IpAddr>().is_ok());
        return if legal { Ok(()) } else { Err("no host has such a name") };
    }
    Err("the port must be 1 to 65535")
}

/// As it may be repeated in a message: of bounded length, on one line.
pub(super) fn shown(host: &str) -> String {
    host.chars().flat_map(char::escape_debug).take(LONGEST_HOST).collect()
}

#[cfg(test)]
mod tests;
