//! The configuration of property tests, shared by several crates.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// Returns the configuration of a property test: 128 cases, divided by `divisor` for a property whose cases are
/// expensive.
///
/// The cases are the same in every run, so that a random counterexample never blocks an unrelated change. If
/// `SLUICE_PROPTEST_CASES` is set, it replaces 128, and the cases differ in every run.
pub fn cases(divisor: u32) -> ProptestConfig {
    let others: Option<u32> = std::env::var("SLUICE_PROPTEST_CASES").ok().and_then(|number| number.parse().ok());
    let defaults = ProptestConfig::default();
    let rng_seed = if others.is_some() { defaults.rng_seed } else { RngSeed::Fixed(1) };
    ProptestConfig { cases: others.unwrap_or(128).div_ceil(divisor), rng_seed, failure_persistence: None, ..defaults }
}
