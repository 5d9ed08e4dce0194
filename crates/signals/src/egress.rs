//! Where connections to sources and workers may go, as a value. Whoever may create a job names brokers, and brokers name
//! further ones; the operator must reach nothing for them that their own pods are kept from. Asked by `dial.rs`.
//!
//! Private ranges are open, for brokers live there. An administrator's `--egress-allow` comes first, then `--egress-deny`,
//! then what is written here: so that "nothing but these" can be said, too. `--egress-namespace` says besides, of one
//! namespace, that its jobs are connected to nothing but these; it opens nothing that is closed for all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::dial::{self, LookUp};

/// Ports at which something of the cluster's own listens, on every node, and no broker.
const PORTS: [(u16, &str); 5] = [
    (10250, "the port of the kubelet"),
    (10255, "the read-only port of the kubelet"),
    (6443, "the port of the API server"),
    (2379, "the port of etcd"),
    (2380, "the port of etcd"),
];

/// The policy. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    rules: Arc<Rules>,
    /// The namespace for whose jobs it is asked; `None`: that makes no difference.
    namespace: Option<Arc<str>>,
    /// How names are resolved: the system's way, but in tests.
    pub(super) look_up: LookUp,
}

#[derive(Debug, Clone, Default)]
struct Rules {
    allow: Vec<Range>,
    deny: Vec<Range>,
    api_server: Vec<Range>,
    namespaces: BTreeMap<String, Vec<Range>>,
    only_listed: bool,
}

/// Where the jobs of one namespace may be connected to: `team-a=10.1.0.0/16,10.2.3.4:9092`; after the `=` nothing: nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRanges {
    /// Name of the namespace.
    pub namespace: String,
    /// Where its sources may be.
    pub ranges: Vec<Range>,
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
    /// `allow` and `deny` are the administrator's, `api_server` is where that listens.
    pub fn new(allow: Vec<Range>, deny: Vec<Range>, api_server: Vec<Range>) -> Self {
        let rules = Rules { allow, deny, api_server, ..Rules::default() };
        Self { rules: Arc::new(rules), namespace: None, look_up: dial::system() }
    }

    /// The same with rules for namespaces; one that is named twice has both lists. `only_listed`: jobs of all others are
    /// connected nowhere.
    #[must_use]
    pub fn with_namespaces(self, namespaces: Vec<NamespaceRanges>, only_listed: bool) -> Self {
        let mut rules = Rules { only_listed, ..(*self.rules).clone() };
        for NamespaceRanges { namespace, ranges } in namespaces {
            rules.namespaces.entry(namespace).or_default().extend(ranges);
        }
        Self { rules: Arc::new(rules), ..self }
    }

    /// Whether it makes a difference that a job is in this namespace.
    pub(super) fn distinguishes(&self, namespace: &str) -> bool {
        self.rules.only_listed || self.rules.namespaces.contains_key(namespace)
    }

    /// The same for the jobs of this namespace.
    pub(super) fn under(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..self.clone() }
    }

    /// For a cluster, brokers and workers on this machine: loopback is open.
    pub fn of_this_machine() -> Self {
        let whole = |address: IpAddr, bits| Range { base: address, bits, port: None };
        let loopback = vec![whole(Ipv4Addr::LOCALHOST.into(), 8), whole(Ipv6Addr::LOCALHOST.into(), 128)];
        Self::new(loopback, Vec::new(), Vec::new())
    }

    /// The same with other answers to look-ups.
    #[cfg(test)]
    pub(super) fn looking_up(self, look_up: LookUp) -> Self {
        Self { look_up, ..self }
    }

    /// Why no connection may be made to `address`, which is one that [`carried`] has judged; `None`: one may.
    pub(super) fn objection(&self, address: SocketAddr) -> Option<Cow<'static, str>> {
        let rules = &self.rules;
        if rules.allow.iter().any(|range| range.contains(address)) {
            return None;
        }
        if let Some(range) = rules.deny.iter().find(|range| range.contains(address)) {
            return Some(format!("in {range}, which --egress-deny closes").into());
        }
        if rules.api_server.iter().any(|range| range.contains(address)) {
            return Some("the API server".into());
        }
        let port = PORTS.iter().find(|(port, _)| *port == address.port()).map(|(_, whose)| *whose);
        kind(address.ip()).or(port).map(Cow::from)
    }

    /// Why the namespace's own rules let nobody connect to `address`, and which namespace it is.
    pub(super) fn objection_of_namespace(&self, address: SocketAddr) -> Option<(Cow<'static, str>, &str)> {
        let namespace = self.namespace.as_deref()?;
        let open = match self.rules.namespaces.get(namespace) {
            Some(ranges) => ranges.iter().any(|range| range.contains(address)),
            None => !self.rules.only_listed,
        };
        (!open).then(|| (format!("not among what is open to namespace {namespace}").into(), namespace))
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(formatter)
    }
}

