//! The totals of this worker since it started, counted record by record: the only counters behind the metrics and the
//! totals line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the latency histogram in milliseconds. The objective is added if it is known at the start.
const BOUNDS: [u64; 19] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000, 120_000, 300_000, 600_000,
    3_600_000,
];

/// Additional bounds for the totals line: (from, to, step) in milliseconds. They determine a percentile to within a
/// twentieth, or a quarter of a second.
const FINER: [(u64, u64, usize); 4] =
    [(100, 2_000, 100), (2_000, 20_000, 250), (20_000, 60_000, 1_000), (60_000, 600_000, 10_000)];

/// Counters that only grow.
#[derive(Debug)]
pub(super) struct Totals {
    processed: AtomicU64,
    in_time: AtomicU64,
    /// Whether any record was compared with an objective: without one, "in time" has no meaning and is not reported.
    has_objective: AtomicU64,
    skipped: AtomicU64,
    busy_nanoseconds: AtomicU64,
    latency_sum_milliseconds: AtomicU64,
    /// All bounds.
    bounds: Vec<u64>,
    /// Bounds of the histogram on the metrics page.
    coarse: Vec<u64>,
    /// One more than the bounds: the last one counts latencies above them all.
    buckets: Vec<AtomicU64>,
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Number of records processed.
    pub processed: u64,
    /// Number of records processed within the objective; `None` while there is no objective.
    pub in_time: Option<u64>,
    /// Number of records that could not be decoded and were skipped.
    pub skipped: u64,
    /// Time spent working, summed over the lanes.
    pub busy: Duration,
    /// Sum of the latencies of all processed records.
    pub latency_sum: Duration,
    /// For each upper bound in milliseconds, the number of records at or below it and above the previous one; `None` is
    /// above all bounds.
    pub latency_buckets: Vec<(Option<u64>, u64)>,
    /// The same in fewer buckets, for the metrics page.
    pub latency_histogram: Vec<(Option<u64>, u64)>,
}

impl Totals {
    pub(super) fn new(objective: Option<Duration>) -> Self {
        let sorted = |mut bounds: Vec<u64>| {
            bounds.sort_unstable();
            bounds.dedup();
            bounds
        };
        let coarse = sorted(BOUNDS.into_iter().chain(objective.map(milliseconds)).collect());
        let finer = FINER.into_iter().flat_map(|(from, to, step)| (from..to).step_by(step));
        let bounds = sorted(coarse.iter().copied().chain(finer).collect());
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            processed: AtomicU64::new(0),
            in_time: AtomicU64::new(0),
            has_objective: AtomicU64::new(u64::from(objective.is_some())),
            skipped: AtomicU64::new(0),
            busy_nanoseconds: AtomicU64::new(0),
            latency_sum_milliseconds: AtomicU64::new(0),
            bounds,
            coarse,
            buckets,
        }
    }

    /// Counts one record that was appended and processed at these Unix times in milliseconds.
    ///
    /// The two times come from two computers. If a record seems to have been processed before it was appended, because
    /// the clocks differ, its latency is 0.
    pub(super) fn record_processed(&self, appended: i64, processed: i64, objective: Option<Duration>) {
        let latency = u64::try_from(processed.saturating_sub(appended)).unwrap_or(0);
        self.processed.fetch_add(1, Relaxed);
        self.latency_sum_milliseconds.fetch_add(latency, Relaxed);
        let bucket = self.bounds.partition_point(|bound| *bound < latency);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        if let Some(objective) = objective {
            self.has_objective.store(1, Relaxed);
            if latency <= milliseconds(objective) {
                self.in_time.fetch_add(1, Relaxed);
            }
        }
    }

    /// Adds time spent working.
    pub(super) fn add_busy_time(&self, time: Duration) {
        self.busy_nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Counts a record that could not be decoded.
    pub(super) fn record_skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    /// Merges the buckets between two bounds of the histogram.
    fn histogram(&self, buckets: &[(Option<u64>, u64)]) -> Vec<(Option<u64>, u64)> {
        let mut sum = 0;
        let mut histogram = Vec::with_capacity(self.coarse.len() + 1);
        for (bound, count) in buckets {
            sum += count;
            if bound.is_none_or(|bound| self.coarse.binary_search(&bound).is_ok()) {
                histogram.push((*bound, std::mem::take(&mut sum)));
            }
        }
        histogram
    }

    /// Returns the current counters; `under_way` is the time that the records in work have taken so far.
    pub(super) fn snapshot(&self, under_way: Duration) -> Snapshot {
        // The records in time are read first: a record that ends in between then counts as late rather than twice.
        let in_time = self.in_time.load(Relaxed);
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let latency_buckets: Vec<_> = bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Relaxed))).collect();
        Snapshot {
            in_time: (self.has_objective.load(Relaxed) > 0).then_some(in_time),
            processed: self.processed.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            busy: Duration::from_nanos(self.busy_nanoseconds.load(Relaxed)) + under_way,
            latency_sum: Duration::from_millis(self.latency_sum_milliseconds.load(Relaxed)),
            latency_histogram: self.histogram(&latency_buckets),
            latency_buckets,
        }
    }
}

