//! Trials: fewer workers are tried, one stair at a time, where the capacity of one is not known.
//!
//! A trial that fails makes records late until it is undone, so the error budget pays for it. A number that proved too
//! small is not tried again for a day unless there is less to process.

use std::collections::VecDeque;

/// Time for which a number that proved too small is remembered: a day, seconds.
const REMEMBERED: f64 = 86_400.0;
/// Share of the demand at which the same number is tried again.
const LESS: f64 = 0.95;
/// Time after which a scale-down that is undone was not a mistake, seconds.
const REVERSAL: f64 = 1800.0;
const MOST: usize = 16;

/// A number of workers that proved too small.
#[derive(Debug, Clone, Copy)]
struct TooFew {
    at: f64,
    workers: u32,
    /// Arrival rate at that time, records per second.
    demand: f64,
}

/// The trials that failed, see the module docs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trial {
    last_down: Option<TooFew>,
    too_few: VecDeque<TooFew>,
}

impl Trial {
    /// Records a change of the replica count. `demand`: arrival rate, records per second.
    pub(crate) fn record_change(&mut self, now: f64, before: u32, after: u32, demand: f64) {
        if after < before {
            self.last_down = Some(TooFew { at: now, workers: after, demand });
            return;
        }
        let Some(down) = self.last_down.take() else { return };
        if now - down.at < REVERSAL && before <= down.workers && demand <= 1.05 * down.demand {
            if self.too_few.len() >= MOST {
                self.too_few.pop_front();
            }
            self.too_few.push_back(down);
        }
    }

    /// Forgets the failures, because the capacity has changed.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Returns the same as `failed` for the last half hour, for a number that should be enough by the known capacity.
    pub(crate) fn failed_lately(&self, now: f64, workers: u32, demand: f64) -> bool {
        self.too_few.iter().any(|f| now - f.at < REVERSAL && workers <= f.workers && demand > LESS * f.demand)
    }

    /// Returns whether this number has proved too small for this demand.
    pub(crate) fn failed(&self, now: f64, workers: u32, demand: f64) -> bool {
        self.too_few.iter().any(|f| now - f.at < REMEMBERED && workers <= f.workers && demand > LESS * f.demand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_number_is_not_tried_again_at_the_same_demand() {
        let mut trial = Trial::default();
        trial.record_change(0.0, 6, 5, 5000.0);
        trial.record_change(60.0, 5, 6, 5100.0);
        assert!(trial.failed(70.0, 5, 5000.0) && trial.failed(70.0, 4, 5000.0));
        assert!(!trial.failed(70.0, 5, 4700.0), "less demand");
        assert!(!trial.failed(70.0 + REMEMBERED, 5, 5000.0), "forgotten after a day");
    }
}
