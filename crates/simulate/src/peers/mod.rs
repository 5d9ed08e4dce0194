//! The peers: the rules that other autoscalers decide by, for comparison on the same plant.
//!
//! Each is written from its source, which its doc comment names with the revision read and with what was left out, and
//! sees what Sluice sees: an [`Observation`](sluice_policy::Observation). Each keeps its own windows. No peer is made
//! worse than it is: where the source leaves room the choice is the one that serves it.
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

/// What bounds every peer.
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
    /// Most workers that are of use: what somebody who knows the topic gives as the maximum.
    pub fn ceiling(self) -> u32 {
        let useful = if self.partitions == 0 { u32::MAX } else { self.partitions };
        self.max.min(useful).max(self.min)
    }

    /// The nearest number within the limits.
    pub fn clamp(self, workers: u32) -> u32 {
        workers.clamp(self.min, self.ceiling())
    }
}

/// What the peers are told beforehand, as somebody who sets them up would know it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// What bounds them.
    pub limits: Limits,
    /// Records per second that one worker can do.
    pub capacity: f64,
    /// Mean rate of the whole load, records per second; only hindsight knows it.
    pub mean_rate: f64,
}

/// A fraction in whole percents.
fn percent(fraction: f64) -> u32 {
    num::floor_u32((100.0 * fraction).round())
}

/// `family`, or `family-55` if the fraction is not the usual one.
fn with_percent(family: &str, fraction: f64, usual: f64) -> String {
    if percent(fraction) == percent(usual) { family.to_owned() } else { format!("{family}-{}", percent(fraction)) }
}

/// `family`, or `family-5s` if the seconds are not the usual ones.
fn with_seconds(family: &str, seconds: f64, usual: f64) -> String {
    if seconds.to_bits() == usual.to_bits() { family.to_owned() } else { format!("{family}-{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_whatever_is_asked() {
        let limits = Limits { min: 2, max: 40, partitions: 24 };
        for (asked, within) in [(0, 2), (2, 2), (24, 24), (30, 24), (u32::MAX, 24)] {
            assert_eq!(limits.clamp(asked), within);
        }
        assert_eq!(Limits { partitions: 0, ..limits }.ceiling(), 40);
        assert_eq!(Limits { partitions: 1, ..limits }.clamp(9), 2, "the floor wins");
    }
}
