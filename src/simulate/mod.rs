//! What would happen: loads as they were recorded ([`trace`]).

pub mod trace;
