//! What must hold for any input, each a property with its name. One file for each law, in the order of their numbers:
//! total, unknown, monotone, idle, steady, flight, useful, voluntary, restart, bounded, offsets.
//!
//! `SLUICE_PROPTEST_CASES` asks for so many cases, others each time. Without it they are the same few each time: what is found
//! by chance must not stop a change of something else.

mod bounded;
mod field;
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
use proptest::test_runner::RngSeed;

fn cases() -> ProptestConfig {
    one_in(1)
}

/// Fewer cases, for a law that takes hours of a job's life to show.
fn one_in(many: u32) -> ProptestConfig {
    let others: Option<u32> = std::env::var("SLUICE_PROPTEST_CASES").ok().and_then(|c| c.parse().ok());
    let defaults = ProptestConfig::default();
    let rng_seed = if others.is_some() { defaults.rng_seed } else { RngSeed::Fixed(1) };
    ProptestConfig { cases: others.unwrap_or(128).div_ceil(many), rng_seed, failure_persistence: None, ..defaults }
}
