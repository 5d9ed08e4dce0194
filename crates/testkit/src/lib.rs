//! What tests of several crates share: a world for the operator in one process, sources that are made up or hostile, and
//! folders and processes of a test's own.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its fixtures too"
)]

pub mod hostile;
pub mod processes;
pub mod sources;
pub mod world;
