//! Offsets that one record takes: one, or more where transaction markers take offsets too.
//!
//! Positions and commits are counted in offsets, workers count records. Compared over minutes, the two say how many
//! offsets a record takes.
//!
//! - Excited by: records processed while every worker's counters are read.
//! - Ignores: restarts of workers and changes of their number (records are processed again), and differences below 15 %.
//! - Way back: each stretch of two minutes replaces half of what was known.

/// A stretch over which offsets and records are compared, seconds, commit intervals and records. A commit at its edge is in
/// it or not: an error of one interval.
const STRETCH: f64 = 120.0;
const COMMITS: f64 = 8.0;
const FIRST_STRETCH: f64 = 30.0;
const RECORDS: f64 = 100.0;
/// A difference below this is noise.
const NOISE: f64 = 1.15;
/// Transactions are so long that their markers do not count.
const MARKED: f64 = 1.001;
/// Most offsets of a record: one-record transactions take two.
const MOST: f64 = 4.0;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OffsetsPerRecord {
    value: f64,
    known: bool,
    /// Seconds in which records were processed; NaN: interrupted.
    active: f64,
    offsets: f64,
    records: f64,
}

impl Default for OffsetsPerRecord {
    fn default() -> Self {
        Self { value: 1.0, known: false, active: f64::NAN, offsets: 0.0, records: 0.0 }
    }
}

impl OffsetsPerRecord {
    pub(crate) fn recall(&mut self, value: Option<f64>) {
        if let Some(value) = value.filter(|v| (1.0..=MOST).contains(v)) {
            (self.value, self.known) = (value, true);
        }
    }

    /// Something happened that makes records count twice.
    pub(crate) fn interrupt(&mut self) {
        self.active = f64::NAN;
    }

    /// Takes the offsets by which positions advanced and the records that were processed since the last look.
    /// `since_look`: seconds. `commit_interval`: seconds by which what advanced may be behind what was processed.
    pub(crate) fn observe(&mut self, since_look: f64, advanced: f64, processed: f64, commit_interval: f64) {
        if self.active.is_nan() {
            (self.active, self.offsets, self.records) = (0.0, 0.0, 0.0);
            return;
        }
        // The two are not read at one moment: what lies between is little against the time of work, not of rest.
        self.active += if processed > 0.0 { since_look } else { 0.0 };
        self.offsets += advanced;
        self.records += processed;
        let stretch = if self.known { STRETCH } else { FIRST_STRETCH }.max(COMMITS * commit_interval);
        if self.active < stretch || self.records < RECORDS {
            return;
        }
        let ratio = self.offsets / self.records;
        if ratio.is_finite() && self.offsets > 0.0 {
            let least = if self.transactional() { MARKED } else { 1.0 };
            let ratio = if (1.0 / NOISE..NOISE).contains(&ratio) { least } else { ratio.clamp(least, MOST) };
            self.value = if self.known { 0.5 * (self.value + ratio) } else { ratio };
            self.known = true;
        }
        (self.active, self.offsets, self.records) = (0.0, 0.0, 0.0);
    }

    /// Offsets that one record takes; 1 until it is known.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// The value, if it was learned.
    pub(crate) fn known(&self) -> Option<f64> {
        self.known.then_some(self.value)
    }

    /// Transaction markers were seen.
    pub(crate) fn transactional(&self) -> bool {
        self.value > 1.0
    }

    /// A log that stands still keeps one or two offsets that no worker processes: markers.
    pub(crate) fn markers_seen(&mut self) {
        self.known = true;
        self.value = self.value.max(MARKED);
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn poison(&mut self, factor: f64) {
        (self.value, self.known) = ((self.value * factor).clamp(1.0, MOST), true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_transactions_take_two_offsets_and_ordinary_records_one() {
        for (offsets, expected) in [(200.0, 2.0), (100.0, 1.0), (105.0, 1.0)] {
            let mut ratio = OffsetsPerRecord::default();
            for _ in 0..100 {
                ratio.observe(2.0, offsets, 100.0, 2.0);
            }
            assert!((ratio.value() - expected).abs() < 1e-6, "{}", ratio.value());
        }
    }

    /// A burst after half an hour of rest: the positions of its first seconds were read, the counters were not yet.
    #[test]
    fn the_first_seconds_after_a_rest_say_nothing() {
        let mut ratio = OffsetsPerRecord::default();
        for _ in 0..900 {
            ratio.observe(2.0, 0.0, 0.0, 0.0);
        }
        ratio.observe(2.0, 10_000.0, 2500.0, 0.0);
        assert!(ratio.known().is_none());
        for _ in 0..60 {
            ratio.observe(2.0, 10_000.0, 10_000.0, 0.0);
        }
        assert!((ratio.value() - 1.0).abs() < 1e-6, "{}", ratio.value());
    }
}
