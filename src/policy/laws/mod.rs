//! What must hold for any input, each a property with its name. One file for each law, in the order of their numbers:
//! total, unknown, monotone, idle, steady, flight, useful, voluntary, restart, bounded, offsets.
//!
//! `SLUICE_PROPTEST_CASES` sets the number of cases; the default keeps the suite within some seconds.

mod bounded;
mod flight;
mod idle;
mod inputs;
mod moments;
mod monotone;
mod offsets;
mod restart;
mod steady;
mod total;
mod unknown;
mod useful;
mod voluntary;

use proptest::prelude::ProptestConfig;

fn cases() -> ProptestConfig {
    one_in(1)
}

/// Fewer cases, for a law that takes hours of a job's life to show.
fn one_in(many: u32) -> ProptestConfig {
    let cases: u32 = std::env::var("SLUICE_PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(128);
    ProptestConfig { cases: cases.div_ceil(many), failure_persistence: None, ..ProptestConfig::default() }
}
