//! The egress policy: the addresses at which sources and workers may be. A user who may create a job chooses the
//! brokers' addresses, and brokers advertise further addresses. The operator must not connect on a user's behalf to an
//! address that the user's own pods cannot reach. `dial.rs` enforces the policy.
//!
//! Private ranges are allowed, because brokers are there. `--egress-allow` takes precedence over `--egress-deny`, and
//! `--egress-deny` over the built-in rules, so that an administrator can also allow nothing but a list.
//! `--egress-namespace` further limits the jobs of one namespace to the given ranges; it does not allow an address that
//! is denied for all namespaces.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::dial::{self, Resolver};

/// Ports of Kubernetes components on every node; brokers do not use them.
const PORTS: [(u16, &str); 5] = [
    (10250, "the port of the kubelet"),
    (10255, "the read-only port of the kubelet"),
    (6443, "the port of the API server"),
    (2379, "the port of etcd"),
    (2380, "the port of etcd"),
];

/// The egress policy. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    rules: Arc<Rules>,
    /// Namespace whose rules apply as well; `None` if namespace rules do not apply.
    namespace: Option<Arc<str>>,
    /// Resolver of host names: the system's, except in tests.
    pub(super) resolver: Resolver,
}

#[derive(Debug, Clone, Default)]
struct Rules {
    allow: Vec<AddressRange>,
    deny: Vec<AddressRange>,
    api_server: Vec<AddressRange>,
    namespaces: BTreeMap<String, Vec<AddressRange>>,
    only_listed: bool,
}

/// The ranges that the jobs of one namespace may connect to: `team-a=10.1.0.0/16,10.2.3.4:9092`. Without a range after
/// the `=`, they may not connect at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRanges {
    /// Name of the namespace.
    pub namespace: String,
    /// Ranges in which the namespace's sources may be.
    pub ranges: Vec<AddressRange>,
}

impl FromStr for NamespaceRanges {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let shown = || RangeError::Namespace(text.chars().take(80).collect());
        let (namespace, ranges) = text.split_once('=').ok_or_else(shown)?;
        let namespace = namespace.trim();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if namespace.is_empty() || !namespace.bytes().all(legal) {
            return Err(shown());
        }
        let ranges = ranges.split(',').filter(|range| !range.trim().is_empty()).map(str::parse);
        Ok(Self { namespace: namespace.to_owned(), ranges: ranges.collect::<Result<_, _>>()? })
    }
}

impl Egress {
    /// Creates the policy from the administrator's `allow` and `deny` lists and the addresses of the API server.
    pub fn new(allow: Vec<AddressRange>, deny: Vec<AddressRange>, api_server: Vec<AddressRange>) -> Self {
        let rules = Rules { allow, deny, api_server, ..Rules::default() };
        Self { rules: Arc::new(rules), namespace: None, resolver: dial::system_resolver() }
    }

    /// Adds rules for namespaces. The ranges of a namespace that occurs twice are combined. With `only_listed`, jobs of
    /// all other namespaces may not connect at all.
    #[must_use]
    pub fn with_namespaces(self, namespaces: Vec<NamespaceRanges>, only_listed: bool) -> Self {
        let mut rules = Rules { only_listed, ..(*self.rules).clone() };
        for NamespaceRanges { namespace, ranges } in namespaces {
            rules.namespaces.entry(namespace).or_default().extend(ranges);
        }
        Self { rules: Arc::new(rules), ..self }
    }

    /// Returns whether the policy has rules of its own for this namespace.
    pub(super) fn has_rules_for(&self, namespace: &str) -> bool {
        self.rules.only_listed || self.rules.namespaces.contains_key(namespace)
    }

    /// Returns the policy for the jobs of this namespace.
    pub(super) fn for_namespace(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..self.clone() }
    }

    /// Returns a policy for a cluster, brokers and workers on this machine: loopback is allowed.
    pub fn allow_loopback() -> Self {
        let whole = |address: IpAddr, bits| AddressRange { base: address, bits, port: None };
        let loopback = vec![whole(Ipv4Addr::LOCALHOST.into(), 8), whole(Ipv6Addr::LOCALHOST.into(), 128)];
        Self::new(loopback, Vec::new(), Vec::new())
    }

    /// Replaces the resolver.
    #[cfg(test)]
    pub(super) fn with_resolver(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    /// Returns what forbids a connection to `address`, which must be an [`effective_address`]; `None` if it is allowed.
    pub(super) fn denial_reason(&self, address: SocketAddr) -> Option<Cow<'static, str>> {
        let rules = &self.rules;
        if rules.allow.iter().any(|range| range.contains(address)) {
            return None;
        }
        if let Some(range) = rules.deny.iter().find(|range| range.contains(address)) {
            return Some(format!("in the range {range} of --egress-deny").into());
        }
        if rules.api_server.iter().any(|range| range.contains(address)) {
            return Some("the API server".into());
        }
        let port = PORTS.iter().find(|(port, _)| *port == address.port()).map(|(_, whose)| *whose);
        special_kind(address.ip()).or(port).map(Cow::from)
    }

    /// Returns what in the namespace's own rules forbids a connection to `address`, and the namespace.
    pub(super) fn namespace_denial_reason(&self, address: SocketAddr) -> Option<(Cow<'static, str>, &str)> {
        let namespace = self.namespace.as_deref()?;
        let open = match self.rules.namespaces.get(namespace) {
            Some(ranges) => ranges.iter().any(|range| range.contains(address)),
            None => !self.rules.only_listed,
        };
        (!open).then(|| (format!("outside the ranges of namespace {namespace}").into(), namespace))
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(formatter)
    }
}

