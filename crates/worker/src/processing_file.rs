//! The processing file: the operator's settings for this worker, read again when they change.
//!
//! Kubernetes replaces a mounted file by swapping a symbolic link, so the file is read by its path once a second and
//! compared; a watch on the inode would not notice the change. A file that cannot be used changes nothing: the last
//! valid settings remain in force, and the error is logged once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use sluice_api::v1alpha1::{Delivery, LogLevel, Style};

/// How often the file is read.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Maximum size in bytes. A processing file has about 200 bytes; a file larger than this is not one.
const MAX_BYTES: u64 = 64 * 1024;
/// Bounds of `spec.processing` (crates/api/src/v1alpha1/processing.rs).
const MAX_CONCURRENCY: u32 = 10_000;
const MAX_RECORDS_PER_SECOND: u32 = 1_000_000_000;

/// How this worker processes records; validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processing {
    /// Latency of the objective: a record that is processed within this time of being appended is in time. `None`
    /// without a file, when it is unknown.
    pub objective: Option<Duration>,
    /// Time for which records are gathered; `None` to process them one by one.
    pub batch_interval: Option<Duration>,
    /// Delivery guarantee.
    pub delivery: Delivery,
    /// Maximum number of records per second; at least 1.
    pub max_records_per_second: Option<u32>,
    /// Maximum number of records processed at the same time; 1 to 10,000.
    pub concurrency: u32,
    /// Log level.
    pub log_level: LogLevel,
}

impl Default for Processing {
    fn default() -> Self {
        Self {
            objective: None,
            batch_interval: None,
            delivery: Delivery::default(),
            max_records_per_second: None,
            concurrency: 1,
            log_level: LogLevel::default(),
        }
    }
}

/// Why a processing file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read the processing file {path}: {source}; check that the pod's volumes mount it")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is larger than any processing file.
    #[error("failed to read the processing file {path}: it is larger than 64 KiB; check that the path is right")]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file is not the JSON that docs/worker-metrics.md describes.
    #[error("failed to parse the processing file: {0}")]
    Parse(#[from] serde_json::Error),
    /// A value is out of bounds.
    #[error("failed to read the processing file: {field} is {found}; expected {expected}")]
    Value {
        /// Name of the field in the file.
        field: &'static str,
        /// Value of the field.
        found: String,
        /// Values that are allowed.
        expected: &'static str,
    },
}

/// The file's fields. Unknown fields are ignored, because the operator may be newer than the worker.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    objective_latency_milliseconds: Option<u64>,
    #[serde(default)]
    style: Style,
    batch_interval_milliseconds: Option<u64>,
    #[serde(default)]
    delivery: Delivery,
    max_records_per_second: Option<i64>,
    concurrency: Option<i64>,
    #[serde(default)]
    log_level: LogLevel,
}

impl Processing {
    /// Parses and validates the file's text.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let file: File = serde_json::from_slice(text)?;
        let objective = file
            .objective_latency_milliseconds
            .map(|milliseconds| valid_milliseconds("objectiveLatencyMilliseconds", milliseconds))
            .transpose()?;
        let batch_interval = match (file.style, file.batch_interval_milliseconds) {
            (Style::Record, _) => None,
            (Style::MicroBatch, Some(milliseconds)) => {
                Some(valid_milliseconds("batchIntervalMilliseconds", milliseconds)?)
            }
            (Style::MicroBatch, None) => {
                return Err(Error::Value {
                    field: "batchIntervalMilliseconds",
                    found: "absent".to_owned(),
                    expected: "a number of milliseconds, because style is MicroBatch",
                });
            }
        };
        let max_records_per_second = file
            .max_records_per_second
            .map(|rate| {
                in_range(rate, MAX_RECORDS_PER_SECOND).ok_or_else(|| Error::Value {
                    field: "maxRecordsPerSecond",
                    found: rate.to_string(),
                    expected: "1 to 1000000000, or null for no bound",
                })
            })
            .transpose()?;
        let concurrency = file.concurrency.map_or(Ok(1), |concurrency| {
            in_range(concurrency, MAX_CONCURRENCY).ok_or_else(|| Error::Value {
                field: "concurrency",
                found: concurrency.to_string(),
                expected: "1 to 10000, or null for 1",
            })
        })?;
        Ok(Self {
            objective,
            batch_interval,
            delivery: file.delivery,
            max_records_per_second,
            concurrency,
            log_level: file.log_level,
        })
    }
}

/// Validates a duration. The longest objective is a day and the longest interval an hour; more than a week is a mistake
/// in the unit.
fn valid_milliseconds(field: &'static str, milliseconds: u64) -> Result<Duration, Error> {
    if (1..=604_800_000).contains(&milliseconds) {
        Ok(Duration::from_millis(milliseconds))
    } else {
        Err(Error::Value { field, found: milliseconds.to_string(), expected: "1 to 604800000 milliseconds" })
    }
}

fn in_range(value: i64, most: u32) -> Option<u32> {
    u32::try_from(value).ok().filter(|value| (1..=most).contains(value))
}

