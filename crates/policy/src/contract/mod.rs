//! The inputs and the output of a decision.

pub mod decision;
pub mod observation;
pub mod settings;
