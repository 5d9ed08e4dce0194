//! How the workers process records.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{Duration, duration_schema};

/// How the workers process records.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.batchInterval) || self.style == 'MicroBatch'").message("processing.batchInterval needs processing.style: MicroBatch"))]
pub struct Processing {
    /// Record: records are processed one by one as they arrive. `MicroBatch`: they are gathered for a batchInterval.
    #[serde(default)]
    pub style: Style,

    /// `MicroBatch` only: time for which records are gathered, 100ms to 1h. No latency below it can be met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1h')").message("processing.batchInterval must lie between 100ms and 1h"))]
    pub batch_interval: Option<Duration>,

    /// Delivery guarantee of the workers.
    #[serde(default)]
    pub delivery: Delivery,

    /// Rate limit of one worker, in records per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_records_per_second: Option<i32>,

    /// Number of records that one worker processes at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: Option<i32>,

    /// Log level of the workers.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// How workers take up records.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// Records are processed one by one, as they arrive.
    #[default]
    Record,
    /// Records are gathered for an interval and processed together.
    MicroBatch,
}

/// Delivery guarantee of the workers.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Records are never processed twice; some may be lost.
    AtMostOnce,
    /// Records are never lost; some may be processed twice.
    #[default]
    AtLeastOnce,
    /// Records are neither lost nor processed twice.
    ExactlyOnce,
}

/// Log level of the workers.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only errors.
    Error,
    /// Errors and warnings.
    Warn,
    /// Messages for those who operate the job, such as starts, stops and rebalances.
    #[default]
    Info,
    /// Messages for those who develop the job.
    Debug,
    /// All messages.
    Trace,
}
