//! Reports of runs and decisions as text, tables and plots, shared by the commands, the events and the demo.
//!
//! Architecture invariant: pure. Time series and decisions in, text out; printing and writing happen at the edge.

pub mod compare;
pub mod page;
pub mod plot;
pub mod run;
pub mod table;
pub mod totals;
