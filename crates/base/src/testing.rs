//! What property tests of several crates share.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// The number of cases of a property: 128, divided by `divisor` for a property whose case is expensive.
///
/// The cases are the same in every run, so that a random counterexample never blocks an unrelated change.
/// `SLUICE_PROPTEST_CASES` asks for that many cases in place of 128, others in every run.
pub fn cases(divisor: u32) -> ProptestConfig {
    let others: Option<u32> = std::env::var("SLUICE_PROPTEST_CASES").ok().and_then(|number| number.parse().ok());
    let defaults = ProptestConfig::default();
    let rng_seed = if others.is_some() { defaults.rng_seed } else { RngSeed::Fixed(1) };
    ProptestConfig { cases: others.unwrap_or(128).div_ceil(divisor), rng_seed, failure_persistence: None, ..defaults }
}
