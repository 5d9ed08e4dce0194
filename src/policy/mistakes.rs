//! Numbers of workers that proved too few: a Down that had to be taken back at hardly more demand was a mistake, and for a
//! day nobody goes there again unless there is less to do (law 5).

use std::collections::VecDeque;

/// A Down that is taken back later than this was no mistake, seconds.
const REVERSAL: f64 = 1800.0;
/// So much more demand excuses it.
const MORE: f64 = 1.03;
/// So much less demand makes the same number right.
const LESS: f64 = 0.97;
/// A mistake is remembered for a day, seconds.
const REMEMBERED: f64 = 86_400.0;
/// Mistakes that are remembered.
const MOST: usize = 16;

/// What proved too few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mistakes {
    /// The last Down: when, to how many, at which demand.
    last_down: Option<(f64, u32, f64)>,
    /// (when, workers, demand)
    too_few: VecDeque<(f64, u32, f64)>,
}

impl Mistakes {
    /// Notes a change of the number of workers at a demand in records per second, known to within `noise` of itself.
    pub(crate) fn note(&mut self, now: f64, before: u32, after: u32, (demand, noise): (f64, f64)) {
        if after < before {
            self.last_down = Some((now, after, demand));
            return;
        }
        let Some((at, workers, then)) = self.last_down.take() else { return };
        if now - at < REVERSAL && before <= workers && demand <= (MORE + noise) * then {
            self.too_few.retain(|m| now - m.0 < REMEMBERED && (m.1 > workers || m.2 < then));
            if self.too_few.len() >= MOST {
                self.too_few.pop_front();
            }
            self.too_few.push_back((now, workers, then));
        }
    }

    /// The fewest workers that have not proved too few for this demand, at least `workers`.
    pub(crate) fn least(&self, now: f64, workers: u32, (demand, noise): (f64, f64)) -> u32 {
        let too_few = self.too_few.iter().filter(|m| now - m.0 < REMEMBERED && demand > (LESS - noise) * m.2);
        too_few.map(|m| m.1.saturating_add(1)).fold(workers, u32::max)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.too_few.capacity() * size_of::<(f64, u32, f64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_proved_too_few_is_not_tried_again_at_the_same_demand() {
        let mut mistakes = Mistakes::default();
        mistakes.note(0.0, 6, 5, (5000.0, 0.0));
        assert_eq!(mistakes.least(1.0, 5, (5000.0, 0.0)), 5, "nothing has gone wrong yet");
        mistakes.note(60.0, 5, 6, (5100.0, 0.0));
        assert_eq!(mistakes.least(70.0, 4, (5000.0, 0.0)), 6);
        assert_eq!(mistakes.least(70.0, 4, (4800.0, 0.0)), 4, "less to do");
        assert_eq!(mistakes.least(70.0 + REMEMBERED, 4, (5000.0, 0.0)), 4, "forgotten after a day");
    }

    #[test]
    fn growth_and_time_excuse_a_down() {
        for (later, demand) in [(60.0, 5300.0), (2000.0, 5000.0)] {
            let mut mistakes = Mistakes::default();
            mistakes.note(0.0, 6, 5, (5000.0, 0.0));
            mistakes.note(later, 5, 6, (demand, 0.0));
            assert_eq!(mistakes.least(later, 5, (demand, 0.0)), 5);
        }
    }
}
