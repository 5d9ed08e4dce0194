//! The operator among faults: whatever happens for a while, it comes to the right end and to rest; and of two there is
//! never more than one that writes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its fixtures too"
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
