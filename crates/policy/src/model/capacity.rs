//! Capacity: the records per second that one worker can process when it never waits.
//!
//! It is measured as records per second of work, either with the worker's busy clock or while records wait for it all
//! the time (docs/design/algorithms.md#capacity-of-a-worker). A worker with neither shows a lower bound only.
//!
//! - Learns from: work. Records and seconds of work of each worker are summed over its last half minute of work, or
//!   over thirty records where one takes longer; the median of the workers is the estimate.
//! - Ignores: workers that are warming up, rollouts of another template, and workers limited by something they share.
//! - Recovers: old work fades as new work comes; another template starts over.
//!
//! A busy clock is summed over a worker's lanes. The number of lanes is known if the worker or the user states it.
//! Otherwise it is the number that were seen busy at once, and the capacity is a lower bound until a queue was seen.

use std::collections::BTreeMap;

use super::super::contract::decision::Confidence;
use sluice_base::num;

/// Work that the estimate of one worker rests on, seconds; and records, if one takes longer.
const WORK: f64 = 30.0;
const RECORDS: f64 = 30.0;
/// The same without a busy clock, where work comes in long stretches, seconds.
const COARSE_WORK: f64 = 90.0;
/// Work of all workers from which on the estimate counts as known, seconds; records; and stretches without busy clocks.
const KNOWN_WORK: f64 = 4.0;
const KNOWN_RECORDS: f64 = 12.0;
const KNOWN_COARSE: u32 = 3;
/// Least work for an estimate of a single worker, seconds and records.
const OWN_WORK: f64 = 0.5;
const OWN_RECORDS: f64 = 3.0;
/// Observations in a row that must show more lanes: a clock that stood still jumps once.
const MORE_LANES: u32 = 4;
/// Time for which a queue proves the number of lanes, and that only work limits the workers, seconds.
const PROOF: f64 = 3600.0;
/// Time for which a rate that was reached without a queue counts as a lower bound, seconds.
const LEAST_HOLDS: f64 = 7200.0;
/// Most workers whose work is remembered.
const MOST: usize = 1024;

/// The work of one worker between two reads of its counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stint {
    /// Hash of the worker's name, see [`owner_hash`](super::partition::owner_hash).
    pub(crate) worker: u64,
    /// Records processed.
    pub(crate) records: f64,
    /// Length of the stint, seconds.
    pub(crate) seconds: f64,
    /// Seconds of work, summed over its lanes, if the worker reports them.
    pub(crate) busy: Option<f64>,
    /// Records waited for it the whole time.
    pub(crate) queued: bool,
    /// Lanes, if the worker or the user states their number.
    pub(crate) lanes: Option<f64>,
}

/// Fading sums of the records and seconds of work of one worker.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    records: f64,
    /// Seconds of work summed over lanes; for a worker without a busy clock, seconds with a queue.
    seconds: f64,
    at: f64,
}

/// The estimate of one worker's capacity.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    /// From an earlier run, or from the previous template; records per second.
    prior: Option<f64>,
    work: BTreeMap<u64, Work>,
    /// Lanes of a worker: reported, or seen busy at once.
    lanes: f64,
    lanes_known: bool,
    /// Observations in a row in which more lanes were seen busy.
    more_lanes: u32,
    /// Number of stretches of work of workers without a busy clock.
    coarse: u32,
    /// When records were last seen to wait for a worker that worked all the time.
    queued_at: f64,
    now: f64,
    /// Highest rate of a worker with or without a queue, records per second.
    least: f64,
    least_at: f64,
    /// The estimate, records per second; recomputed after each update.
    mean: Option<f64>,
    records: f64,
    seconds: f64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            prior: None,
            work: BTreeMap::new(),
            lanes: 1.0,
            lanes_known: false,
            more_lanes: 0,
            coarse: 0,
            queued_at: f64::NEG_INFINITY,
            now: f64::NEG_INFINITY,
            least: 0.0,
            least_at: f64::NEG_INFINITY,
            mean: None,
            records: 0.0,
            seconds: 0.0,
        }
    }
}

impl Capacity {
    /// Restores a value from an earlier run, which is used until work was seen.
    pub(crate) fn recall(&mut self, mean: Option<f64>) {
        self.prior = mean.filter(|m| m.is_finite() && *m > 0.0);
    }

    /// Starts over for another template; the previous estimate is kept as a guess.
    pub(crate) fn start_over(&mut self) {
        *self = Self { prior: self.per_worker(None), now: self.now, ..Self::default() };
    }

    /// Returns the capacity of one worker, records per second, if known; never above what the user allows one worker.
    pub(crate) fn per_worker(&self, allowed: Option<f64>) -> Option<f64> {
        let known = self.mean.or(self.prior)?;
        // A worker has processed more than the estimate.
        let known = if self.confidence() < Confidence::High { known.max(self.least) } else { known };
        Some(known.min(allowed.filter(|a| *a > 0.0).unwrap_or(f64::INFINITY)))
    }

