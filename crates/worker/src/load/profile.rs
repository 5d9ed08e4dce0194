//! Calculates how many records are due at a time, and to which partition or key each record goes.

/// The fractional part of the golden ratio. Its multiples fill the unit interval more evenly than random numbers do,
/// and each run sends the same records.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// A constant rate for some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Duration in seconds; greater than 0.
    pub seconds: f64,
    /// Rate in records per second; 0 or more.
    pub rate: f64,
}

/// Returns the steps of a trace: each rate holds until the time of the next point, and the last one as long as the one
/// before it.
pub fn steps(points: &[(f64, f64)]) -> Vec<Step> {
    let mut steps: Vec<Step> = points
        .iter()
        .zip(points.iter().skip(1))
        .map(|((time, rate), (next, _))| Step { seconds: next - time, rate: *rate })
        .collect();
    if let (Some(last), Some((_, rate))) = (steps.last().copied(), points.last()) {
        steps.push(Step { seconds: last.seconds, rate: *rate });
    }
    steps
}

/// A load profile: a sequence of rates over time.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadProfile {
    /// For each step: its end in seconds, its rate, and the records due by its end.
    steps: Vec<(f64, f64, f64)>,
}

impl LoadProfile {
    /// Creates the profile of these steps in sequence.
    pub fn new(steps: &[Step]) -> Self {
        let (mut time, mut due) = (0.0, 0.0);
        let lay = |step: &Step| {
            time += step.seconds;
            due += step.seconds * step.rate;
            (time, step.rate, due)
        };
        Self { steps: steps.iter().map(lay).collect() }
    }

    /// Makes the profile `factor` times shorter, at the same rates.
    #[must_use]
    pub fn compressed(self, factor: f64) -> Self {
        let squeeze = |(end, rate, due)| (end / factor, rate, due / factor);
        Self { steps: self.steps.into_iter().map(squeeze).collect() }
    }

    /// Multiplies every rate by `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let scale = |(end, rate, due)| (end, rate * factor, due * factor);
        Self { steps: self.steps.into_iter().map(scale).collect() }
    }

    /// Ends the profile after this many seconds, if it is longer.
    #[must_use]
    pub fn cut(self, seconds: f64) -> Self {
        if seconds >= self.seconds() {
            return self;
        }
        let due = self.due(seconds);
        let rate = self.rate(seconds);
        let mut steps = self.steps;
        steps.retain(|(end, ..)| *end <= seconds);
        steps.push((seconds, rate, due));
        Self { steps }
    }

    /// Returns the highest rate, in records per second.
    pub fn peak(&self) -> f64 {
        self.steps.iter().map(|(_, rate, _)| *rate).fold(0.0, f64::max)
    }

    /// Returns the length in seconds.
    pub fn seconds(&self) -> f64 {
        self.steps.last().map_or(0.0, |(end, ..)| *end)
    }

    /// Returns the rate at a time, in records per second; 0 after the end.
    pub fn rate(&self, seconds: f64) -> f64 {
        self.at(seconds).map_or(0.0, |(_, rate, _)| *rate)
    }

    /// Returns the number of records due from the beginning to a time.
    pub fn due(&self, seconds: f64) -> f64 {
        match self.at(seconds) {
            Some((end, rate, due)) => (due - (end - seconds.max(0.0)) * rate).max(0.0),
            None => self.steps.last().map_or(0.0, |(.., due)| *due),
        }
    }

    fn at(&self, seconds: f64) -> Option<&(f64, f64, f64)> {
        self.steps.get(self.steps.partition_point(|(end, ..)| *end <= seconds))
    }
}

/// Distributes records over bins, which are partitions or keys, evenly or with a skew.
#[derive(Debug, Clone)]
pub struct Spread {
    /// Cumulative shares; empty for an even distribution.
    shares: Vec<f64>,
    bins: u64,
}

impl Spread {
    /// Creates a distribution over `bins`. With skew 0 each gets the same share; with skew `s` the one numbered `i`
    /// gets a share proportional to 1 / (i+1)^s (Zipf).
    pub fn new(bins: u32, skew: f64) -> Self {
        let mut shares = Vec::new();
        if skew > 0.0 {
            let mut sum = 0.0;
            for bin in 0..bins {
                sum += (f64::from(bin) + 1.0).powf(-skew);
                shares.push(sum);
            }
            for share in &mut shares {
                *share /= sum;
            }
        }
        Self { shares, bins: u64::from(bins.max(1)) }
    }

    /// Returns the bin of the record with this number.
    #[allow(clippy::cast_precision_loss, reason = "the numbers of records stay far below 2^52")]
    pub fn bin(&self, number: u64) -> u64 {
        if self.shares.is_empty() {
            return number % self.bins;
        }
        let point = (number as f64 * GOLDEN).fract();
        let bin = self.shares.partition_point(|share| *share <= point);
        u64::try_from(bin).unwrap_or(0).min(self.bins - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> LoadProfile {
        LoadProfile::new(&[Step { seconds: 10.0, rate: 100.0 }, Step { seconds: 20.0, rate: 40.0 }])
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn each_rate_holds_until_the_next_point() {
        let step = |seconds, rate| Step { seconds, rate };
        assert_eq!(
            steps(&[(0.0, 100.0), (60.0, 250.5), (90.0, 0.0)]),
            [step(60.0, 100.0), step(30.0, 250.5), step(30.0, 0.0)]
        );
        assert_eq!((steps(&[]), steps(&[(5.0, 1.0)])), (vec![], vec![]));
    }

    #[test]
    fn due_records_are_the_area_under_the_rates() {
        let profile = profile();
        for (at, due) in
            [(-1.0, 0.0), (0.0, 0.0), (5.0, 500.0), (10.0, 1000.0), (20.0, 1400.0), (30.0, 1800.0), (99.0, 1800.0)]
        {
            assert!(close(profile.due(at), due), "at {at}: {}", profile.due(at));
        }
        assert!(close(profile.rate(9.9), 100.0) && close(profile.rate(10.0), 40.0) && close(profile.rate(30.0), 0.0));
        assert!(close(profile.peak(), 100.0) && close(profile.seconds(), 30.0));
    }

    #[test]
    fn compression_shortens_and_scaling_multiplies() {
        let profile = profile().compressed(10.0).scaled(3.0);
        assert!(close(profile.seconds(), 3.0) && close(profile.peak(), 300.0));
        assert!(close(profile.due(0.5), 150.0) && close(profile.due(3.0), 540.0));
    }

    #[test]
    fn cut_keeps_the_steps_before_it() {
        let cut = profile().cut(15.0);
        assert!(close(cut.seconds(), 15.0) && close(cut.due(99.0), 1200.0) && close(cut.due(5.0), 500.0));
        assert_eq!(profile().cut(31.0), profile());
    }

    #[test]
    fn spread_is_even_or_follows_zipf() {
        let count = |spread: &Spread| {
            let mut counts = [0_u32; 4];
            for number in 0..10_000 {
                counts[usize::try_from(spread.bin(number)).unwrap()] += 1;
            }
            counts
        };
        assert_eq!(count(&Spread::new(4, 0.0)), [2500; 4]);
        let counts = count(&Spread::new(4, 1.0));
        // 1, 1/2, 1/3, 1/4 of 25/12.
        for (count, expected) in counts.iter().zip([4800, 2400, 1600, 1200]) {
            assert!(count.abs_diff(expected) < 20, "{counts:?}");
        }
    }
}
