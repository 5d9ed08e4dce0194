//! Simulates the queue of one worker under the demand that may come.

use super::demand::Demand;

/// Most steps of one simulation.
const STEPS: u32 = 48;

/// The queue of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue {
    /// How long its newest record will wait, seconds.
    pub(crate) delay: f64,
    /// Share of the arrivals that the worker receives, 0 to 1.
    pub(crate) share: f64,
    /// Capacity of the worker, records per second.
    pub(crate) capacity: f64,
}

/// How long records wait in a simulated queue, seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wait {
    /// Longest wait within the horizon.
    pub(crate) worst: f64,
    /// Wait at the end of the horizon.
    pub(crate) end: f64,
}

impl Queue {
    /// Simulates the queue for `horizon` seconds, beginning `from` seconds after now.
    pub(crate) fn follow(&self, demand: &Demand, from: f64, horizon: f64) -> Wait {
        let step = (horizon / f64::from(STEPS)).max(0.25);
        let per_second = self.share / self.capacity.max(1e-12);
        let mut wait = Wait { worst: self.delay, end: self.delay };
        let mut time = 0.0;
        while time < horizon {
            let length = step.min(horizon - time);
            time += length;
            wait.end = (wait.end + (demand.at(from + time) * per_second - 1.0) * length).max(0.0);
            wait.worst = wait.worst.max(wait.end);
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(rate: f64) -> Demand {
        Demand { level: rate, reaction: 10.0, upper: rate, ..Demand::default() }
    }

    #[test]
    fn queue_grows_by_its_deficit() {
        let queue = Queue { delay: 2.0, share: 0.5, capacity: 1000.0 };
        let wait = queue.follow(&constant(2200.0), 0.0, 10.0);
        assert!((wait.worst - 3.0).abs() < 1e-9 && (wait.end - 3.0).abs() < 1e-9, "{wait:?}");
    }

    #[test]
    fn queue_drains_by_its_spare_capacity() {
        let queue = Queue { delay: 2.0, share: 0.5, capacity: 1000.0 };
        let wait = queue.follow(&constant(1500.0), 0.0, 20.0);
        assert!((wait.worst - 2.0).abs() < 1e-9 && wait.end == 0.0, "{wait:?}");
    }
}
