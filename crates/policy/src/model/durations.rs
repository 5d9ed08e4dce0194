//! Durations learned from what happens: the start-up of a worker, the handover of a partition.

use std::collections::VecDeque;

use sluice_base::num;

/// Number of observations that an estimate rests on.
const KEPT: usize = 10;
/// Start-up that is assumed until one was seen, seconds. A warm image takes 2 to 5, a JVM 10 to 30: a longer guess
/// makes the first scale-up far too large, a shorter one is corrected by the first start-up that is seen.
pub(crate) const START_UP: f64 = 15.0;
/// Handover that is assumed until one was seen, seconds: 0.5 to 5 where partitions are handed over one by one.
pub(crate) const HANDOVER: f64 = 4.0;
/// The same for a scale-down, seconds: an unknown duration does not justify one.
pub(crate) const CONSERVATIVE_HANDOVER: f64 = 10.0;

/// Upper (p90) estimate of a duration from its last ten observations.
#[derive(Debug, Clone)]
pub(crate) struct LearnedDuration {
    prior: f64,
    recent: VecDeque<f32>,
    observed: bool,
}

impl LearnedDuration {
    pub(crate) fn with_prior(prior: f64) -> Self {
        Self { prior, recent: VecDeque::new(), observed: false }
    }

    /// Restores a value from an earlier run, which counts as one observation.
    pub(crate) fn recall(&mut self, seconds: Option<f64>) {
        if let Some(seconds) = seconds.filter(|s| (0.0..=3600.0).contains(s)) {
            self.prior = seconds;
            self.observed = true;
        }
    }

    /// Learns an observation. One that is negative, longer than an hour or not a number is ignored.
    pub(crate) fn observe(&mut self, seconds: f64) {
        if (0.0..=3600.0).contains(&seconds) {
            if self.recent.len() >= KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back(num::f32_of(seconds));
            self.observed = true;
        }
    }

    /// Returns the 90 % quantile, with the prior mixed in at 1/(k+1)^2 after k observations: a guess should not outlive
    /// the first changes.
    pub(crate) fn p90(&self) -> f64 {
        let mut values: Vec<f64> = self.recent.iter().copied().map(f64::from).collect();
        let share = (1.0 + num::of_usize(values.len())).powi(-2);
        num::quantile(&mut values, 0.9).map_or(self.prior, |p90| share * self.prior + (1.0 - share) * p90)
    }

    /// Returns an estimate for decisions that can wait: at least `assumed` until a duration was seen.
    pub(crate) fn conservative(&self, assumed: f64) -> f64 {
        if self.observed { self.p90() } else { self.p90().max(assumed) }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn poison(&mut self, factor: f64) {
        for value in &mut self.recent {
            *value *= num::f32_of(factor);
        }
        self.prior *= factor;
    }

    /// Returns the estimate, unless it is a mere assumption.
    pub(crate) fn known(&self) -> Option<f64> {
        self.observed.then(|| self.p90())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prior_fades_quickly() {
        let mut start_up = LearnedDuration::with_prior(30.0);
        assert_eq!((start_up.p90(), start_up.known()), (30.0, None));
        start_up.observe(2.0);
        assert!((start_up.p90() - 9.0).abs() < 1e-9);
        for _ in 0..3 {
            start_up.observe(2.0);
        }
        assert!(start_up.p90() < 3.2);
        for _ in 0..20 {
            start_up.observe(20.0);
        }
        assert!((start_up.p90() - 20.0).abs() < 0.2);
        for nonsense in [f64::NAN, -1.0, f64::INFINITY] {
            start_up.observe(nonsense);
        }
        assert!(start_up.p90() > 19.0);
    }
}
