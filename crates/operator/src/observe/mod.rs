//! Observing: workloads and their pods, the claims of other jobs, members of consumer groups, and the observation for
//! the core.

pub(crate) mod claims;
pub(crate) mod kinds;
pub(crate) mod live;
pub(crate) mod members;
pub(crate) mod observation;
pub(crate) mod pod_troubles;
pub(crate) mod pods;
pub(crate) mod strangers;
pub(crate) mod target;
pub(crate) mod workload;
