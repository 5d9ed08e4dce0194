//! The report of a run: whether the target was met, what was lost, what it cost, and the decisions.
//!
//! A [`Run`] has the measurements; a [`RunReport`] adds the conclusions. Processed records are counted one by one by
//! the workers, and produced ones by the broker. Only the worker-seconds are estimated from samples.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::table::{Align, Overflow, Table, wrap};
use sluice_base::words;

/// The latency target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Time within which a record must be processed, seconds.
    pub latency_seconds: f64,
    /// The share of records for which that must hold, 0 to 1.
    pub share: f64,
}

/// A sample of the run. Unknown numbers are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Point {
    /// Seconds since the load began; negative before.
    pub at: f64,
    /// Records arriving per second.
    pub rate: Option<f64>,
    /// Capacity of the ready workers, records per second.
    pub capacity: Option<f64>,
    /// Records not yet processed.
    pub lag: Option<f64>,
    /// Latency at the target's percentile over the last minute, seconds.
    pub latency: Option<f64>,
    /// Replica count that the operator wants.
    pub desired: Option<u32>,
    /// Pods that exist, including those that are starting or terminating.
    pub replicas: Option<u32>,
    /// Pods that are ready.
    pub ready: Option<u32>,
}

/// A change of the replica count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Seconds since the load began.
    pub at: f64,
    /// Workers before.
    pub from: u32,
    /// Workers after.
    pub to: u32,
    /// Reason in one word.
    pub reason: String,
    /// The limit or rule that set the number.
    pub bound_by: String,
    /// Explanation in one sentence.
    pub message: String,
}

impl Change {
    /// Returns the message without the change that it begins with, for tables that have a column for it.
    pub fn sentence(&self) -> &str {
        let rest = self.message.strip_prefix(&format!("{} -> {}:", self.from, self.to));
        rest.map_or(self.message.as_str(), str::trim_start)
    }
}

/// The work of all workers of a run, including those that are gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Work {
    /// Number of worker processes that reported totals.
    pub workers: u32,
    /// Records processed; a record that was processed twice counts twice.
    pub processed: u64,
    /// Records processed within the target's latency.
    pub in_time: u64,
    /// Records that could not be decoded and were skipped. They count as late, and not as lost.
    pub skipped: u64,
    /// Time spent on records, not waiting for them, summed over all workers, seconds.
    pub busy_seconds: f64,
    /// Records by latency: upper bound of the bucket in milliseconds (`None`: no bound), records in it alone.
    pub latency_buckets_milliseconds: Vec<(Option<f64>, u64)>,
}

impl Work {
    /// Returns the share of the processed records that were in time; `None` if there are none.
    pub fn share(&self) -> Option<f64> {
        (self.processed > 0).then(|| ratio(self.in_time, self.processed))
    }

    /// Returns the records that took at most this long, which must be a bound of the buckets to be exact.
    pub fn within(&self, milliseconds: f64) -> u64 {
        let buckets = self.latency_buckets_milliseconds.iter();
        buckets.filter(|(bound, _)| bound.is_some_and(|bound| bound <= milliseconds)).map(|(_, count)| count).sum()
    }

    /// Returns the upper bound of the bucket with the quantile of the latency, seconds; `None` if there are no records,
    /// or it is beyond the last bound.
    pub fn quantile_seconds(&self, share: f64) -> Option<f64> {
        let bound = bucket(&self.latency_buckets_milliseconds, share);
        bound.map(|bound| bound / 1000.0).filter(|bound| bound.is_finite())
    }

    /// Returns the upper bound of the bucket with the quantile of the latency: `<= 250ms`, `> 2m` beyond the last
    /// bound, or `?`.
    pub fn quantile(&self, share: f64) -> String {
        quantile(&self.latency_buckets_milliseconds, share)
    }
}

/// The measurements of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Name of the job.
    pub job: String,
    /// Description of the load.
    pub load: String,
    /// Target of the job.
    pub target: Target,
    /// Records in the topic at the end; `None`: the broker could not be asked.
    pub produced: Option<u64>,
    /// Records that the workers' group had not committed at the end; `None`: the broker could not be asked. A record
    /// that was processed twice hides one that was lost from the counts, but not from this.
    pub uncommitted: Option<u64>,
    /// Work as the workers counted it.
    pub work: Work,
    /// Samples in order of time.
    pub points: Vec<Point>,
    /// Changes in order of time.
    pub changes: Vec<Change>,
}

