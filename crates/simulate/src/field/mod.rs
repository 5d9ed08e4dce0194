//! The field: jobs as they are found in practice, most of them difficult. A world is a load with every condition of a
//! run, drawn at random or written by hand; a rule runs in it and is judged by the true time of every record.
//!
//! The plainer plant of `simulate` has the conditions of the benchmark's tables: commits every 5 s, one lane, sticky
//! assignment, ready when working. Here each of these varies, as do the operator's signals.
//!
//! Pure and deterministic by `World::seed`. Time passes in steps of 0.1 to 1 s. Cheap records are a fluid; long or few
//! ones are simulated one by one.

mod beside;
mod deal;
mod draw;
mod fleet;
#[cfg(test)]
mod laws;
mod logs;
mod plant;
mod report;
mod run;
mod shapes;
mod truth;
mod view;
mod work;
mod world;

#[cfg(test)]
mod tests;

pub use beside::{Figures, PLANT_VERSION, Peer, Row, peers};
pub use report::{conditions, line, report};
pub use run::{Minute, Operator, Outcome, run, run_kindly};
pub use world::{
    Assignor, Bottleneck, Commits, Deaths, Deploy, Handover, History, Owners, Pauses, Phase, Signals, Tide, World,
};
