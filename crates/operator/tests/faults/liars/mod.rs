//! Sources and workers that lie: a test for each row of the catalogue of what has made other autoscalers go wrong (M1 to
//! M14). What is missing, stale or contradictory takes nobody away, is said, and is over when it is over.

mod broker;
mod pages;
mod stage;
mod wire;
