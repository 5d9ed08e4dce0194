//! Offsets that one record takes: one, or more where transaction markers take offsets too.
//!
//! Arrivals and backlogs are counted in offsets, workers count records. Compared over minutes, the two say how many
//! offsets a record takes.
//!
//! - Excited by: records processed while every worker's counters are read and the backlog is small.
//! - Ignores: restarts of workers and changes of their number (records are processed again), and differences below 15 %.
//! - Way back: each stretch of two minutes replaces half of what was known.

/// A stretch over which offsets and records are compared, seconds and records.
const STRETCH: f64 = 120.0;
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
    since: f64,
    offsets: f64,
    records: f64,
    backlog: f64,
}

impl Default for OffsetsPerRecord {
    fn default() -> Self {
        Self { value: 1.0, known: false, since: f64::NAN, offsets: 0.0, records: 0.0, backlog: f64::NAN }
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
        self.since = f64::NAN;
    }

    /// Takes the offsets that arrived and the records that were processed since the last look, and the backlog now.
    pub(crate) fn observe(&mut self, now: f64, arrived: f64, processed: f64, backlog: f64) {
        if self.since.is_nan() {
            (self.since, self.offsets, self.records, self.backlog) = (now, 0.0, 0.0, backlog);
            return;
        }
        self.offsets += arrived;
        self.records += processed;
        let stretch = if self.known { STRETCH } else { FIRST_STRETCH };
        if now - self.since < stretch || self.records < RECORDS {
            return;
        }
        // What the backlog grew by was not processed.
        let offsets = self.offsets - (backlog - self.backlog);
        let ratio = offsets / self.records;
        if ratio.is_finite() && (backlog - self.backlog).abs() < 0.3 * self.offsets {
            let least = if self.transactional() { MARKED } else { 1.0 };
            let ratio = if (1.0 / NOISE..NOISE).contains(&ratio) { least } else { ratio.clamp(least, MOST) };
            self.value = if self.known { 0.5 * (self.value + ratio) } else { ratio };
            self.known = true;
        }
        (self.since, self.offsets, self.records, self.backlog) = (now, 0.0, 0.0, backlog);
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

    #[cfg(test)]
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
            for look in 0..100_u32 {
                ratio.observe(2.0 * f64::from(look), offsets, 100.0, 10.0);
            }
            assert!((ratio.value() - expected).abs() < 1e-6, "{}", ratio.value());
        }
    }
}