/// The conclusions from a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// Whether enough records were in time, and none were lost.
    pub met: bool,
    /// What was missed, one sentence for each.
    pub missed: Vec<String>,
    /// Share of the records that were processed in time. Records that were not processed count as late.
    pub share: Option<f64>,
    /// Least number of records that were produced and never processed.
    pub lost: Option<u64>,
    /// Least number of records that were processed more than once.
    pub duplicates: Option<u64>,
    /// Rate of a worker while it had records, records per second.
    pub capacity_per_worker: Option<f64>,
    /// Pods times seconds, while there was load or lag.
    pub worker_seconds: f64,
    /// Least worker-seconds for these records: records divided by capacity, as if workers came and went at once and in
    /// fractions.
    pub ideal_worker_seconds: Option<f64>,
    /// `worker_seconds` divided by `ideal_worker_seconds`.
    pub cost_ratio: Option<f64>,
    /// Worker-seconds of the largest number of workers for the whole time.
    pub fixed_worker_seconds: f64,
    /// The measurements.
    #[serde(flatten)]
    pub run: Run,
}

impl RunReport {
    /// Draws the conclusions from a run.
    pub fn from_run(run: Run) -> Self {
        let work = &run.work;
        let records = run.produced.unwrap_or(0).max(work.processed);
        let share = (records > 0 && work.workers > 0).then(|| ratio(work.in_time, records));
        let lost = run
            .produced
            .zip(run.uncommitted)
            .map(|(produced, uncommitted)| produced.saturating_sub(work.processed + work.skipped).max(uncommitted));
        let duplicates = run.produced.map(|produced| work.processed.saturating_sub(produced));
        let capacity = (work.busy_seconds > 0.0).then(|| float(work.processed) / work.busy_seconds);
        let worker_seconds = integral(&run.points);
        let ideal =
            capacity.filter(|rate| *rate > 0.0).map(|rate| float(run.produced.unwrap_or(work.processed)) / rate);
        let length = during(&run.points).last().map_or(0.0, |point| point.at);
        let missed = missed(&run, share, lost);
        Self {
            met: missed.is_empty(),
            missed,
            share,
            lost,
            duplicates,
            capacity_per_worker: capacity,
            worker_seconds,
            ideal_worker_seconds: ideal,
            cost_ratio: ideal.filter(|ideal| *ideal > 0.0).map(|ideal| worker_seconds / ideal),
            fixed_worker_seconds: most_workers(&run.points).map_or(0.0, |most| f64::from(most) * length),
            run,
        }
    }

    /// Renders the report as text; `width` is that of the terminal.
    pub fn text(&self, width: Option<usize>) -> String {
        let mut text = self.verdict() + "\n\n";
        for (heading, sentences) in self.facts() {
            let left = width.map_or(usize::MAX, |width| width.saturating_sub(11).max(40));
            for (index, line) in sentences.iter().flat_map(|sentence| wrap(sentence, left)).enumerate() {
                let heading = if index == 0 { heading } else { "" };
                let _ = writeln!(text, "{heading:<9}  {line}");
            }
        }
        text.push('\n');
        text + &self.decisions(width)
    }

    /// Returns the first line: the target was met, or what was missed.
    pub fn verdict(&self) -> String {
        if !self.met {
            return format!("Missed the target: {}.", self.missed.join("; "));
        }
        format!(
            "Met the target: {} of {} records were processed within {} (target {}), and none were lost{}.",
            self.share.map_or_else(|| "?".to_owned(), words::percent),
            whole(self.run.produced.unwrap_or(self.run.work.processed)),
            words::seconds(self.run.target.latency_seconds),
            words::percent(self.run.target.share),
            match self.run.work.skipped {
                0 => String::new(),
                skipped => format!("; {} could not be decoded", whole(skipped)),
            },
        )
    }

