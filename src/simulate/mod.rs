//! The simulator: a plant in memory, and rules that look at it and say how many workers there should be.

pub mod peers;
pub mod rule;
