//! How careful the controller is: an integral of the error budget.
//!
//! The objective allows some late records. While they are not used up, the controller plans for less growth, lets the
//! queue grow further and lets workers go sooner; when they are overdrawn, the contrary.
//!
//! - Excited by: records that fell due, late or not.
//! - Way back: it moves a little with each bin of arrivals.

use super::attainment::Budget;

/// Caution while nothing is known; the range is -1 (objectives that allow many late records) to 1. It is spent within a
/// quarter of an hour without late records.
const FIRST: f64 = 0.6;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Caution {
    level: f64,
}

impl Default for Caution {
    fn default() -> Self {
        Self { level: FIRST }
    }
}

impl Caution {
    /// One bin of arrivals has passed. `burn`: how many times faster than allowed records came late lately.
    pub(crate) fn steer(&mut self, budget: Option<Budget>, burn: Option<f64>, percentile: f64) {
        // An objective of 50 % allows fifty times as many late records as one of 99 %.
        let least = -((1.0 - percentile) / 0.01).log10().clamp(-0.5, 1.0);
        let (Some(budget), Some(burn)) = (budget, burn) else { return };
        // More care does not undo what is late already: it answers what is late now.
        let step = match budget.left {
            left if left < 0.0 && burn > 0.5 => 0.04,
            left if left < 0.0 => 0.0,
            _ if burn > 1.0 => 0.01,
            left if left > 0.5 => -0.004,
            _ => 0.0,
        };
        self.level = (self.level + step).clamp(least, 1.0);
    }

    /// Quantile of forecast errors that is planned for.
    pub(crate) fn quantile(&self) -> f64 {
        0.8 + if self.level > 0.0 { 0.185 } else { 0.3 } * self.level
    }

    /// Share of the objective that staying may use.
    pub(crate) fn staying(&self) -> f64 {
        0.65 - if self.level > 0.0 { 0.3 } else { 0.2 } * self.level
    }

    /// Share of the objective that a Down may use.
    pub(crate) fn leaving(&self) -> f64 {
        0.4 - 0.1 * self.level.max(0.0)
    }

    /// Multiple of the time for which fewer must have been enough.
    pub(crate) fn hold(&self) -> f64 {
        1.0 + 3.0 * self.level.max(0.0)
    }

    pub(crate) fn level(&self) -> f64 {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(left: f64) -> Budget {
        Budget { records: 1000.0 * left, left }
    }

    #[test]
    fn an_overdrawn_budget_makes_careful_and_an_unused_one_bold() {
        let mut caution = Caution::default();
        for _ in 0..30 {
            caution.steer(Some(budget(-0.5)), Some(2.0), 0.99);
        }
        assert!(caution.quantile() > 0.98 && caution.staying() < 0.5);
        for _ in 0..2000 {
            caution.steer(Some(budget(1.0)), Some(0.0), 0.99);
        }
        assert!((caution.quantile() - 0.8).abs() < 1e-9);
        for _ in 0..2000 {
            caution.steer(Some(budget(1.0)), Some(0.0), 0.5);
        }
        assert!(caution.quantile() < 0.55 && caution.staying() > 0.8, "an objective of 50 % is cheaper");
    }
}
