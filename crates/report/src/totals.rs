//! The totals that the reference workers log, summed over all worker processes that ever ran.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::run::Work;

/// A line of a worker's log with its totals (docs/worker-metrics.md, "The totals line").
#[derive(Debug, Deserialize)]
struct Line {
    totals: Totals,
}

/// The work of one worker since it started.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    processed: u64,
    /// Unknown until the worker has read its objective.
    #[serde(default)]
    in_time: Option<u64>,
    /// Absent while there are none.
    #[serde(default)]
    skipped: u64,
    busy_seconds: f64,
    #[serde(default)]
    latency_buckets_milliseconds: Vec<(Option<f64>, u64)>,
}

impl Totals {
    /// Parses the totals in a line of a log; `None` if the line has none.
    pub fn in_line(line: &str) -> Option<Self> {
        // Most other lines are recognised without being parsed.
        let line = line.trim();
        line.starts_with(r#"{"totals""#).then(|| serde_json::from_str::<Line>(line).ok()).flatten().map(|l| l.totals)
    }
}

/// The newest totals of every worker process.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<String, Totals>);

impl Ledger {
    /// Records the totals of a worker process, identified by its container id. Counters only grow, so an older line
    /// that is read again after a broken connection changes nothing.
    pub fn record(&mut self, incarnation: &str, totals: Totals) {
        let entry = self.0.entry(incarnation.to_owned()).or_default();
        if totals.processed >= entry.processed {
            *entry = totals;
        }
    }

    /// Returns the sum over all of them. `target`: latency, seconds, for workers that did not know theirs.
    pub fn work(&self, target: f64) -> Work {
        let mut work = Work::default();
        let mut buckets: Vec<(Option<f64>, u64)> = Vec::new();
        for totals in self.0.values() {
            work.workers += 1;
            work.processed += totals.processed;
            work.in_time += totals.in_time.unwrap_or_else(|| totals.within(target * 1000.0));
            work.skipped += totals.skipped;
            work.busy_seconds += totals.busy_seconds;
            for &(bound, count) in &totals.latency_buckets_milliseconds {
                match buckets.iter_mut().find(|(known, _)| *known == bound) {
                    Some((_, sum)) => *sum += count,
                    None => buckets.push((bound, count)),
                }
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.unwrap_or(f64::INFINITY).total_cmp(&b.unwrap_or(f64::INFINITY)));
        work.latency_buckets_milliseconds = buckets;
        work
    }
}

impl Totals {
    fn within(&self, milliseconds: f64) -> u64 {
        let buckets = self.latency_buckets_milliseconds.iter();
        buckets.filter(|(bound, _)| bound.is_some_and(|bound| bound <= milliseconds)).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(processed: u64, in_time: &str) -> String {
        format!(
            r#"{{"totals":{{"worker":"w","processed":{processed},"inTime":{in_time},"busySeconds":2.5,"latencyBucketsMilliseconds":[[10,3],[20000,1],[null,1]]}}}}"#
        )
    }

    #[test]
    fn other_lines_are_ignored() {
        for other in ["", "started", r#"{"level":"info"}"#, r#"{"totals":7}"#, r#"{"totals":{"processed":-1}}"#] {
            assert_eq!(Totals::in_line(other), None, "{other}");
        }
        assert_eq!(Totals::in_line(&line(5, "4")).unwrap().in_time, Some(4));
    }

    #[test]
    fn gone_workers_count_and_repeated_lines_do_not() {
        let mut ledger = Ledger::default();
        for (incarnation, processed) in [("a", 3), ("a", 5), ("a", 3), ("b", 5)] {
            ledger.record(incarnation, Totals::in_line(&line(processed, "4")).unwrap());
        }
        let work = ledger.work(10.0);
        assert_eq!((work.workers, work.processed, work.in_time, work.busy_seconds), (2, 10, 8, 5.0));
        assert_eq!(work.latency_buckets_milliseconds, [(Some(10.0), 6), (Some(20_000.0), 2), (None, 2)]);
    }

    #[test]
    fn skipped_records_are_summed() {
        let mut ledger = Ledger::default();
        ledger.record("a", Totals::in_line(&line(5, "4").replace(r#""busy"#, r#""skipped":2,"busy"#)).unwrap());
        ledger.record("b", Totals::in_line(&line(5, "4")).unwrap());
        assert_eq!(ledger.work(10.0).skipped, 2);
    }

    #[test]
    fn worker_without_objective_is_judged_by_its_buckets() {
        let mut ledger = Ledger::default();
        ledger.record("a", Totals::in_line(&line(5, "null")).unwrap());
        assert_eq!(ledger.work(10.0).in_time, 3);
    }
}
