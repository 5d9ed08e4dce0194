//! Sluice keeps stream jobs inside their latency target with as few workers as that takes.
//!
//! The rooms, in the order in which data flows through them:
//!
//! - [`api`]: what users write and read back.
//! - [`signals`]: the outside world -> samples.
//! - [`policy`]: observation + settings + memory -> decision; pure.
//! - [`simulate`]: a simulated job, to judge rules that set the number of workers.
//! - [`operator`]: the Kubernetes edge: observe, validate, decide, build, apply, status.
//! - [`worker`]: the reference worker.
//! - [`report`]: decisions in words, tables and plots.
//! - [`serve`]: HTTP: health and metrics.
//! - [`embedded`]: a small Kubernetes in one process, for development, demos and tests.
//! - [`cli`]: one file for each command.
//!
//! [`clock`] is the one place that reads the clock.

pub mod api;
pub mod cli;
pub mod clock;
pub mod embedded;
mod handshakes;
pub mod operator;
pub mod policy;
pub mod report;
pub mod serve;
pub mod signals;
pub mod simulate;
pub mod worker;
