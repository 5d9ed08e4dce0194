//! The decision core: observation + settings + memory -> decision. The `README.md` of this crate explains the
//! algorithm, and `docs/design/algorithms.md` gives the derivations and sources of its formulas.
//!
//! Architecture invariant: the core does no I/O, reads no clock, is not async and knows nothing of Kubernetes; time is
//! an argument. It never panics, whatever the numbers are. The same inputs give the same decision, byte for byte.
//!
//! Architecture invariant: `simulate`, `decide`, the tests and the operator all call this `decide`. No rule has a
//! second implementation.
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

pub mod contract;
mod decide;
mod explain;
mod learn;
mod limit;
mod model;
mod observe;
mod plan;

#[cfg(test)]
mod closed_loop;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod plant;

pub use contract::decision::{
    Action, BoundBy, Confidence, Decision, Explain, Limit, Limited, Model, Reason, WithinTarget,
};
pub use contract::observation::{Group, Limits, Observation, Partition, Replicas, Source, Worker};
pub use contract::settings::{Mode, Schedule, Settings, Step};
pub use decide::decide;
pub use limit::schedule::scheduled_floor;
pub use model::attainment::History;
pub use model::memory::Memory;
