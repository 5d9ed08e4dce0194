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
    /// Record: one by one as they come. `MicroBatch`: gathered for a batchInterval.
    #[serde(default)]
    pub style: Style,

    /// `MicroBatch` only: how long records are gathered, 100ms to 1h. No latency below it can be promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1h')").message("processing.batchInterval must lie between 100ms and 1h"))]
    pub batch_interval: Option<Duration>,

    /// What the workers promise about each record.
    #[serde(default)]
    pub delivery: Delivery,

    /// Most records per second that one worker may process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_records_per_second: Option<i32>,

    /// Records that one worker processes at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: Option<i32>,

    /// Log level of the workers.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// How records are taken up.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// One by one, as they come.
    #[default]
    Record,
    /// Gathered for an interval.
    MicroBatch,
}

/// What the workers promise about each record.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Never twice; some may be lost.
    AtMostOnce,
    /// Never lost; some may come twice.
    #[default]
    AtLeastOnce,
    /// Neither.
    ExactlyOnce,
}

/// Log level of the workers.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warn,
    /// What an operator of the job wants to see.
    #[default]
    Info,
    /// What its developer wants to see.
    Debug,
    /// Everything.
    Trace,
}
