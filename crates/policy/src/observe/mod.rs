//! Turns samples into a [`snapshot`] of the job. Nothing is decided here.

pub(crate) mod doubts;
mod partition_reader;
pub(crate) mod snapshot;
mod stairs;
