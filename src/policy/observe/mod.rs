//! Samples in, what they say out. Nothing is decided here.

pub(crate) mod doubts;
pub(crate) mod snapshot;
