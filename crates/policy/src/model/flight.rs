//! A flight: a change of the replica count that is still taking effect.
//!
//! The rollout of another template is one too, because workers and partitions move. A change is in flight until its
//! workers are processing (the group reports that they own partitions, or their counters increase; ready is not enough)
//! or three times the learned start-up has passed, and for one handover more. Until then the backlog means nothing:
//! partitions in handover make no progress, which looks like load.

use super::super::contract::observation::Replicas;

/// A change that is taking effect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flight {
    pub(crate) since: f64,
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Demand that the change was decided for, records per second.
    pub(crate) demand: f64,
    /// When its workers were all present.
    pub(crate) settled: Option<f64>,
    /// Longest pause of a moved partition so far, seconds.
    pub(crate) pause: Option<f64>,
    /// Time in which no worker processed anything although records waited, seconds.
    pub(crate) still: f64,
    /// Whether another template is being rolled out to all workers.
    pub(crate) rolling: bool,
}

/// What is known about the workers that a change waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) replicas: Replicas,
    /// Workers that are processing; `None`: not known, and readiness is used instead.
    pub(crate) working: Option<u32>,
    /// Most workers that the partitions can feed.
    pub(crate) useful: Option<u32>,
}

impl Flight {
    pub(crate) fn new(since: f64, from: u32, to: u32, demand: f64) -> Self {
        Self { since, from, to, demand, settled: None, pause: None, still: 0.0, rolling: false }
    }

    /// Keeps the change in flight while workers of two templates are present.
    pub(crate) fn continue_rollout(&mut self, now: f64) {
        (self.since, self.settled, self.rolling) = (now, None, true);
    }

    /// Returns whether the change has taken effect.
    pub(crate) fn has_landed(&mut self, now: f64, arrival: &Arrival, start_up: f64, handover: f64) -> bool {
        let there = if self.to >= self.from {
            let wanted = arrival.useful.map_or(self.to, |useful| self.to.min(useful));
            let ready = arrival.replicas.ready.map(|ready| ready >= self.to);
            match (arrival.working, ready) {
                (Some(working), ready) => working >= wanted && ready != Some(false),
                (None, Some(ready)) => ready,
                (None, None) => now - self.since >= start_up,
            }
        } else {
            arrival.replicas.existing.is_none_or(|existing| existing <= self.to)
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

    fn ready(ready: u32, working: Option<u32>) -> Arrival {
        Arrival {
            replicas: Replicas { desired: Some(4), existing: Some(ready), ready: Some(ready) },
            working,
            useful: Some(24),
        }
    }

    #[test]
    fn lands_one_handover_after_its_workers_process() {
        let mut up = Flight::new(0.0, 2, 4, 100.0);
        assert!(!up.has_landed(5.0, &ready(3, None), 20.0, 4.0));
        assert!(!up.has_landed(8.0, &ready(4, Some(2)), 20.0, 4.0), "ready is not working");
        assert!(!up.has_landed(20.0, &ready(4, Some(4)), 20.0, 4.0));
        assert!(up.has_landed(24.0, &ready(4, Some(4)), 20.0, 4.0));
    }

    #[test]
    fn waits_at_most_three_start_ups() {
        let mut up = Flight::new(0.0, 2, 4, 100.0);
        assert!(!up.has_landed(63.0, &ready(3, None), 20.0, 4.0));
        assert!(up.has_landed(64.0, &ready(3, None), 20.0, 4.0));
    }
}
