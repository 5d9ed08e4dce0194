//! The custom resource types that users write and read back, and the condition types and reasons as constants.
//!
//! Architecture invariant: this crate does no I/O and has no logic beyond parsing a single field. Checks that need two
//! fields or the cluster are in `crates/operator/src/validate.rs`.

pub mod conditions;
#[cfg(test)]
mod examples_test;
pub mod fields;
#[allow(unreachable_pub, reason = "KubeSchema derives copies of each struct inside a function")]
pub mod status;
#[allow(unreachable_pub, reason = "KubeSchema derives copies of each struct inside a function")]
pub mod v1alpha1;

pub use v1alpha1::{StreamJob, StreamJobSpec};

/// API group of every custom resource of Sluice.
pub const GROUP: &str = "sluice.dev";

/// Label on everything that belongs to a job; its value is the job's name.
pub const JOB_LABEL: &str = "sluice.dev/job";

/// Annotation that `sluice resume` writes on a StreamJob: the time of the command. The operator compares it with the
/// value that it saw when another writer changed the replica count.
pub const RESUME_ANNOTATION: &str = "sluice.dev/resume";

/// Environment variable of the containers with the path of the processing file (see `docs/worker-metrics.md`).
pub const PROCESSING_FILE_ENV: &str = "SLUICE_PROCESSING_FILE";

/// Path at which the processing file is mounted in every container of a worker.
pub const PROCESSING_FILE: &str = "/etc/sluice/processing.json";

/// Returns the custom resource definitions of this version, which are committed as YAML under `crds/`.
pub fn crds() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    vec![StreamJob::crd()]
}
