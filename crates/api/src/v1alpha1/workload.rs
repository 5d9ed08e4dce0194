//! The workload that runs the workers: one that Sluice creates, or an existing one.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{opaque_list_schema, opaque_object_schema};

/// The workers that Sluice runs.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.kind == oldSelf.kind").message("workload.kind cannot be changed: delete the StreamJob and create it again, or create a second one"),
    validation = Rule::new("self.kind == 'StatefulSet' || !has(self.volumeClaimTemplates) && !has(self.persistentVolumeClaimRetentionPolicy)").message("volumeClaimTemplates and persistentVolumeClaimRetentionPolicy need workload.kind: StatefulSet"),
    validation = Rule::new("has(self.volumeClaimTemplates) == has(oldSelf.volumeClaimTemplates) && (!has(self.volumeClaimTemplates) || self.volumeClaimTemplates.size() == oldSelf.volumeClaimTemplates.size())").message("workload.volumeClaimTemplates cannot be changed")
)]
pub struct Workload {
    /// Kind of the workload: Deployment, or StatefulSet for stable names (static group membership, volumes). Cannot be
    /// changed.
    #[serde(default)]
    pub kind: WorkloadKind,

    /// Pod template of the workers, as in a Deployment.
    #[schemars(schema_with = "opaque_object_schema")]
    pub template: serde_json::Map<String, serde_json::Value>,

    /// Seconds for which a new pod must be ready before it counts as available.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: i32,

    /// Rollout strategy for a new template: `strategy` of a Deployment, `updateStrategy` of a StatefulSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque_object_schema")]
    pub strategy: Option<serde_json::Map<String, serde_json::Value>>,

    /// StatefulSet only: volume claims of each worker. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque_list_schema")]
    pub volume_claim_templates: Option<Vec<serde_json::Map<String, serde_json::Value>>>,

    /// StatefulSet only: whether the volume claims are kept or deleted when workers are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque_object_schema")]
    pub persistent_volume_claim_retention_policy: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Kind of the workload that Sluice creates.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// Workers are interchangeable.
    #[default]
    Deployment,
    /// Workers have stable names, and are always started and stopped in parallel.
    StatefulSet,
}

/// An existing workload in the namespace of the StreamJob.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// API version of the workload.
    #[serde(default = "apps_v1")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^([a-z0-9.-]+/)?v[a-z0-9]+$"))]
    pub api_version: String,

    /// Kind of the workload: Deployment, StatefulSet, or anything with a scale subresource.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,

    /// Name of the workload, in the namespace of the StreamJob.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

fn apps_v1() -> String {
    "apps/v1".to_owned()
}