    /// Returns the results in sentences under headings.
    pub(super) fn facts(&self) -> [(&'static str, Vec<String>); 3] {
        [("records", self.records()), ("latency", self.latency()), ("workers", self.workers())]
    }

    fn records(&self) -> Vec<String> {
        let some = |count: Option<u64>, nothing: &str, what: &str| match count {
            None => format!("{what} unknown"),
            Some(0) => nothing.to_owned(),
            Some(count) => format!("{} {what}", whole(count)),
        };
        vec![format!(
            "{} produced, {} processed by {} workers; {}, {}",
            self.run.produced.map_or_else(|| "unknown".to_owned(), whole),
            whole(self.run.work.processed),
            self.run.work.workers,
            some(self.lost, "none lost", "lost"),
            some(self.duplicates, "none processed twice", "processed twice"),
        )]
    }

    fn latency(&self) -> Vec<String> {
        let quantiles: Vec<String> = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
            .into_iter()
            .map(|(name, share)| format!("{name} {}", self.run.work.quantile(share)))
            .collect();
        let share = self.share.map_or_else(|| "an unknown share".to_owned(), words::percent);
        vec![format!("{share} within {}; {}", words::seconds(self.run.target.latency_seconds), quantiles.join(", "))]
    }

    fn workers(&self) -> Vec<String> {
        let spent = format!("{} worker-seconds", whole_seconds(self.worker_seconds));
        let against = match (self.cost_ratio, self.ideal_worker_seconds, self.capacity_per_worker) {
            (Some(ratio), Some(ideal), Some(capacity)) => format!(
                ", {ratio:.2} times the {} that the records needed at {} per worker",
                whole_seconds(ideal),
                words::rate(capacity)
            ),
            _ => String::new(),
        };
        let mut lines = vec![spent + &against];
        if let (Some(least), Some(most)) = (least_workers(&self.run.points), most_workers(&self.run.points)) {
            let saved = 1.0 - self.worker_seconds / self.fixed_worker_seconds;
            let saved = if saved > 0.0 { format!("; {} saved", words::percent(saved)) } else { String::new() };
            lines.push(format!(
                "between {least} and {most} workers; {most} all the time would have used {} worker-seconds{saved}",
                whole_seconds(self.fixed_worker_seconds)
            ));
        }
        lines
    }

    fn decisions(&self, width: Option<usize>) -> String {
        if self.run.changes.is_empty() {
            return "No decision changed the replica count.\n".to_owned();
        }
        let columns =
            [("TIME", Align::Right), ("CHANGE", Align::Left), ("REASON", Align::Left), ("MESSAGE", Align::Left)];
        let mut table = Table::new(columns, Overflow::Wrap);
        for change in &self.run.changes {
            let arrow = format!("{} -> {}", change.from, change.to);
            table.row([words::seconds(change.at), arrow, change.reason.clone(), change.sentence().to_owned()]);
        }
        table.text(width)
    }
}

fn missed(run: &Run, share: Option<f64>, lost: Option<u64>) -> Vec<String> {
    if run.produced == Some(0) {
        return vec!["no record was produced, so nothing was measured".to_owned()];
    }
    let mut missed = Vec::new();
    match share {
        None => missed.push("the workers did not report what they processed".to_owned()),
        Some(share) if share < run.target.share => missed.push(format!(
            "{} of the records were processed within {}, where {} should have been",
            words::percent(share),
            words::seconds(run.target.latency_seconds),
            words::percent(run.target.share)
        )),
        Some(_) => {}
    }
    match (lost, run.produced) {
        (Some(0), Some(_)) => {}
        (Some(lost), Some(produced)) => {
            missed.push(format!("{} of {} records were never processed", whole(lost), whole(produced)));
        }
        _ => missed.push("the brokers did not report whether every record was processed".to_owned()),
    }
    missed
}

/// Returns the points while there was load or lag: workers before that wait for the demo, not for records.
fn during(points: &[Point]) -> impl DoubleEndedIterator<Item = &Point> {
    points.iter().filter(|point| point.at >= 0.0)
}

fn least_workers(points: &[Point]) -> Option<u32> {
    during(points).filter_map(|point| point.replicas).min()
}

fn most_workers(points: &[Point]) -> Option<u32> {
    during(points).filter_map(|point| point.replicas).max()
}

/// Returns pods times seconds. A number holds until the next one is known; the last one holds for no time.
fn integral(points: &[Point]) -> f64 {
    let mut sum = 0.0;
    let mut held: Option<(f64, f64)> = None;
    for point in during(points) {
        if let Some((since, replicas)) = held {
            sum += replicas * (point.at - since);
        }
        let replicas = point.replicas.map(f64::from).or_else(|| held.map(|(_, before)| before)).unwrap_or(0.0);
        held = Some((point.at, replicas));
    }
    sum
}

fn quantile(buckets: &[(Option<f64>, u64)], share: f64) -> String {
    let last = || buckets.iter().filter_map(|(bound, _)| *bound).next_back();
    match bucket(buckets, share) {
        Some(bound) if bound.is_finite() => format!("<= {}", words::seconds(bound / 1000.0)),
        Some(_) => last().map_or_else(|| "?".to_owned(), |last| format!("> {}", words::seconds(last / 1000.0))),
        None => "?".to_owned(),
    }
}

/// Returns the upper bound of the bucket with the quantile; infinity for the last one. `None`: there are no records.
fn bucket(buckets: &[(Option<f64>, u64)], share: f64) -> Option<f64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    let mut below = 0;
    buckets.iter().find_map(|(bound, count)| {
        below += count;
        (total > 0 && float(below) >= share * float(total)).then_some(bound.unwrap_or(f64::INFINITY))
    })
}

fn ratio(part: u64, whole: u64) -> f64 {
    float(part) / float(whole)
}

/// Counts stay far below 2^53, where every whole number is still exact.
#[allow(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 records")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Formats the exact number, such as `438,912`, so that two reports can be compared.
pub fn whole(number: u64) -> String {
    group(&number.to_string())
}

fn whole_seconds(seconds: f64) -> String {
    group(&format!("{:.0}", seconds.max(0.0)))
}

fn group(digits: &str) -> String {
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
#[path = "run_test.rs"]
pub(super) mod tests;
