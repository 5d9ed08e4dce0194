//! The last hour of arrivals: how noisy they are, and by how much forecasts fell short.

use std::collections::VecDeque;

use super::num;

/// Length of a bin, seconds.
const BIN: f64 = 5.0;
/// One hour.
const BINS: usize = 720;
/// Growth beyond the forecast that is assumed until there are five minutes of history.
const GROWTH_PRIOR: f64 = 1.1;
const ENOUGH: usize = 60;
/// Deviation of a single look's rate that is assumed at first, as a share of the rate.
const NOISE_PRIOR: f64 = 0.15;

/// Arrivals of the last hour, with what had been forecast.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// (arrival rate, forecast made then), records per second.
    bins: VecDeque<(f32, f32)>,
    begun: f64,
    /// Relative variance of a look's rate around the rate of the last half minute.
    noise: f64,
    looks: u32,
    growth: f64,
    /// Quantile of forecast errors that is planned for; follows the error budget.
    quantile: f64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            bins: VecDeque::new(),
            begun: f64::NEG_INFINITY,
            noise: NOISE_PRIOR * NOISE_PRIOR,
            looks: 0,
            growth: GROWTH_PRIOR,
            quantile: 0.95,
        }
    }
}

impl History {
    /// Relative standard deviation of the rate seen in a single look.
    pub(crate) fn noise(&self) -> f64 {
        self.noise.sqrt()
    }

    /// By how much demand grows beyond the forecast within the reaction time, at the quantile planned for; at least 1.
    pub(crate) fn growth(&self) -> f64 {
        self.growth
    }

    /// Quantile of forecast errors that is planned for.
    pub(crate) fn quantile(&self) -> f64 {
        self.quantile
    }

    /// Mean arrival rate over the hour, records per second.
    pub(crate) fn mean(&self) -> Option<f64> {
        let sum: f64 = self.bins.iter().map(|b| f64::from(b.0)).sum();
        (!self.bins.is_empty()).then(|| sum / num::of_usize(self.bins.len()))
    }

    /// Learns from a look: the rate in the last moments and over half a minute.
    pub(crate) fn observe_noise(&mut self, moment: f64, half_minute: f64) {
        if half_minute <= 0.0 || !(moment - half_minute).is_finite() {
            return;
        }
        self.looks = self.looks.saturating_add(1);
        // A step is not noise: what is beyond three deviations counts as three.
        let error = ((moment - half_minute) / half_minute).abs().min(3.0 * self.noise.sqrt().max(0.02));
        let gain = (1.0 / (8.0 + f64::from(self.looks))).max(0.01);
        self.noise = (self.noise + gain * (error * error - self.noise)).clamp(1e-5, 1.0);
    }

    /// Notes rate and forecast, once per bin. `horizon`: what the forecast is for, seconds. `budget`: share of the error
    /// budget that is left.
    pub(crate) fn observe(&mut self, now: f64, rate: f64, forecast: f64, horizon: f64, budget: Option<f64>) {
        if now < self.begun + BIN {
            return;
        }
        // After a gap the bins would no longer be five seconds apart: an hour's memory of a different time.
        if now > self.begun + 12.0 * BIN {
            self.bins.clear();
        }
        self.begun = now;
        if self.bins.len() >= BINS {
            self.bins.pop_front();
        } else if self.bins.capacity() < BINS {
            self.bins.reserve_exact(BINS);
        }
        self.bins.push_back((num::f32_of(rate), num::f32_of(forecast)));
        self.steer(budget);
        self.measure_growth(horizon);
    }

    /// More headroom at once when the budget is overdrawn, less slowly while there is budget to spend.
    fn steer(&mut self, budget: Option<f64>) {
        match budget {
            Some(left) if left < 0.0 => self.quantile += 0.005,
            Some(left) if left < 0.5 => self.quantile += 0.0005,
            Some(_) => self.quantile -= 0.000_02,
            None => {}
        }
        self.quantile = self.quantile.clamp(0.9, 0.998);
    }

    fn measure_growth(&mut self, horizon: f64) {
        let lead = usize::try_from(num::ceil_u32(horizon / BIN)).unwrap_or(BINS).clamp(1, BINS);
        if self.bins.len() < ENOUGH.max(2 * lead) {
            self.growth = GROWTH_PRIOR;
            return;
        }
        let most = self.bins.iter().map(|b| f64::from(b.0)).fold(0.0, f64::max);
        // Ratios to next to nothing say nothing (algorithms.md C5).
        let least = (0.1 * most).max(1e-9);
        let later = self.bins.iter().skip(lead);
        let mut ratios: Vec<f64> = self
            .bins
            .iter()
            .zip(later)
            .map(|(then, now)| f64::from(now.0).max(least) / f64::from(then.1).max(least))
            .collect();
        let cap = if horizon <= 60.0 { 1.5 } else { 2.0 };
        self.growth = num::quantile(&mut ratios, self.quantile).map_or(GROWTH_PRIOR, |g| g.clamp(1.0, cap));
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bins.capacity() * size_of::<(f32, f32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_forecasts_missed() {
        let mut history = History::default();
        assert_eq!(history.growth(), GROWTH_PRIOR);
        for bin in 0..400 {
            // Every tenth bin is 30 % above what was forecast.
            let rate = if bin % 10 == 0 { 1300.0 } else { 1000.0 };
            history.observe(f64::from(bin) * 5.0, rate, 1000.0, 5.0, None);
        }
        assert!((history.growth() - 1.3).abs() < 0.01, "{}", history.growth());
    }

    #[test]
    fn headroom_follows_the_budget() {
        let mut history = History::default();
        let mut bin = 0.0;
        let mut run = |history: &mut History, budget| {
            for _ in 0..12 {
                history.observe(bin, 1.0, 1.0, 5.0, Some(budget));
                bin += 5.0;
            }
            history.quantile()
        };
        let overdrawn = run(&mut history, -0.5);
        assert!(overdrawn > 0.99, "{overdrawn}");
        let rich = run(&mut history, 1.0);
        assert!(rich < overdrawn && rich > overdrawn - 0.001, "less, but slowly: {rich}");
    }

    #[test]
    fn a_step_is_not_noise() {
        let mut history = History::default();
        for _ in 0..300 {
            history.observe_noise(1010.0, 1000.0);
        }
        let calm = history.noise();
        history.observe_noise(3000.0, 1000.0);
        assert!(calm < 0.03 && history.noise() < 1.1 * calm, "{calm} {}", history.noise());
    }
}
