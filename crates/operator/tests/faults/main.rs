//! The operator under faults: after any temporary fault it reaches the right state and makes no more writes, and of two
//! operators only one ever writes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests and their fixtures fail by panicking"
)]

mod admission;
mod canary;
mod fields;
mod interleavings;
mod leaders;
mod liars;
mod neighbours;
mod poison;
mod refused;
mod rights;
mod security;
mod stable;
mod strangers;
mod versions;
mod waking;
