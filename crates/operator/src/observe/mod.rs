//! What is there: the live workload and its pods, what other jobs and other clients have, and the observation made of it.

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
