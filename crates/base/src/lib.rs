//! What every crate of Sluice shares: the clock, units, conversions of numbers, and the formatting of numbers.

#[cfg(feature = "clock")]
pub mod clock;
pub mod duration;
pub mod num;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
#[cfg(feature = "tls-listener")]
pub mod tls_listener;
pub mod units;
pub mod words;
