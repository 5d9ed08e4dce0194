//! Helpers for tests of several crates: a world for the operator in one process, simulated and hostile sources, and
//! temporary folders and lists of processes.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests and their fixtures fail by panicking"
)]

pub mod hostile;
pub mod processes;
pub mod sources;
pub mod world;