impl Snapshot {
    /// Returns the line that `--totals` prints (docs/worker-metrics.md, "The totals line").
    pub fn totals_line(&self, worker: &str) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            totals: Fields<'a>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields<'a> {
            worker: &'a str,
            processed: u64,
            in_time: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            skipped: Option<u64>,
            busy_seconds: f64,
            latency_buckets_milliseconds: Vec<&'a (Option<u64>, u64)>,
        }
        serde_json::to_string(&Line {
            totals: Fields {
                worker,
                processed: self.processed,
                in_time: self.in_time,
                skipped: Some(self.skipped).filter(|skipped| *skipped > 0),
                busy_seconds: self.busy.as_secs_f64(),
                // Empty buckets are left out, because there is a line each second.
                latency_buckets_milliseconds: self.latency_buckets.iter().filter(|(_, count)| *count > 0).collect(),
            },
        })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTIVE: Option<Duration> = Some(Duration::from_secs(3));

    #[test]
    fn in_time_is_counted_per_record() {
        let totals = Totals::new(OBJECTIVE);
        for (appended, processed) in [(1000, 1000), (1000, 4000), (1000, 4001), (1000, 60_000), (9000, 1000)] {
            totals.record_processed(appended, processed, OBJECTIVE);
        }
        let snapshot = totals.snapshot(Duration::ZERO);
        assert_eq!(
            (snapshot.processed, snapshot.in_time),
            (5, Some(3)),
            "the bound itself and a skewed clock are in time"
        );
        assert_eq!(snapshot.latency_sum, Duration::from_millis(3000 + 3001 + 59_000));
        let at_or_below: u64 =
            snapshot.latency_buckets.iter().filter(|(bound, _)| bound.is_some_and(|b| b <= 3000)).map(|(_, n)| n).sum();
        assert_eq!(at_or_below, 3, "the objective is a bound, so the buckets agree with the count");
    }

    #[test]
    fn totals_line_is_finer_than_the_metrics_page() {
        let totals = Totals::new(OBJECTIVE);
        for latency in [1, 40, 550, 5_000, 6_200, 6_300, 9_999, 10_000, 10_001, 9_999_999] {
            totals.record_processed(0, latency, OBJECTIVE);
        }
        let snapshot = totals.snapshot(Duration::ZERO);
        let filled = |buckets: &[(Option<u64>, u64)]| -> Vec<(Option<u64>, u64)> {
            buckets.iter().copied().filter(|(_, count)| *count > 0).collect()
        };
        let histogram = [(1, 1), (50, 1), (1_000, 1), (5_000, 1), (10_000, 4), (20_000, 1)];
        let histogram = histogram.map(|(bound, count)| (Some(bound), count)).into_iter().chain([(None, 1)]);
        assert_eq!(filled(&snapshot.latency_histogram), histogram.collect::<Vec<_>>());
        assert_eq!(snapshot.latency_histogram.len(), BOUNDS.len() + 2, "the objective, and what is above all");
        let line = [(1, 1), (50, 1), (600, 1), (5_000, 1), (6_250, 1), (6_500, 1), (10_000, 2), (10_250, 1)];
        let line = line.map(|(bound, count)| (Some(bound), count)).into_iter().chain([(None, 1)]);
        assert_eq!(filled(&snapshot.latency_buckets), line.collect::<Vec<_>>());
    }

    #[test]
    fn in_time_is_unknown_without_an_objective() {
        let totals = Totals::new(None);
        totals.record_processed(0, 10, None);
        assert_eq!(totals.snapshot(Duration::ZERO).in_time, None);
        totals.record_processed(0, 10, OBJECTIVE);
        assert_eq!(totals.snapshot(Duration::ZERO).in_time, Some(1));
    }

    #[test]
    fn totals_line_matches_its_documentation() {
        let totals = Totals::new(OBJECTIVE);
        totals.record_processed(0, 7, OBJECTIVE);
        totals.record_processed(0, 9_999_999, OBJECTIVE);
        totals.add_busy_time(Duration::from_millis(1500));
        assert_eq!(
            totals.snapshot(Duration::from_millis(500)).totals_line("orders-0").unwrap(),
            r#"{"totals":{"worker":"orders-0","processed":2,"inTime":1,"busySeconds":2.0,"latencyBucketsMilliseconds":[[10,1],[null,1]]}}"#
        );
    }
}
