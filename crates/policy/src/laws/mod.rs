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

fn cases() -> ProptestConfig {
    sluice_base::testing::cases(1)
}
