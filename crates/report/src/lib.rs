//! Decisions in words, tables and plots: shared by the commands, the events and the demo.
//!
//! Architecture invariant: pure. Time series and decisions in, text out; who prints or writes it is at the edge.

pub mod compare;
pub mod page;
pub mod plot;
pub mod run;
pub mod table;
pub mod totals;
