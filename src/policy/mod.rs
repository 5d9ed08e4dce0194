//! The decision core: observation + settings + memory -> decision. `README.md` beside this file gives the algorithm.
//!
//! Architecture invariant: no I/O, no clock, no async, no Kubernetes; time is an argument. It never panics, whatever
//! the numbers. The same inputs give the same decision, byte for byte.
//!
//! Architecture invariant: `simulate`, `decide`, the tests and the operator call this very `decide`. There is no second
//! implementation of any rule.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions)]
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::float_cmp,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::as_conversions
    )
)]

mod arrivals;
mod attainment;
mod bottleneck;
mod capacity;
mod crew;
mod decide;
pub mod decision;
mod demand;
mod doubt;
mod down;
mod explain;
mod flight;
mod forecast;
mod guard;
mod learn;
mod learning;
mod look;
pub mod memory;
mod message;
mod mistakes;
pub(crate) mod num;
pub mod observation;
mod partitions;
pub(crate) mod pieces;
mod plan;
mod ring;
mod rollout;
mod schedule;
pub mod settings;
mod staircase;
mod track;
pub mod units;
mod weigh;
mod window;
mod workers;

#[cfg(test)]
mod closed_loop;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod plant;

pub use decide::decide;
pub use decision::{Action, BoundBy, Confidence, Decision, Explain, Limit, Limited, Model, Reason, WithinTarget};
pub use memory::Memory;
pub use observation::{Group, Limits, Observation, Partition, Replicas, Source, Worker};
pub use schedule::scheduled_floor;
pub use settings::{Mode, Schedule, Settings, Step};
