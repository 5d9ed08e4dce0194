//! Latency floor: the latency that processing takes in any case, whatever the replica count, seconds.
//!
//! A record that is being processed is as old as its processing takes, which the workers' busy clocks show. Beyond
//! that, the floor is what the oldest records' ages do not fall below while workers have spare time: a low quantile
//! over ten minutes.
//!
//! - Learns from: observations of a settled job that keeps up, with every signal present.
//! - Ignores: stuck partitions, changes under way, backlogs, and ages that the commit interval explains.
//! - Recovers: it is the lowest fifth of the last hundred such observations.

use std::collections::VecDeque;

use sluice_base::num;

/// Number of observations that are kept.
const KEPT: usize = 100;
/// Fewest observations for an estimate.
const ENOUGH: usize = 10;

/// The learned latency floor, see the module docs.
#[derive(Debug, Clone, Default)]
pub(crate) struct LatencyFloor {
    ages: VecDeque<f32>,
    prior: Option<f64>,
}

impl LatencyFloor {
    pub(crate) fn recall(&mut self, seconds: Option<f64>) {
        self.prior = seconds.filter(|s| s.is_finite() && *s >= 0.0);
    }

    /// Learns the age of the oldest record of a healthy job, seconds.
    pub(crate) fn observe(&mut self, age: f64) {
        if !age.is_finite() {
            return;
        }
        if self.ages.len() >= KEPT {
            self.ages.pop_front();
        }
        self.ages.push_back(num::f32_of(age.max(0.0)));
    }

    /// Returns the floor, seconds, if known.
    pub(crate) fn known(&self) -> Option<f64> {
        if self.ages.len() < ENOUGH {
            return self.prior;
        }
        let mut ages: Vec<f64> = self.ages.iter().copied().map(f64::from).collect();
        num::quantile(&mut ages, 0.2)
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn poison(&mut self, factor: f64) {
        for age in &mut self.ages {
            *age *= num::f32_of(factor);
        }
    }
}
