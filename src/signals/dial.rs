//! Where connections may go. Asked before every connection to a bootstrap server or a worker.
//!
//! Architecture invariant: every connection to a source or worker is opened after [`resolve`] or [`check`] agreed.
//!
//! What this does not cover: krafka has no hook for a connector, so the addresses that brokers advertise of themselves are
//! dialled by krafka without being asked here. (Its SOCKS5 option is the way in for the egress policy proper.)

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use super::sample::Category;

/// The instance metadata service of EC2 over IPv6: the one such service that is not at a link-local address.
const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// At most so many addresses of one name are looked at and used.
const ADDRESSES: usize = 16;

/// Why no connection was made.
#[derive(Debug, Clone, Error)]
pub enum DialError {
    /// The address is of a kind that no broker or worker has.
    #[error("{address} is {kind}, where Sluice never connects; correct the address")]
    Refused {
        /// The address.
        address: IpAddr,
        /// What kind it is.
        kind: &'static str,
    },
    /// The name has no address.
    #[error("failed to resolve {host}: {detail}; correct the name, or check the cluster's DNS")]
    Unresolved {
        /// host:port.
        host: String,
        /// The resolver's words.
        detail: String,
    },
}

impl DialError {
    /// As a category of the room.
    pub fn category(&self) -> Category {
        match self {
            Self::Refused { .. } => Category::Unauthorised,
            Self::Unresolved { .. } => Category::Unreachable,
        }
    }
}

/// Whether a connection to `address` is allowed. Loopback is.
pub fn check(address: IpAddr) -> Result<(), DialError> {
    // An IPv4 address in IPv6 clothes (::ffff:169.254.169.254) is judged as what it is.
    let canonical = address.to_canonical();
    let kind = match canonical {
        ip if ip.is_unspecified() => "the unspecified address",
        ip if ip.is_multicast() => "a multicast address",
        IpAddr::V4(ip) if ip.is_broadcast() => "the broadcast address",
        IpAddr::V4(ip) if ip.is_link_local() => "a link-local address (cloud metadata lives there)",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => "a link-local address",
        IpAddr::V6(ip) if ip == EC2_METADATA => "the cloud's metadata service",
        _ => return Ok(()),
    };
    Err(DialError::Refused { address: canonical, kind })
}

/// The addresses of `host` (`name:port`), looked up within `deadline`; an error if any of them is refused, because a
/// name that leads there as well is no broker's. The caller connects to these, and does not resolve again.
pub async fn resolve(host: &str, deadline: Duration) -> Result<Vec<SocketAddr>, DialError> {
    let unresolved = |detail: String| DialError::Unresolved { host: host.to_owned(), detail };
    let found = tokio::time::timeout(deadline, tokio::net::lookup_host(host))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {deadline:.1?}"))))
        .map_err(|error| unresolved(error.to_string()))?;
    let addresses: Vec<_> = found.take(ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(unresolved("the name has no address".to_owned()));
    }
    addresses.iter().try_for_each(|address| check(address.ip()))?;
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_where_no_broker_is() {
        for address in [
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
        ] {
            assert!(check(address.parse().unwrap()).is_err(), "{address}");
        }
    }

    #[test]
    fn allows_where_brokers_are() {
        for address in ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.7", "fd00::7", "2001:db8::1", "8.8.8.8"] {
            assert!(check(address.parse().unwrap()).is_ok(), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_metadata_is_refused_before_connecting() {
        let error = resolve("169.254.169.254:9092", Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.category(), Category::Unauthorised);
        assert!(error.to_string().contains("169.254.169.254 is a link-local address"), "{error}");
    }

    #[tokio::test]
    async fn says_which_name_has_no_address() {
        let error = resolve("no-such-host.invalid:9092", Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.category(), Category::Unreachable);
        assert!(error.to_string().contains("no-such-host.invalid:9092"), "{error}");
    }
}
