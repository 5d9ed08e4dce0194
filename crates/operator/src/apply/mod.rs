//! Writing: the workload, its replica count, the deletion costs of its pods, and the back-off of failed writes.

pub(crate) mod attempts;
pub(crate) mod build;
pub(crate) mod compare;
pub(crate) mod ensure;
pub(crate) mod ownership;
pub(crate) mod processing;
pub(crate) mod refusal;
pub(crate) mod removal_order;
pub(crate) mod scale;
pub(crate) mod template;
pub(crate) mod writer;
