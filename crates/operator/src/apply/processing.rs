//! The processing file: settings for the workers, mounted from a `ConfigMap` so that a change reaches running workers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use sluice_api::v1alpha1::{Delivery, LogLevel, Processing, Style};

/// The processing file, as the workers read it (docs/worker-metrics.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessingFile {
    /// The objective's latency: a record is in time if it is processed within this time after it is appended,
    /// milliseconds.
    pub objective_latency_milliseconds: u64,
    /// How workers take up records.
    pub style: Style,
    /// Time for which records are gathered, milliseconds; micro-batches only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_interval_milliseconds: Option<u64>,
    /// Delivery guarantee of the workers.
    pub delivery: Delivery,
    /// Rate limit of one worker, records per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records_per_second: Option<i32>,
    /// Number of records that one worker processes at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    /// Log level of the workers.
    pub log_level: LogLevel,
}

impl ProcessingFile {
    /// Returns the settings for a job's workers.
    pub(crate) fn new(latency: Duration, processing: Option<&Processing>) -> Self {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            objective_latency_milliseconds: milliseconds(latency),
            style: processing.map(|processing| processing.style).unwrap_or_default(),
            batch_interval_milliseconds: processing
                .and_then(|processing| processing.batch_interval)
                .map(|interval| milliseconds(interval.into())),
            delivery: processing.map(|processing| processing.delivery).unwrap_or_default(),
            max_records_per_second: processing.and_then(|processing| processing.max_records_per_second),
            concurrency: processing.and_then(|processing| processing.concurrency),
            log_level: processing.map(|processing| processing.log_level).unwrap_or_default(),
        }
    }
}
