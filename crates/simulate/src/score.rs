//! The scores of a run (`docs/design/algorithms.md#scores`).

use super::parts::Parts;
use super::plant::Plant;
use super::run::{Change, Point};
use super::scenario::Scenario;

/// Number of records below which there is none: rounding errors of the fluid.
const NONE: f32 = 1e-3;

/// The scores of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores {
    /// Records that arrived.
    pub records: f64,
    /// Share of the records that were not processed within the objective's latency, 0 to 1.
    pub late: f64,
    /// Share of the records that took longer than a minute, 0 to 1.
    pub over_a_minute: f64,
    /// Share of the seconds in which a record became late, 0 to 1.
    pub late_seconds: f64,
    /// Share of the rolling hours (one begins each minute) in which the objective's share of the due records was in
    /// time, 0 to 1. A run shorter than an hour is one window.
    pub good_hours: f64,
    /// Median latency of the records, seconds.
    pub p50: f64,
    /// 95th percentile of latency, seconds.
    pub p95: f64,
    /// 99th percentile of latency, seconds.
    pub p99: f64,
    /// Longest latency, seconds; a record that was never processed counts with its age.
    pub max: f64,
    /// Cost: billed pods times seconds.
    pub worker_seconds: f64,
    /// Mean number of billed pods.
    pub mean_workers: f64,
    /// Changes of the replica count.
    pub rescales: usize,
    /// Changes in the opposite direction of the previous one, within 10 minutes of it.
    pub reversals: usize,
    /// Number of partitions that moved from one worker to another.
    pub moves: usize,
    /// Time after the load until the backlog was gone, seconds.
    pub drain: usize,
}

pub(crate) fn scores(
    scenario: &Scenario,
    points: &[Point],
    changes: &[Change],
    plant: &Plant,
    late_at_the_end: f64,
) -> Scores {
    let sum = |value: fn(&Point) -> f32| points.iter().map(|p| f64::from(value(p))).sum::<f64>();
    let records = sum(|p| p.arrived);
    let late = sum(|p| p.late) + late_at_the_end;
    let worker_seconds: f64 = points.iter().map(|p| f64::from(p.billed)).sum();
    let seconds = points.len().max(1) as f64;
    let turned = |pair: &&[Change]| {
        let (a, b) = (pair[0], pair[1]);
        (a.to > a.from) != (b.to > b.from) && b.at - a.at <= 600.0
    };
    let latencies = &plant.latencies;
    let drain = points.iter().rev().take_while(|p| p.arrived <= 0.0).count();
    Scores {
        records,
        late: if records > 0.0 { late / records } else { 0.0 },
        over_a_minute: latencies.share_above(60),
        late_seconds: points.iter().filter(|p| p.late > NONE).count() as f64 / seconds,
        good_hours: good_hours(points.iter().map(|p| (p.due, p.late)), points.len(), scenario.percentile),
        p50: latencies.quantile(0.5),
        p95: latencies.quantile(0.95),
        p99: latencies.quantile(0.99),
        max: latencies.max as f64,
        worker_seconds,
        mean_workers: worker_seconds / seconds,
        rescales: changes.len(),
        reversals: changes.windows(2).filter(turned).count(),
        moves: plant.moves,
        drain,
    }
}

/// How well a run met another objective than the scenario's.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ObjectiveScore {
    /// Share of the records that were not processed within the latency, 0 to 1.
    pub late: f64,
    /// As in [`Scores`].
    pub good_hours: f64,
}

/// Judges a run by another latency than the scenario's, while it runs.
pub(crate) struct Judgement {
    /// The latency in whole seconds.
    pub(crate) deadline: usize,
    /// Due and late records of each second.
    seconds: Vec<(f32, f32)>,
    late_at_the_end: f64,
}

impl Judgement {
    pub(crate) fn new(latency: f64) -> Self {
        Self { deadline: (latency.ceil() as usize).max(1), seconds: Vec::new(), late_at_the_end: 0.0 }
    }

    /// Judges a second that was closed with this backlog.
    pub(crate) fn second(&mut self, parts: &Parts, second: usize, backlog: f64) {
        let late = if backlog > 0.0 { parts.late_records(self.deadline, second) } else { 0.0 };
        self.seconds.push((parts.due_records(self.deadline, second) as f32, late as f32));
    }

    /// Ends the run: what is not processed by now never will be.
    pub(crate) fn end(&mut self, parts: &Parts, second: usize) {
        self.late_at_the_end = parts.late_to_come(self.deadline, second);
    }

    pub(crate) fn score(&self, records: f64, percentile: f64) -> ObjectiveScore {
        let late = self.seconds.iter().map(|s| f64::from(s.1)).sum::<f64>() + self.late_at_the_end;
        ObjectiveScore {
            late: if records > 0.0 { late / records } else { 0.0 },
            good_hours: good_hours(self.seconds.iter().copied(), self.seconds.len(), percentile),
        }
    }
}

/// Returns the share of good hours, from the records due and late in each second.
fn good_hours(seconds: impl Iterator<Item = (f32, f32)>, count: usize, percentile: f64) -> f64 {
    let mut sums = Vec::with_capacity(count + 1);
    sums.push((0.0_f64, 0.0_f64));
    let mut sum = (0.0, 0.0);
    for (due, late) in seconds {
        sum = (sum.0 + f64::from(due), sum.1 + f64::from(late));
        sums.push(sum);
    }
    let last = sums.len() - 1;
    let length = last.min(3600);
    let (mut good, mut all) = (0_u32, 0_u32);
    for begin in (0..=last - length).step_by(60) {
        let (from, to) = (sums[begin], sums[begin + length]);
        all += 1;
        good += u32::from(to.1 - from.1 <= (to.0 - from.0) * (1.0 - percentile) + 1e-6);
    }
    f64::from(good) / f64::from(all.max(1))
}
