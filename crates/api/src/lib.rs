//! What users write and read back: the custom resource types, and the condition types and reasons as constants.
//!
//! Architecture invariant: no I/O and no logic beyond parsing a single field. Anything that looks at two fields or at
//! the cluster lives in `operator/validate`.

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

/// Annotation on a StreamJob that `sluice resume` writes: when it was told to go on. The operator compares it with the one
/// that it saw when somebody else wrote the number of workers.
pub const RESUME_ANNOTATION: &str = "sluice.dev/resume";

/// Container environment variable with the path of the processing file (see `docs/worker-metrics.md`).
pub const PROCESSING_FILE_ENV: &str = "SLUICE_PROCESSING_FILE";

/// Where the processing file is mounted in every container of a worker.
pub const PROCESSING_FILE: &str = "/etc/sluice/processing.json";

/// The custom resource definitions of this version as YAML documents, in the form that is committed under `crds/`.
pub fn crds() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    vec![StreamJob::crd()]
}
