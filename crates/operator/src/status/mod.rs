//! Reporting: the status with its conditions, events, and the decision when a status is worth a write.

pub(crate) mod conditions;
pub(crate) mod events;
pub(crate) mod facts;
pub mod learned;
pub(crate) mod publish;
pub(crate) mod sentences;
pub(crate) mod signals;
pub(crate) mod significance;
