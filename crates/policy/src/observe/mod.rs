//! Samples in, what they say out. Nothing is decided here.

pub(crate) mod doubts;
mod partition_reader;
pub(crate) mod snapshot;
mod stairs;
