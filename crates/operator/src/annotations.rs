//! Annotations that the operator reads and writes on workloads and pods. Those of a StreamJob are in `sluice_api`.

/// On a workload of a job: hash of the body that was last applied to it.
pub(crate) const APPLIED: &str = "sluice.dev/applied";

/// On a pod: the cost of its deletion. A `ReplicaSet` removes the pods with the lowest cost first.
pub(crate) const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Deletion cost of a pod that should leave first. A pod without the annotation has cost 0.
pub(crate) const LEAVING_POD_COST: i32 = -1;
