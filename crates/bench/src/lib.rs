//! The benchmark of Sluice's decision core against its peers: what is run, which settings of the peers are searched,
//! what a cell and a goal are, and the tables. `benches/autoscalers` runs it.
//!
//! A **group** is a way to run the job (how partitions move, how long workers take to start, what fails). A **cell** is
//! a group, a trace and an objective's latency. Every run is a pure function of its [`Key`], so that runs may be done
//! in any order and on any number of threads; what must be run next follows from what has been run ([`needed`]).
//!
//! Architecture invariant: pure. Traces in, figures and text out; reading, printing and timing happen at the edge.
// It computes with floats and counts; the values that it casts are a few million at most and never negative.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

mod cell;
mod faults;
mod goals;
mod jobs;
mod needs;
pub mod observed_job;
mod plan;
mod results;
mod summary;
mod tables;
#[cfg(test)]
mod tests;
mod text;

pub use cell::{Cell, Contestant, Feasible, cell, cells};
pub use faults::{FAULTS, FaultCase, FaultCount};
pub use goals::{Goal, goals};
pub use jobs::{Answer, Job, Outcome, answer, side_by_side, watch};
pub use needs::needed;
pub use plan::{FAMILIES, Group, Kind, Plan, TIE, Trace};
pub use results::{Bound, Key, Results, Who};
pub use summary::summary;
pub use tables::{group_table, peers_table};
