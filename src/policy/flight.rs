//! A change of the number of workers that is still taking effect (law 6).
//!
//! The roll-out of another template is one too: workers come and go, and partitions with them.
//! It is in flight until its workers are ready, or three times the start-up that was learned has passed, and for one
//! handover more. Until then the backlog says nothing: partitions being moved stand still, and that looks like load.

use super::observation::Replicas;

/// A change under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flight {
    pub(crate) since: f64,
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Demand that it was decided for, records per second.
    pub(crate) demand: f64,
    /// When its workers were there.
    pub(crate) settled: Option<f64>,
    /// Longest pause of a moved partition so far, seconds.
    pub(crate) pause: Option<f64>,
    /// Seconds in which nobody did anything although records waited.
    pub(crate) still: f64,
    /// Another template is being rolled out to all workers.
    pub(crate) rolling: bool,
}

impl Flight {
    pub(crate) fn new(since: f64, from: u32, to: u32, demand: f64) -> Self {
        Self { since, from, to, demand, settled: None, pause: None, still: 0.0, rolling: false }
    }

    /// Workers of two templates are there: it is not over.
    pub(crate) fn rolls(&mut self, now: f64) {
        (self.since, self.settled, self.rolling) = (now, None, true);
    }

    /// Whether it has landed.
    pub(crate) fn landed(&mut self, now: f64, replicas: Replicas, start_up: f64, handover: f64) -> bool {
        let there = if self.to >= self.from {
            replicas.ready.map_or(now - self.since >= start_up, |ready| ready >= self.to)
        } else {
            replicas.existing.is_none_or(|existing| existing <= self.to)
        };
        if there && self.settled.is_none() {
            self.settled = Some(now);
        }
        let moved = self.settled.is_some_and(|at| now - at >= handover);
        moved || now - self.since >= 3.0 * start_up + handover
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(ready: u32) -> Replicas {
        Replicas { desired: Some(4), existing: Some(ready), ready: Some(ready) }
    }

    #[test]
    fn lands_a_handover_after_its_workers_are_ready() {
        let mut up = Flight::new(0.0, 2, 4, 100.0);
        assert!(!up.landed(5.0, ready(3), 20.0, 4.0));
        assert!(!up.landed(8.0, ready(4), 20.0, 4.0));
        assert!(!up.landed(11.0, ready(4), 20.0, 4.0));
        assert!(up.landed(12.0, ready(4), 20.0, 4.0));
    }

    #[test]
    fn waits_no_longer_than_three_start_ups() {
        let mut up = Flight::new(0.0, 2, 4, 100.0);
        assert!(!up.landed(63.0, ready(3), 20.0, 4.0));
        assert!(up.landed(64.0, ready(3), 20.0, 4.0));
    }
}
