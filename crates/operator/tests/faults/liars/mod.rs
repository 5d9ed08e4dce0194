//! Sources and workers with wrong answers: a test for each row of the catalogue of signals that have misled other
//! autoscalers (M1 to M14). Missing, stale or contradictory signals remove no worker, are reported, and have no effect
//! after they end.

mod broker;
mod pages;
mod testbed;
mod wire;
