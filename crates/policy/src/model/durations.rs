//! How long things take here: start-up of a worker, handover of a partition. Learned from what happens.

use std::collections::VecDeque;

use sluice_base::num;

/// Observations that an estimate rests on.
const KEPT: usize = 10;
/// Start-up that is assumed until one was seen, seconds. A warm image takes 2 to 5, a JVM 10 to 30: a longer guess makes
/// the first Up far too large, a shorter one is mended by the first start-up seen.
pub(crate) const START_UP: f64 = 15.0;
/// Handover that is assumed until one was seen, seconds: 0.5 to 5 where partitions are handed over one by one.
pub(crate) const HANDOVER: f64 = 4.0;
/// The same where a worker would be taken away: what is not known is no reason for it (algorithms.md C6).
pub(crate) const CAREFUL_HANDOVER: f64 = 10.0;

/// Upper (p90) estimate of a length of time from its last ten observations.
#[derive(Debug, Clone)]
pub(crate) struct Learned {
    prior: f64,
    recent: VecDeque<f32>,
    observed: bool,
}

impl Learned {
    pub(crate) fn with_prior(prior: f64) -> Self {
        Self { prior, recent: VecDeque::new(), observed: false }
    }

    /// A value from an earlier run. It weighs as one observation.
    pub(crate) fn recall(&mut self, seconds: Option<f64>) {
        if let Some(seconds) = seconds.filter(|s| (0.0..=3600.0).contains(s)) {
            self.prior = seconds;
            self.observed = true;
        }
    }

    /// Takes an observation; one that is negative, longer than an hour or no number is none.
    pub(crate) fn observe(&mut self, seconds: f64) {
        if (0.0..=3600.0).contains(&seconds) {
            if self.recent.len() >= KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back(num::f32_of(seconds));
            self.observed = true;
        }
    }

    /// The 90 % quantile, with the prior mixed in at 1/(k+1)^2 after k observations: half of a minute's ignorance should
    /// not outlive the first rescales.
    pub(crate) fn p90(&self) -> f64 {
        let mut values: Vec<f64> = self.recent.iter().copied().map(f64::from).collect();
        let share = (1.0 + num::of_usize(values.len())).powi(-2);
        num::quantile(&mut values, 0.9).map_or(self.prior, |p90| share * self.prior + (1.0 - share) * p90)
    }

    /// Where waiting does no harm: at least `assumed` until one was seen.
    pub(crate) fn careful(&self, assumed: f64) -> f64 {
        if self.observed { self.p90() } else { self.p90().max(assumed) }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn poison(&mut self, factor: f64) {
        for value in &mut self.recent {
            *value *= num::f32_of(factor);
        }
        self.prior *= factor;
    }

    /// The estimate, if it rests on anything but an assumption.
    pub(crate) fn known(&self) -> Option<f64> {
        self.observed.then(|| self.p90())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prior_fades_quickly() {
        let mut start_up = Learned::with_prior(30.0);
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
