//! The result of a cell.

use serde::Serialize;
use sluice_base::words;
use sluice_report::run::Work;

use super::cells::WORKER_RATE;
use super::job::TARGET_SECONDS;

/// The measurements of one second; unknown numbers are absent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    /// Time since the start of the load, seconds.
    pub(crate) at: f64,
    /// Rate of records acknowledged by the broker, records per second.
    pub(crate) rate: f64,
    /// Records acknowledged so far.
    pub(crate) produced: u64,
    /// Records processed so far, by the workers' own counts.
    pub(crate) processed: u64,
    /// 99th percentile of the latency of records processed since the previous point, seconds.
    pub(crate) p99_seconds: Option<f64>,
    /// Late records so far.
    pub(crate) late: u64,
    /// Replica count desired by the operator.
    pub(crate) wanted: Option<i32>,
    /// Existing pods.
    pub(crate) pods: usize,
    /// Ready pods.
    pub(crate) ready: i32,
}

/// One change of the replica count.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Change {
    /// Time since the start of the load, seconds.
    pub(crate) at: f64,
    pub(crate) from: i32,
    pub(crate) to: i32,
    pub(crate) reason: String,
    pub(crate) bound_by: String,
    pub(crate) message: String,
}

/// The measurements of a cell.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// Records in the topic, as counted by the broker.
    pub(crate) produced: u64,
    /// Records that the group had not committed when its last worker ended.
    pub(crate) uncommitted: u64,
    /// The workers' totals.
    pub(crate) work: Work,
    /// Pod-seconds from the start of the load until it had ended and the last record was processed.
    pub(crate) worker_seconds: f64,
    /// Whether the load was within 5 % of its target.
    pub(crate) kept_pace: bool,
    /// Number of worker logs not read to their end: their last second is missing and counts as late.
    pub(crate) unread_logs: usize,
    /// Cost of always having the smallest sufficient number of workers, relative to the ideal cost.
    pub(crate) staircase_ratio: f64,
    pub(crate) changes: Vec<Change>,
    pub(crate) points: Vec<Point>,
}

/// The result that follows from the measurements.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CellResult {
    pub(crate) cell: String,
    pub(crate) what: String,
    /// Records processed later than the target's latency, or not at all.
    pub(crate) late: u64,
    pub(crate) late_share: f64,
    /// Lower bound of the records processed twice.
    pub(crate) duplicates: u64,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p95_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    /// Worker-seconds over records / 500.
    pub(crate) ratio: f64,
    pub(crate) decisions: usize,
    pub(crate) most_pods: usize,
    /// Records that a worker processed in a second of work; below 500 if the computer is overloaded.
    pub(crate) records_per_busy_second: f64,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

impl CellResult {
    /// Evaluates the measurements of a cell.
    pub(crate) fn new(cell: &str, what: String, measured: Measured) -> Self {
        let work = &measured.work;
        let late = late(work, measured.produced, measured.uncommitted);
        Self {
            cell: cell.to_owned(),
            what,
            late,
            late_share: float(late) / float(measured.produced.max(1)),
            duplicates: (work.processed + measured.uncommitted).saturating_sub(measured.produced),
            p50_seconds: work.quantile_seconds(0.50),
            p95_seconds: work.quantile_seconds(0.95),
            p99_seconds: work.quantile_seconds(0.99),
            ratio: measured.worker_seconds * WORKER_RATE / float(measured.produced.max(1)),
            decisions: measured.changes.len(),
            most_pods: measured.points.iter().map(|point| point.pods).max().unwrap_or(0),
            records_per_busy_second: float(work.processed) / work.busy_seconds.max(1e-9),
            measured,
        }
    }

    /// Returns a one-line summary.
    pub(crate) fn summary(&self) -> String {
        let quantile = |value: Option<f64>| value.map_or_else(|| "above the last bucket".to_owned(), words::seconds);
        let pace = if self.measured.kept_pace { "" } else { "; the load fell behind" };
        let unread = match self.measured.unread_logs {
            0 => String::new(),
            some => format!("; {some} logs were not read to their end"),
        };
        format!(
            "{} of {} records late ({:.3} %), p50 {}, p95 {}, p99 {}, ratio {:.2} (staircase {:.2}), {} decisions, up to {} \
             pods, {:.0} records per busy second, {} processed twice{pace}{unread}",
            self.late,
            self.measured.produced,
            self.late_share * 100.0,
            quantile(self.p50_seconds),
            quantile(self.p95_seconds),
            quantile(self.p99_seconds),
            self.ratio,
            self.measured.staircase_ratio,
            self.decisions,
            self.most_pods,
            self.records_per_busy_second,
            self.duplicates,
        )
    }
}

/// Returns the number of records processed too late or not at all. In the workers' counts a record processed twice may
/// hide a lost one, but not in the broker's.
pub(crate) fn late(work: &Work, produced: u64, uncommitted: u64) -> u64 {
    let done: u64 = work.latency_buckets_milliseconds.iter().map(|(_, count)| count).sum();
    let done_late = done.saturating_sub(work.within(TARGET_SECONDS * 1000.0));
    let not_done = produced.saturating_sub(work.processed).max(uncommitted);
    done_late + not_done
}

#[allow(clippy::cast_precision_loss, reason = "a run has fewer than 2^52 records")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
