//! Caution: how careful the controller is, an integral of the error budget.
//!
//! The objective allows some late records. While few of them are used up, the controller plans for less growth, lets
//! queues grow longer and removes workers sooner; when the budget is overdrawn, it does the opposite.
//!
//! - Learns from: records that fell due, late or not.
//! - Recovers: it moves a little with each bin of arrivals.

use super::attainment::Budget;

/// Caution while nothing is known. The range is -1 (objectives that allow many late records) to 1. It falls to zero
/// within a quarter of an hour without late records.
const FIRST: f64 = 0.6;

/// Level of caution, see the module docs.
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
    /// Adjusts the caution after one bin of arrivals. `burn`: how many times faster than allowed records became late
    /// lately.
    pub(crate) fn steer(&mut self, budget: Option<Budget>, burn: Option<f64>, percentile: f64) {
        // An objective of 50 % allows fifty times as many late records as one of 99 %.
        let least = -((1.0 - percentile) / 0.01).log10().clamp(-0.5, 1.0);
        let (Some(budget), Some(burn)) = (budget, burn) else { return };
        // More caution does not undo lateness of the past; it answers lateness of the present.
        let step = match budget.left {
            left if left < 0.0 && burn > 0.5 => 0.04,
            left if left < 0.0 => 0.0,
            _ if burn > 1.0 => 0.01,
            left if left > 0.5 => -0.004,
            _ => 0.0,
        };
        self.level = (self.level + step).clamp(least, 1.0);
    }

    /// Returns the quantile of forecast errors that is planned for.
    pub(crate) fn quantile(&self) -> f64 {
        0.8 + if self.level > 0.0 { 0.185 } else { 0.3 } * self.level
    }

    /// Returns the share of the objective that staying may use.
    pub(crate) fn staying(&self) -> f64 {
        0.65 - if self.level > 0.0 { 0.3 } else { 0.2 } * self.level
    }

    /// Returns the share of the objective that a scale-down may use.
    pub(crate) fn leaving(&self) -> f64 {
        0.4 - 0.1 * self.level.max(0.0)
    }

    /// Returns the factor on the time for which fewer workers must have been enough.
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
    fn caution_follows_the_error_budget() {
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
