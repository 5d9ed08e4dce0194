//! What came of a cell.

use serde::Serialize;
use sluice_base::words;
use sluice_report::run::Work;

use super::cells::WORKER_RATE;
use super::job::TARGET_SECONDS;

/// One second of a cell. Unknown numbers are absent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    /// Seconds since the load began.
    pub(crate) at: f64,
    /// Records per second that the broker took.
    pub(crate) rate: f64,
    /// Records that it took so far.
    pub(crate) produced: u64,
    /// Records done so far, by the workers' own counts.
    pub(crate) processed: u64,
    /// Of those done since the point before, the 99th percentile of the latency in seconds.
    pub(crate) p99_seconds: Option<f64>,
    /// Records late so far.
    pub(crate) late: u64,
    /// Workers that the operator wants.
    pub(crate) wanted: Option<i32>,
    /// Pods that exist.
    pub(crate) pods: usize,
    /// Those that are ready.
    pub(crate) ready: i32,
}

/// One change of the number of workers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Change {
    /// Seconds since the load began.
    pub(crate) at: f64,
    pub(crate) from: i32,
    pub(crate) to: i32,
    pub(crate) reason: String,
    pub(crate) bound_by: String,
    pub(crate) message: String,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// Records in the topic, by the broker's count.
    pub(crate) produced: u64,
    /// Records that the group had not committed when its last worker had left.
    pub(crate) uncommitted: u64,
    /// By the workers' counts.
    pub(crate) work: Work,
    /// Pods times seconds, from the beginning of the load until it had ended and the last record was done.
    pub(crate) worker_seconds: f64,
    /// Whether the load was what it should have been, but for a twentieth.
    pub(crate) kept_pace: bool,
    /// Logs of workers that could not be read to their end: their last second is missing, and counts as late.
    pub(crate) unread_logs: usize,
    /// What having the fewest workers at every moment would have cost.
    pub(crate) staircase_ratio: f64,
    pub(crate) changes: Vec<Change>,
    pub(crate) points: Vec<Point>,
}

/// What follows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdict {
    pub(crate) cell: String,
    pub(crate) what: String,
    /// Records done after the target's latency, or not at all.
    pub(crate) late: u64,
    pub(crate) late_share: f64,
    /// Records done twice, at least.
    pub(crate) duplicates: u64,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p95_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    /// Worker-seconds over records / 500.
    pub(crate) ratio: f64,
    pub(crate) decisions: usize,
    pub(crate) most_pods: usize,
    /// Records that a worker did in a second of work: what the machine left of the 500.
    pub(crate) records_per_busy_second: f64,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

impl Verdict {
    pub(crate) fn of(cell: &str, what: String, measured: Measured) -> Self {
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

    /// In a line.
    pub(crate) fn sentence(&self) -> String {
        let quantile = |value: Option<f64>| value.map_or_else(|| "beyond all bounds".to_owned(), words::seconds);
        let pace = if self.measured.kept_pace { "" } else { "; the load did not keep its pace" };
        let unread = match self.measured.unread_logs {
            0 => String::new(),
            some => format!("; {some} logs could not be read to their end"),
        };
        format!(
            "{} of {} records late ({:.3} %), p50 {}, p95 {}, p99 {}, ratio {:.2} (staircase {:.2}), {} decisions, up to {} \
             pods, {:.0} records in a busy second, {} done twice{pace}{unread}",
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

/// Records that were done too late or not at all. One that was done twice may hide one that was lost from the counts, but not
/// from the broker.
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
