//! Laws: properties of the decision core that must hold for any input. Laws 1 to 11 have one file each, in this order:
//! total, unknown, monotone, idle, steady, flight, useful, voluntary, restart, bounded, offsets. Law 15 is in `field`.
//! Laws 12, 13, 14 and 16 need simulated jobs and are in `crates/simulate/src/field/laws.rs`.
//!
//! `SLUICE_PROPTEST_CASES` sets the number of cases, which are then different in each run. Without it a few fixed cases
//! are run, so that a random counterexample never blocks an unrelated change.

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

fn cases() -> ProptestConfig {
    sluice_base::testing::cases(1)
}