/// Reads the file by its path, and publishes changes.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// The content or error seen last, so that each is handled once.
    seen: Option<Result<Vec<u8>, String>>,
    sender: watch::Sender<Processing>,
}

impl Follower {
    /// Reads the file for the first time. Without a usable file the defaults apply until there is one.
    pub async fn new(path: &Path) -> (Self, watch::Receiver<Processing>) {
        let (sender, receiver) = watch::channel(Processing::default());
        let mut follower = Self { path: path.to_owned(), seen: None, sender };
        follower.read_if_changed().await;
        (follower, receiver)
    }

    /// Reads the file every second until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(READ_EVERY)).await.is_some() {
            self.read_if_changed().await;
        }
    }

    /// Reads the file once: publishes changed settings, and logs a changed error once.
    pub(super) async fn read_if_changed(&mut self) {
        let read = self.read().await.map_err(|error| error.to_string());
        if self.seen.as_ref() == Some(&read) {
            return;
        }
        let parsed = match &read {
            Ok(text) => Processing::parse(text).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        match parsed {
            Ok(processing) => {
                tracing::info!(path = %self.path.display(), ?processing, "processing file read");
                self.sender.send_if_modified(|current| {
                    let changed = *current != processing;
                    *current = processing;
                    changed
                });
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), error, "unusable processing file; keeping the previous settings");
            }
        }
        self.seen = Some(read);
    }

    async fn read(&self) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Read { path: self.path.clone(), source };
        let mut text = Vec::new();
        let file = tokio::fs::File::open(&self.path).await.map_err(failed)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut text).await.map_err(failed)?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(Error::TooLarge { path: self.path.clone() });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"objectiveLatencyMilliseconds": 10000, "style": "MicroBatch", "batchIntervalMilliseconds": 2000,
        "delivery": "AtMostOnce", "maxRecordsPerSecond": 500, "concurrency": 4, "logLevel": "debug", "fromTheFuture": 1}"#;

    #[test]
    fn every_field_is_read_and_unknown_ones_are_ignored() {
        assert_eq!(
            Processing::parse(FULL.as_bytes()).unwrap(),
            Processing {
                objective: Some(Duration::from_secs(10)),
                batch_interval: Some(Duration::from_secs(2)),
                delivery: Delivery::AtMostOnce,
                max_records_per_second: Some(500),
                concurrency: 4,
                log_level: LogLevel::Debug,
            }
        );
    }

    #[test]
    fn null_and_absent_mean_the_default() {
        let nulls = r#"{"objectiveLatencyMilliseconds": 10000, "style": "Record", "batchIntervalMilliseconds": null,
            "delivery": "AtLeastOnce", "maxRecordsPerSecond": null, "concurrency": null, "logLevel": "info"}"#;
        let expected = Processing { objective: Some(Duration::from_secs(10)), ..Processing::default() };
        assert_eq!(Processing::parse(nulls.as_bytes()).unwrap(), expected);
        assert_eq!(Processing::parse(b"{}").unwrap(), Processing::default());
    }

    #[test]
    fn error_names_the_field_and_the_allowed_values() {
        for (text, part) in [
            (r#"{"concurrency": 0}"#, "concurrency is 0; expected 1 to 10000"),
            (r#"{"concurrency": 10001}"#, "concurrency is 10001"),
            (r#"{"maxRecordsPerSecond": -5}"#, "maxRecordsPerSecond is -5"),
            (r#"{"objectiveLatencyMilliseconds": 0}"#, "objectiveLatencyMilliseconds is 0"),
            (r#"{"style": "MicroBatch"}"#, "batchIntervalMilliseconds is absent"),
            (r#"{"style": "Batch"}"#, "unknown variant `Batch`"),
            ("[", "failed to parse"),
            ("", "failed to parse"),
        ] {
            let error = Processing::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn change_is_followed_and_last_valid_file_is_kept() {
        let folder = std::env::temp_dir().join(format!("sluice-processing-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("processing.json");

        let (mut follower, mut receiver) = Follower::new(&path).await;
        assert_eq!(*receiver.borrow_and_update(), Processing::default(), "no file: the defaults");

        std::fs::write(&path, FULL).unwrap();
        follower.read_if_changed().await;
        assert!(receiver.has_changed().unwrap());
        assert_eq!(receiver.borrow_and_update().concurrency, 4);

        std::fs::write(&path, r#"{"concurrency": "many"}"#).unwrap();
        follower.read_if_changed().await;
        follower.read_if_changed().await;
        assert!(!receiver.has_changed().unwrap());
        assert_eq!(receiver.borrow().concurrency, 4, "the last valid file remains in force");

        std::fs::write(&path, r#"{"concurrency": 2}"#).unwrap();
        follower.read_if_changed().await;
        assert_eq!(receiver.borrow_and_update().concurrency, 2);

        std::fs::remove_dir_all(&folder).unwrap();
        follower.read_if_changed().await;
        assert_eq!(receiver.borrow().concurrency, 2, "a vanished file changes nothing");
    }
}
