//! `status` of a StreamJob: exact numbers for programs, and `summary` for people.
//!
//! Volatile values are written only together with a change of state, a decision or a large change of the values, so
//! that a steady hour costs no write. `observedTime` gives their time; the current values are metrics.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of the job as Sluice last observed it, and its last decisions.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamJobStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Time at which this status was written. Its numbers and messages are as of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// Number of pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Number of pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Replica count that Sluice wants now; with `scaling.mode: Recommend`, the replica count that it recommends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Label selector of the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Number of records that are appended and not yet processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<i64>,
    /// Latency at the objective's percentile over the last minute, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_milliseconds: Option<i64>,
    /// Arrival rate, in records per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival_rate_per_second: Option<i64>,
    /// Share of records that met the latency over the objective's window, in hundredths of a percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment_basis_points: Option<i32>,
    /// Number of partitions of all sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Human-readable form of the numbers above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Counts from which attainment and error budget are calculated. The operator reads them back after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment: Option<AttainmentStatus>,
    /// Values that Sluice has learned about the workers. The operator starts from them after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// The newest change of the replica count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<DecisionStatus>,
    /// The newest changes of the replica count, newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub recent_decisions: Vec<DecisionStatus>,
    /// Conditions of the job: Ready, Reconciling, Stalled, `WithinTarget`, `ScalingActive`, `ScalingLimited`,
    /// `MetricsAvailable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Numbers in human-readable form.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Records not yet processed, such as 12.4k.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// Latency at the objective's percentile, such as 3.2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
    /// Arrival rate, such as 5.4k/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Share of records that met the latency, such as 99.93%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment: Option<String>,
    /// Records that one worker can process per second, such as 0.4/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_per_worker: Option<String>,
}

/// Counts of the records that became due over the objective's window. They do not include records since the last write
/// of the status.
#[derive(JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttainmentStatus {
    /// The objective's latency for which the records were counted, in milliseconds.
    pub latency_milliseconds: i64,
    /// The objective's percentile for which the records were counted, in hundredths of a percent.
    pub percentile_basis_points: i64,
    /// Start of the first part of the window.
    pub since: Time,
    /// Length of each part, in seconds.
    pub part_seconds: i64,
    /// Number of records that became due in each part, oldest first.
    #[schemars(length(max = 21))]
    pub due: Vec<i64>,
    /// Number of these records that were late, in each part.
    #[schemars(length(max = 21))]
    pub late: Vec<i64>,
}

/// Values that Sluice has learned about the workers.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Capacity of one worker that never waits, in records per second; absent below 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_per_worker: Option<i64>,
    /// Capacity of one worker in thousandths of a record per second, for workers that take seconds for a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_per_worker_millis: Option<i64>,
    /// Confidence in the capacity: None, Low, Medium or High.
    pub confidence: String,
    /// Time from the creation of a pod to its first processed record, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_up_milliseconds: Option<i64>,
    /// Pause of a partition while it moves to another worker, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover_milliseconds: Option<i64>,
    /// Latency of a healthy job at low load, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_floor_milliseconds: Option<i64>,
    /// Time between two commits of a partition, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_interval_milliseconds: Option<i64>,
    /// Offsets that one record takes, in thousandths. More than 1000 if the markers of transactions take offsets too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets_per_record_millis: Option<i64>,
    /// Pod template with which the capacity was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// One change of the replica count.
#[derive(JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// Time of the change.
    pub time: Time,
    /// Replica count before the change.
    pub from: i32,
    /// Replica count after the change.
    pub to: i32,
    /// Reason for the change, as one CamelCase word.
    pub reason: String,
    /// Limit or estimate that determined the replica count.
    pub bound_by: String,
    /// Explanation of the change in one sentence, with the numbers.
    pub message: String,
}
