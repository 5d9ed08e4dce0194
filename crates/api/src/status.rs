//! `status` of a StreamJob: numbers for machines, `summary` for eyes.
//!
//! Volatile values change only together with a state, a decision or a large change, so that a steady hour costs no
//! write; `observedTime` says how old they are, and the live values are metrics.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What Sluice last saw and did.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamJobStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When this status was written: its numbers and messages are of that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Workers that Sluice wants now; with `scaling.mode: Recommend`, that it would want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Label selector of the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Records appended and not yet processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<i64>,
    /// The objective's percentile of latency over the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_milliseconds: Option<i64>,
    /// Records appended per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival_rate_per_second: Option<i64>,
    /// Share of records that met the latency over the objective's window, in hundredths of a percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment_basis_points: Option<i32>,
    /// Partitions of all sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// The same numbers, short, for eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// What attainment and error budget are counted from; taken up again after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment: Option<AttainmentStatus>,
    /// What Sluice has learned about the workers; reloaded as a prior after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// The newest change of the number of workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<DecisionStatus>,
    /// The newest changes, newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub recent_decisions: Vec<DecisionStatus>,
    /// Conditions: Ready, Reconciling, Stalled, `WithinTarget`, `ScalingActive`, `ScalingLimited`, `MetricsAvailable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Numbers for eyes.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Such as 12.4k.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// Such as 3.2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
    /// Such as 5.4k/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Such as 99.93%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment: Option<String>,
    /// What one worker can do, such as 0.4/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_per_worker: Option<String>,
}

/// Records that fell due over the objective's window. Records since the last write of the status are missing here.
#[derive(JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttainmentStatus {
    /// The objective's latency that this was counted for.
    pub latency_milliseconds: i64,
    /// The objective's percentile that this was counted for, in hundredths of a percent.
    pub percentile_basis_points: i64,
    /// When the first part of the window begins.
    pub since: Time,
    /// Length of each part.
    pub part_seconds: i64,
    /// Records that fell due in each part, the oldest first.
    #[schemars(length(max = 21))]
    pub due: Vec<i64>,
    /// How many of these were late.
    #[schemars(length(max = 21))]
    pub late: Vec<i64>,
}

/// What Sluice has learned about the workers.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Records per second that one worker can process when it never waits; absent below 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_per_worker: Option<i64>,
    /// The same in thousandths of a record per second, for workers that take seconds over a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_per_worker_millis: Option<i64>,
    /// How well that is known: None, Low, Medium or High.
    pub confidence: String,
    /// Pod created to first record processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_up_milliseconds: Option<i64>,
    /// Pause of a partition while it moves to another worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover_milliseconds: Option<i64>,
    /// Latency of a healthy job at low load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_floor_milliseconds: Option<i64>,
    /// Time between two commits of a partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_interval_milliseconds: Option<i64>,
    /// Offsets that one record takes, in thousandths: more than 1000 where the markers of transactions take offsets too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets_per_record_millis: Option<i64>,
    /// Pod template that the capacity was learned with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// One change of the number of workers.
#[derive(JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// When.
    pub time: Time,
    /// Workers before.
    pub from: i32,
    /// Workers after.
    pub to: i32,
    /// Why, in one word.
    pub reason: String,
    /// What set the number.
    pub bound_by: String,
    /// Why, in a sentence with the numbers.
    pub message: String,
}
