//! The truth about every record: when it arrived, when it was processed, and the resulting scores.

/// Latency in steps beyond which records are counted together.
const LONGEST: usize = 100_000;

/// Judges records when they are processed.
#[derive(Debug)]
pub(crate) struct Truth {
    latency: f64,
    warm_up: f64,
    step: f64,
    /// Records that arrived after the warm-up, by latency in steps.
    by_latency: Vec<f64>,
    /// Records that were judged, and those that were late: after the warm-up, and in total.
    after: (f64, f64),
    whole: (f64, f64),
}

impl Truth {
    pub(crate) fn new(latency: f64, warm_up: f64, step: f64) -> Self {
        Self { latency, warm_up, step, by_latency: Vec::new(), after: (0.0, 0.0), whole: (0.0, 0.0) }
    }

    /// Records the latency of records that arrived at a time.
    pub(crate) fn record(&mut self, arrived: f64, took: f64, records: f64) {
        let late = if took > self.latency { records } else { 0.0 };
        self.whole.0 += records;
        self.whole.1 += late;
        if arrived >= self.warm_up {
            self.after.0 += records;
            self.after.1 += late;
            let index = ((took / self.step) as usize).min(LONGEST);
            if index >= self.by_latency.len() {
                self.by_latency.resize(index + 1, 0.0);
            }
            self.by_latency[index] += records;
        }
    }

    /// Judges unprocessed records at the end of the run: late if they are too old already, else not judged.
    pub(crate) fn abandon(&mut self, arrived: f64, age: f64, records: f64) {
        if age > self.latency {
            self.record(arrived, age, records);
        }
    }

    /// Returns the share of late records: after the warm-up, and in total.
    pub(crate) fn late(&self) -> (f64, f64) {
        let share = |(judged, late): (f64, f64)| if judged > 0.0 { late / judged } else { 0.0 };
        (share(self.after), share(self.whole))
    }

    /// Returns a quantile of the latency after the warm-up, seconds.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let mut left = self.after.0 * q;
        for (index, records) in self.by_latency.iter().enumerate() {
            left -= records;
            if left < 0.0 {
                return (index as f64 + 0.5) * self.step;
            }
        }
        self.by_latency.len() as f64 * self.step
    }
}
