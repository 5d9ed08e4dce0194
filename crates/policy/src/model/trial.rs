//! Trials of fewer workers where it is not known what one can do: one stair at a time, and what it showed.
//!
//! A trial that fails makes records late until it is undone, so it is paid from the error budget, and a number that proved
//! too few is not tried again for a day unless there is less to do.

use std::collections::VecDeque;

/// A number that proved too few is remembered for a day, seconds.
const REMEMBERED: f64 = 86_400.0;
/// At this share of the demand the same number is tried again.
const LESS: f64 = 0.95;
/// A Down that is taken back later than this was no mistake, seconds.
const REVERSAL: f64 = 1800.0;
const MOST: usize = 16;

/// A number of workers that proved too few.
#[derive(Debug, Clone, Copy)]
struct TooFew {
    at: f64,
    workers: u32,
    /// Records per second that arrived then.
    demand: f64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trial {
    last_down: Option<TooFew>,
    too_few: VecDeque<TooFew>,
}

impl Trial {
    /// Notes a change of the number of workers at a demand in records per second.
    pub(crate) fn note_change(&mut self, now: f64, before: u32, after: u32, demand: f64) {
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

    /// What is known of capacity has changed so much that earlier failures say nothing.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The same within the last half an hour, for a number that ought to be enough by what is known of capacity.
    pub(crate) fn failed_lately(&self, now: f64, workers: u32, demand: f64) -> bool {
        self.too_few.iter().any(|f| now - f.at < REVERSAL && workers <= f.workers && demand > LESS * f.demand)
    }

    /// Whether this number has proved too few for this demand.
    pub(crate) fn failed(&self, now: f64, workers: u32, demand: f64) -> bool {
        self.too_few.iter().any(|f| now - f.at < REMEMBERED && workers <= f.workers && demand > LESS * f.demand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_proved_too_few_is_not_tried_again_at_the_same_demand() {
        let mut trial = Trial::default();
        trial.note_change(0.0, 6, 5, 5000.0);
        trial.note_change(60.0, 5, 6, 5100.0);
        assert!(trial.failed(70.0, 5, 5000.0) && trial.failed(70.0, 4, 5000.0));
        assert!(!trial.failed(70.0, 5, 4700.0), "less to do");
        assert!(!trial.failed(70.0 + REMEMBERED, 5, 5000.0), "forgotten after a day");
    }
}