/// What an address is that no broker or worker has.
fn kind(address: IpAddr) -> Option<&'static str> {
    const METADATA: &str = "the cloud's metadata service";
    Some(match address {
        IpAddr::V4(ip) => match ip.octets() {
            [0, ..] => "an unspecified address",
            [127, ..] => "a loopback address",
            [169, 254, ..] => "a link-local address (cloud metadata lives there)",
            // Alibaba, Oracle, Azure.
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
            // EC2 (with its DNS and its pod identities), Google.
            [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => METADATA,
            // What these carry cannot be told without knowing the network.
            [0x64, 0xff9b, 1, ..] => "an address of a local NAT64, which hides another",
            [0x2001, 0, ..] => "a Teredo address, which hides another",
            _ => return None,
        },
    })
}

/// The address that is reached in the end: an IPv4 address in the clothes of IPv6 is judged as what it is. Those are mapped,
/// compatible and translated addresses (RFC 4291, 2765), NAT64 (RFC 6052) and 6to4 (RFC 3056).
pub(super) fn carried(address: IpAddr) -> IpAddr {
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

/// Addresses with a common prefix, at one port or at all: `10.0.0.0/8`, `10.1.2.3:9092`, `fd00::/8`, `[fd00::]/8:9092`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    base: IpAddr,
    bits: u8,
    port: Option<u16>,
}

/// How many bits an address has.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Why a text is no [`Range`].
#[derive(Debug, Error)]
pub enum RangeError {
    /// It is nothing of the kind.
    #[error(
        "failed to read {0:?}: it is not ADDRESS[/BITS][:PORT]; write 10.0.0.0/8, 10.1.2.3:9092 or [fd00::]/8:9092"
    )]
    Form(String),
    /// It is not of a namespace.
    #[error("failed to read {0:?}: it is not NAMESPACE=RANGE,RANGE; write team-a=10.1.0.0/16,10.2.3.4:9092")]
    Namespace(String),
    /// It would never apply.
    #[error("failed to read {text:?}: it is judged as the {carried} that it carries; write that address")]
    Clothed {
        /// What was given.
        text: String,
        /// What it comes to.
        carried: IpAddr,
    },
}

impl Range {
    /// One address at one port, or at all.
    pub fn of(address: IpAddr, port: Option<u16>) -> Self {
        let base = carried(address);
        Self { base, bits: width(base), port }
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

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let form = || RangeError::Form(text.chars().take(80).collect());
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
                (Ok(base), _) => Self { bits: width(base), base, port: None },
                (_, Ok(at)) => Self { bits: width(at.ip()), base: at.ip(), port: Some(at.port()) },
                _ => return Err(form()),
            },
        };
        if range.bits > width(range.base) {
            return Err(form());
        }
        match carried(range.base) {
            same if same == range.base => Ok(range),
            carried => Err(RangeError::Clothed { text: text.to_owned(), carried }),
        }
    }
}

impl fmt::Display for Range {
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
