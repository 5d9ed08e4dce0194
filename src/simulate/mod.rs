//! What would happen: loads as they were recorded ([`trace`]) and as they are described in a line ([`shape`]).
//!
//! Both come down to the same thing: points of time and rate, to be read as straight lines between them.

pub mod shape;
pub mod trace;
