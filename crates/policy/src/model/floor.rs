//! Latency that processing takes anyway, seconds: part of every record's latency, whatever the number of workers.
//!
//! A record in work is as old as its processing takes; that is known from the workers' busy clocks. Beyond that, what
//! the oldest records' ages do not fall below while workers have time to spare: a low quantile of ten minutes.
//!
//! - Excited by: looks at a settled job that keeps up, with every signal there.
//! - Ignores: stuck partitions, changes under way, catching up, ages that are explained by the commit interval.
//! - Way back: it is the lowest fifth of the last hundred such looks.

use std::collections::VecDeque;

use sluice_base::num;

/// Looks that are kept.
const KEPT: usize = 100;
/// Looks until it is known.
const ENOUGH: usize = 10;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct LatencyFloor {
    ages: VecDeque<f32>,
    prior: Option<f64>,
}

impl LatencyFloor {
    pub(crate) fn recall(&mut self, seconds: Option<f64>) {
        self.prior = seconds.filter(|s| s.is_finite() && *s >= 0.0);
    }

    /// The oldest record of a job in which all is well is this old, seconds.
    pub(crate) fn observe(&mut self, age: f64) {
        if !age.is_finite() {
            return;
        }
        if self.ages.len() >= KEPT {
            self.ages.pop_front();
        }
        self.ages.push_back(num::f32_of(age.max(0.0)));
    }

    /// Seconds, if known.
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
