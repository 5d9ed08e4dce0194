//! Decisions in words, tables and plots: shared by the commands, the events and the demo.

pub mod words;