    /// Returns the highest rate of a worker that was seen, whether or not it is its capacity.
    pub(crate) fn at_least(&self) -> Option<f64> {
        let known = self.mean.map_or(self.least, |mean| mean.max(self.least));
        (known > 0.0).then_some(known)
    }

    pub(crate) fn confidence(&self) -> Confidence {
        let fine = self.coarse == 0 || self.coarse >= KNOWN_COARSE;
        let known = self.records >= KNOWN_RECORDS && self.seconds >= KNOWN_WORK && fine;
        let proven = self.lanes_known || self.now - self.queued_at < PROOF;
        match (self.mean.is_some(), known, proven) {
            (true, true, true) => Confidence::High,
            (true, true, false) => Confidence::Medium,
            (true, false, _) => Confidence::Low,
            (false, ..) if self.prior.is_some() => Confidence::Low,
            _ => Confidence::None,
        }
    }

    /// Returns whether workers may have more lanes: several were seen busy at once, their number was not reported, and
    /// no queue has proven it yet.
    pub(crate) fn may_have_more_lanes(&self) -> bool {
        self.lanes > 1.0 && !self.lanes_known && !self.queued_at.is_finite() && self.confidence() == Confidence::Medium
    }

    /// Returns the records and seconds of work that the estimate rests on.
    pub(crate) fn evidence(&self) -> (f64, f64) {
        (self.records, self.seconds)
    }

    /// Returns the seconds of work that one record takes, if known.
    pub(crate) fn seconds_per_record(&self) -> Option<f64> {
        (self.records >= 1.0).then(|| self.seconds / self.records)
    }

    /// Returns the speed of one worker relative to the median, if it has shown it.
    pub(crate) fn speed_of(&self, worker: u64) -> Option<f64> {
        let work = self.work.get(&worker).filter(|w| w.records >= RECORDS / 2.0 && w.seconds >= OWN_WORK)?;
        let mean = self.mean?;
        Some(self.lanes * work.records / work.seconds / mean)
    }

    /// Records a rate that a worker reached without a growing queue, records per second. It counts for `LEAST_HOLDS`.
    pub(crate) fn record_least(&mut self, rate: f64, now: f64) {
        if rate.is_finite() && (rate >= self.least || now - self.least_at > LEAST_HOLDS) {
            (self.least, self.least_at) = (rate, now);
        }
    }

    /// Learns from the workers' stints between two observations.
    pub(crate) fn learn(&mut self, stints: &[Stint], now: f64) {
        self.now = now;
        let before = self.more_lanes;
        for stint in stints.iter().filter(|s| s.seconds > 0.0 && s.records >= 0.0 && s.records.is_finite()) {
            self.learn_lanes(stint);
            let work = match stint.busy.filter(|b| b.is_finite() && *b >= 0.0) {
                Some(busy) => busy.min(256.0 * stint.seconds),
                None if stint.queued => {
                    self.coarse = self.coarse.saturating_add(1);
                    stint.seconds * self.lanes
                }
                None => continue,
            };
            if stint.queued && work >= 0.85 * self.lanes * stint.seconds {
                self.queued_at = now;
            }
            if self.work.len() >= MOST && !self.work.contains_key(&stint.worker) {
                continue;
            }
            let own = self.work.entry(stint.worker).or_default();
            let least = if stint.busy.is_some() { WORK } else { COARSE_WORK };
            // The work on a record counts when the record is finished.
            let span = if own.records > 0.0 { least.max(RECORDS * own.seconds / own.records) } else { f64::INFINITY };
            let fade = (-work / span).exp();
            (own.records, own.seconds) = (own.records * fade + stint.records, own.seconds * fade + work);
            own.at = now;
        }
        if self.more_lanes == before && !stints.is_empty() {
            self.more_lanes = 0;
        }
        self.work.retain(|_, work| now - work.at < PROOF);
        self.estimate();
    }

    fn learn_lanes(&mut self, stint: &Stint) {
        if let Some(lanes) = stint.lanes.filter(|l| (1.0..=4096.0).contains(l)) {
            (self.lanes, self.lanes_known) = (lanes, true);
        } else if let Some(busy) = stint.busy.filter(|_| !self.lanes_known && stint.seconds >= 1.0) {
            // 1.05 busy lanes are one lane and some noise. A clock that stood still and jumps does not show many lanes.
            let seen = (busy / stint.seconds - 0.1).ceil();
            if seen > self.lanes && seen <= 256.0 {
                self.more_lanes = self.more_lanes.saturating_add(1);
                if self.more_lanes >= MORE_LANES {
                    (self.lanes, self.more_lanes) = (seen.min(2.0 * self.lanes), 0);
                }
            }
        }
    }

