//! The load: the arrival rate of a job in each whole second.

/// An arrival rate for each second, records per second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    rates: Vec<f32>,
}

impl Load {
    /// Returns a load with one rate for each second, records per second.
    pub fn new(rates: Vec<f32>) -> Self {
        Self { rates }
    }

    /// Returns a constant load of a length in seconds.
    pub fn constant(rate: f64, seconds: usize) -> Self {
        Self { rates: vec![rate as f32; seconds] }
    }

    /// Returns a load from points (seconds, records per second) in ascending order of time, with linear interpolation.
    /// The load begins at the first point; the last one holds for as long as the previous step.
    pub fn from_points(points: &[(f64, f64)]) -> Self {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return Self::default();
        };
        let step = match points {
            [.., before, last] => last.0 - before.0,
            _ => 1.0,
        };
        let seconds = (last.0 - first.0 + step).max(0.0).floor() as usize;
        let mut next = 0;
        let rates = (0..seconds).map(|second| {
            let time = first.0 + second as f64;
            while points.get(next).is_some_and(|p| p.0 <= time) {
                next += 1;
            }
            let left = points[next.saturating_sub(1)];
            let right = points.get(next).copied().unwrap_or(left);
            let width = right.0 - left.0;
            let share = if width > 0.0 { (time - left.0) / width } else { 0.0 };
            (left.1 + (right.1 - left.1) * share).max(0.0) as f32
        });
        Self { rates: rates.collect() }
    }

    /// Scales the load so that the 99.9th percentile of its rates is `rate`
    /// (docs/design/algorithms.md#simulated-plant).
    #[must_use]
    pub fn scale_to_p999(mut self, rate: f64) -> Self {
        let mut sorted = self.rates.clone();
        sorted.sort_by(f32::total_cmp);
        let index = (sorted.len() as f64 * 0.999) as usize;
        let high = sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0);
        if high > 0.0 {
            let factor = rate as f32 / high;
            self.rates.iter_mut().for_each(|r| *r *= factor);
        }
        self
    }

    /// Keeps the first seconds of the load.
    #[must_use]
    pub fn cut(mut self, seconds: usize) -> Self {
        self.rates.truncate(seconds);
        self
    }

    /// Returns the rate of each second, records per second.
    pub fn rates(&self) -> &[f32] {
        &self.rates
    }

    /// Returns the length in seconds.
    pub fn seconds(&self) -> usize {
        self.rates.len()
    }

    /// Returns the number of all records.
    pub fn records(&self) -> f64 {
        self.rates.iter().map(|r| f64::from(*r)).sum()
    }
}
