//! Simulates a stream job: a load, a plant of partitions and workers with its faults, any rule that sets the replica
//! count, the scores of a run, and a clairvoyant lower bound of the cost of the load.
//!
//! Loads are recorded ([`trace`]) or described in one line ([`shape`]).
//!
//! The simulator is pure and deterministic by `Scenario::seed`: no I/O, no clock. It depends on `policy` alone, and
//! runs the same [`decide`](sluice_policy::decide) as the operator ([`Sluice`]).
//!
//! Time passes in steps of one second; second `t` lasts from time `t` to `t + 1`, in seconds since the load began.
//! Records are a fluid: 64-bit floats, rounded down where a rule sees an offset. The model is described in
//! `docs/design/algorithms.md#simulated-plant`.
// The model computes with floats and counts; the values that it casts are a few million at most and never negative.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

mod assign;
mod fault;
pub mod field;
mod load;
mod oracle;
mod parts;
pub mod peers;
mod plant;
mod pods;
mod random;
mod rule;
mod run;
mod scenario;
mod score;
pub mod shape;
pub mod trace;
mod view;

#[cfg(test)]
mod tests;

pub use fault::{During, Faults, Once};
pub use load::Load;
pub use oracle::oracle;
pub use random::Random;
pub use rule::{Fixed, Rule, Sluice};
pub use run::{Change, Point, Run, run, run_judged};
pub use scenario::{Handover, Noise, Scenario};
pub use score::{ObjectiveScore, Scores};