/// Returns the kind of an address at which there cannot be a broker or a worker.
fn special_kind(address: IpAddr) -> Option<&'static str> {
    const METADATA: &str = "the cloud's metadata service";
    Some(match address {
        IpAddr::V4(ip) => match ip.octets() {
            [0, ..] => "an unspecified address",
            [127, ..] => "a loopback address",
            [169, 254, ..] => "a link-local address (of cloud metadata services)",
            // The metadata services of Alibaba, Oracle and Azure.
            [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => METADATA,
            [224..=239, ..] => "a multicast address",
            [240..=255, ..] => "a reserved or broadcast address",
            _ => return None,
        },
        IpAddr::V6(ip) => match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => "the unspecified address",
            [0, 0, 0, 0, 0, 0, 0, 1] => "the loopback address",
            [0xfe80..=0xfebf, ..] => "a link-local address",
            [0xff00..=0xffff, ..] => "a multicast address",
            // The metadata services of EC2 (with its DNS and pod identities) and Google.
            [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => METADATA,
            // The IPv4 address behind these depends on the network.
            [0x64, 0xff9b, 1, ..] => "a local NAT64 address, which hides an IPv4 address",
            [0x2001, 0, ..] => "a Teredo address, which hides an IPv4 address",
            _ => return None,
        },
    })
}

/// Returns the address that a connection reaches in the end: an IPv6 address that embeds an IPv4 address is checked as
/// that IPv4 address. Those are mapped, compatible and translated addresses (RFC 4291, RFC 2765), NAT64 (RFC 6052) and
/// 6to4 (RFC 3056).
pub(super) fn effective_address(address: IpAddr) -> IpAddr {
    let IpAddr::V6(ip) = address else { return address };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// Addresses with a common prefix, at one port or at every port: `10.0.0.0/8`, `10.1.2.3:9092`, `fd00::/8`,
/// `[fd00::]/8:9092`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    base: IpAddr,
    bits: u8,
    port: Option<u16>,
}

/// Returns the number of bits of an address.
fn address_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Why a text is not an [`AddressRange`].
#[derive(Debug, Error)]
pub enum RangeError {
    /// The text is not a range.
    #[error(
        "failed to parse the range {0:?}: expected ADDRESS[/BITS][:PORT], such as 10.0.0.0/8, 10.1.2.3:9092 or [fd00::]/8:9092"
    )]
    Malformed(String),
    /// The text is not a rule for a namespace.
    #[error("failed to parse the rule {0:?}: expected NAMESPACE=RANGE,RANGE, such as team-a=10.1.0.0/16,10.2.3.4:9092")]
    Namespace(String),
    /// The range would never match, because the address embeds an IPv4 address.
    #[error(
        "failed to parse the range {text:?}: Sluice checks the embedded IPv4 address; write {effective_address} instead"
    )]
    EmbeddedIpv4 {
        /// The text.
        text: String,
        /// The embedded IPv4 address.
        effective_address: IpAddr,
    },
}

impl AddressRange {
    /// Returns the range of one address, at one port or at every port.
    pub fn for_address(address: IpAddr, port: Option<u16>) -> Self {
        let base = effective_address(address);
        Self { base, bits: address_bits(base), port }
    }

    fn contains(&self, address: SocketAddr) -> bool {
        let same = match (self.base, address.ip()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                (base.to_bits() ^ ip.to_bits()).checked_shr(u32::from(32 - self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                (base.to_bits() ^ ip.to_bits()).checked_shr(u32::from(128 - self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        };
        same && self.port.is_none_or(|port| port == address.port())
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let form = || RangeError::Malformed(text.chars().take(80).collect());
        let text = text.trim();
        let range = match text.split_once('/') {
            Some((address, rest)) => {
                let base = address.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| form())?;
                let (bits, port) = match rest.split_once(':') {
                    Some((bits, port)) => (bits, Some(port.parse().map_err(|_| form())?)),
                    None => (rest, None),
                };
                Self { bits: bits.parse().map_err(|_| form())?, port, base }
            }
            None => match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
                (Ok(base), _) => Self { bits: address_bits(base), base, port: None },
                (_, Ok(at)) => Self { bits: address_bits(at.ip()), base: at.ip(), port: Some(at.port()) },
                _ => return Err(form()),
            },
        };
        if range.bits > address_bits(range.base) {
            return Err(form());
        }
        match effective_address(range.base) {
            same if same == range.base => Ok(range),
            effective_address => Err(RangeError::EmbeddedIpv4 { text: text.to_owned(), effective_address }),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            IpAddr::V4(base) => write!(formatter, "{base}/{}", self.bits)?,
            IpAddr::V6(base) => write!(formatter, "[{base}]/{}", self.bits)?,
        }
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

#[cfg(test)]
mod tests;
