//! Offsets per record: one, or more where transaction markers take offsets too.
//!
//! Positions and commits count offsets, workers count records. Compared over minutes, the two show how many offsets a
//! record takes.
//!
//! - Learns from: records processed while the counters of every worker are read.
//! - Ignores: restarts and changes of the replica count (records are processed again), and differences below 15 %.
//! - Recovers: each stretch of two minutes replaces half of what was known.

/// Stretch over which offsets and records are compared: seconds, commit intervals, seconds of the first stretch,
/// records. A commit at its edge is either counted or not, which is an error of one interval.
const STRETCH: f64 = 120.0;
const COMMITS: f64 = 8.0;
const FIRST_STRETCH: f64 = 30.0;
const RECORDS: f64 = 100.0;
/// Factor below which a difference is noise.
const NOISE: f64 = 1.15;
/// Value for transactions that are so long that their markers do not count.
const MARKED: f64 = 1.001;
/// Most offsets of a record: a transaction of one record takes two.
const MOST: f64 = 4.0;

/// The learned ratio, see the module docs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OffsetsPerRecord {
    value: f64,
    known: bool,
    /// Time in which records were processed, seconds; NaN: interrupted.
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

    /// Interrupts the comparison because records may be counted twice.
    pub(crate) fn interrupt(&mut self) {
        self.active = f64::NAN;
    }

    /// Learns from the offsets by which positions advanced and the records that were processed since the last
    /// observation. `elapsed`: seconds since then. `commit_interval`: seconds by which positions may be behind the
    /// counters.
    pub(crate) fn observe(&mut self, elapsed: f64, advanced: f64, processed: f64, commit_interval: f64) {
        if self.active.is_nan() {
            (self.active, self.offsets, self.records) = (0.0, 0.0, 0.0);
            return;
        }
        // The two are read at different moments, which matters little compared with the time of work, but not of rest.
        self.active += if processed > 0.0 { elapsed } else { 0.0 };
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

    /// Returns the offsets that one record takes; 1 until it is known.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// Returns the value, if it was learned.
    pub(crate) fn known(&self) -> Option<f64> {
        self.known.then_some(self.value)
    }

    /// Returns whether transaction markers were seen.
    pub(crate) fn transactional(&self) -> bool {
        self.value > 1.0
    }

    /// Notices markers: a log that does not grow keeps one or two offsets that no worker processes.
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
    fn short_transactions_take_two_offsets_per_record() {
        for (offsets, expected) in [(200.0, 2.0), (100.0, 1.0), (105.0, 1.0)] {
            let mut ratio = OffsetsPerRecord::default();
            for _ in 0..100 {
                ratio.observe(2.0, offsets, 100.0, 2.0);
            }
            assert!((ratio.value() - expected).abs() < 1e-6, "{}", ratio.value());
        }
    }

    /// After a rest, the positions of the first seconds of a burst were read before the counters.
    #[test]
    fn first_seconds_after_a_rest_teach_nothing() {
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