    fn estimate(&mut self) {
        let all = self.work.values().filter(|w| w.seconds > 0.0);
        (self.records, self.seconds) = all.fold((0.0, 0.0), |sum, w| (sum.0 + w.records, sum.1 + w.seconds));
        let mut own: Vec<f64> = self
            .work
            .values()
            .filter(|w| w.seconds >= OWN_WORK && w.records >= OWN_RECORDS)
            .map(|w| w.records / w.seconds)
            .collect();
        let middle = num::quantile(&mut own, 0.5);
        let pooled = (self.records >= 1.0 && self.seconds > 0.0).then(|| self.records / self.seconds);
        // With few records each, the sum over all workers is better than the median.
        let rate = if self.records < 3.0 * OWN_RECORDS { pooled } else { middle.or(pooled) };
        self.mean = rate.map(|rate| rate * self.lanes).filter(|mean| mean.is_finite() && *mean > 0.0);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.work.len() * (size_of::<(u64, Work)>() * 3 / 2 + 16)
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn poison(&mut self, factor: f64) {
        for work in self.work.values_mut() {
            work.records *= factor;
        }
        self.prior = self.prior.map(|p| p * factor);
        self.least *= factor;
        self.estimate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stint(rate: f64, busy: Option<f64>, queued: bool) -> Stint {
        Stint { worker: 1, records: 2.0 * rate, seconds: 2.0, busy: busy.map(|b| 2.0 * b), queued, lanes: None }
    }

    fn after(observations: usize, stint: Stint) -> Capacity {
        let mut capacity = Capacity::default();
        for observation in 0..observations {
            capacity.learn(&[stint], num::of_usize(observation));
        }
        capacity
    }

    #[test]
    fn queue_shows_capacity_without_a_busy_clock() {
        let capacity = after(10, stint(1000.0, None, true));
        assert!((capacity.per_worker(None).unwrap() - 1000.0).abs() < 1e-6);
        assert_eq!(capacity.per_worker(Some(300.0)), Some(300.0));
        assert_eq!(capacity.confidence(), Confidence::High);
        assert_eq!(after(10, stint(300.0, None, false)).per_worker(None), None, "it may have waited for records");
    }

    #[test]
    fn busy_time_shows_capacity_at_low_utilisation() {
        let capacity = after(30, stint(100.0, Some(0.1), false));
        assert!((capacity.per_worker(None).unwrap() - 1000.0).abs() < 1.0);
        assert_eq!(capacity.confidence(), Confidence::Medium, "no queue has proven that it has one lane");
    }

    /// More than four lanes used to be ignored for ever.
    #[test]
    fn capacity_does_not_depend_on_the_number_of_lanes() {
        for lanes in [1.0, 2.0, 8.0, 16.0] {
            let known = Stint { lanes: Some(lanes), ..stint(500.0, Some(0.5 * lanes), false) };
            assert!((after(20, known).per_worker(None).unwrap() - 1000.0).abs() < 1.0, "{lanes} lanes, reported");
            let queued = stint(1000.0, Some(lanes), true);
            assert!((after(20, queued).per_worker(None).unwrap() - 1000.0).abs() < 1.0, "{lanes} lanes, seen");
        }
    }

    /// A record of a minute, observed every five seconds, was taken for twelve times the capacity.
    #[test]
    fn records_of_a_minute_are_averaged_over_many() {
        let mut capacity = Capacity::default();
        for observation in 0..720_u32 {
            let records = if observation % 12 == 0 { 1.0 } else { 0.0 };
            let stint = Stint { worker: 1, records, seconds: 5.0, busy: Some(5.0), queued: false, lanes: None };
            capacity.learn(&[stint], 5.0 * f64::from(observation));
            if observation > 60 {
                let mu = capacity.per_worker(None).unwrap();
                assert!((mu * 60.0 - 1.0).abs() < 0.25, "{mu} at observation {observation}");
            }
        }
    }

    /// The work before the first record was finished faded, and the first record seemed to have taken half a minute.
    #[test]
    fn first_record_takes_as_long_as_the_next_ones() {
        let mut capacity = Capacity::default();
        for observation in 1..=96_u32 {
            let records = if observation == 96 { 1.0 } else { 0.0 };
            let stint = Stint { worker: 1, records, seconds: 5.0, busy: Some(5.0), queued: false, lanes: None };
            capacity.learn(&[stint], 5.0 * f64::from(observation));
        }
        let mu = capacity.per_worker(None).unwrap();
        assert!((mu * 480.0 - 1.0).abs() < 0.01, "{mu}");
    }

    #[test]
    fn slower_template_is_followed() {
        let mut capacity = after(50, stint(1000.0, None, true));
        capacity.start_over();
        assert_eq!(capacity.confidence(), Confidence::Low);
        for observation in 0..4_u32 {
            capacity.learn(&[stint(500.0, None, true)], 100.0 + f64::from(observation));
        }
        assert!(capacity.per_worker(None).unwrap() < 600.0);
    }
}
