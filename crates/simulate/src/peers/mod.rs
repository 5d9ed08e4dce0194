//! The peers: the rules of other autoscalers, for comparison on the same plant.
//!
//! Each is written from its source; its doc comment names the source with its revision, and what was left out. It sees
//! what Sluice sees, an [`Observation`](sluice_policy::Observation), and keeps its own windows. No peer is made worse than
//! it is: where the source leaves room, the choice is the one that benefits the peer.
//!
//! Architecture invariant: a peer never panics and never reads a missing number as 0, unless its original does.

#![cfg_attr(
    test,
    allow(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::float_cmp
    )
)]

mod beam;
mod behaviour;
mod ds2;
mod flink;
mod flink_model;
mod hpa;
mod keda;
mod knative;
mod names;
mod numaflow;
#[cfg(test)]
mod scene;
mod signals;
mod static_mean;

pub use beam::Beam;
pub use ds2::Ds2;
pub use flink::{Flink, Options as FlinkOptions};
pub use hpa::Hpa;
pub use keda::Keda;
pub use knative::Knative;
pub use names::{FAMILIES, UnknownPeer, all, named, sweep};
pub use numaflow::Numaflow;
pub use static_mean::{StaticMean, static_mean};

use sluice_base::num;

/// The limits of every peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fewest workers.
    pub min: u32,
    /// Most workers.
    pub max: u32,
    /// Partitions of the source: more workers than that have nothing to do. 0: not known.
    pub partitions: u32,
}

impl Limits {
    /// Returns the largest useful number of workers: what a user who knows the topic sets as the maximum.
    pub fn ceiling(self) -> u32 {
        let useful = if self.partitions == 0 { u32::MAX } else { self.partitions };
        self.max.min(useful).max(self.min)
    }

    /// Returns the nearest number within the limits.
    pub fn clamp(self, workers: u32) -> u32 {
        workers.clamp(self.min, self.ceiling())
    }
}

/// What the peers know beforehand, like the person who sets them up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Limits of the replica count.
    pub limits: Limits,
    /// Capacity of one worker, records per second.
    pub capacity: f64,
    /// Mean rate of the whole load, records per second; known only in hindsight.
    pub mean_rate: f64,
}

/// Returns a fraction in whole percents.
fn percent(fraction: f64) -> u32 {
    num::floor_u32((100.0 * fraction).round())
}

/// Returns `family`, or `family-55` if the fraction is not the usual one.
fn with_percent(family: &str, fraction: f64, usual: f64) -> String {
    if percent(fraction) == percent(usual) { family.to_owned() } else { format!("{family}-{}", percent(fraction)) }
}

/// Returns `family`, or `family-5s` if the seconds are not the usual ones.
fn with_seconds(family: &str, seconds: f64, usual: f64) -> String {
    if seconds.to_bits() == usual.to_bits() { family.to_owned() } else { format!("{family}-{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_always_respected() {
        let limits = Limits { min: 2, max: 40, partitions: 24 };
        for (asked, within) in [(0, 2), (2, 2), (24, 24), (30, 24), (u32::MAX, 24)] {
            assert_eq!(limits.clamp(asked), within);
        }
        assert_eq!(Limits { partitions: 0, ..limits }.ceiling(), 40);
        assert_eq!(Limits { partitions: 1, ..limits }.clamp(9), 2, "the floor wins");
    }
}
