//! Detects an external bottleneck: records wait for all workers, and more of them process no more together.
//!
//! The total throughput is remembered for each number of workers. When records wait for nearly all workers and the
//! throughput gained less than a third of what the larger number promised, the smaller number is as good: Sluice goes
//! back to it and waits, at first five minutes and then twice as long each time, before it tries a quarter more.
//!
//! After a scale-up, and while records still wait for nearly all workers, no more workers are added until the effect of
//! the last ones has been measured: each step taken blindly would be a larger mistake.
//!
//! - Learns from: throughput while nothing changes; a finding requires a queue at nearly every worker.
//! - Ignores: changes under way, and periods in which records do not wait.
//! - Recovers: entries expire after twenty minutes. A finding ends when the throughput rises by a quarter, when going
//!   back lowers it, when its patience is over, and with another template.

use std::collections::BTreeMap;

/// Share of the expected gain below which adding workers was in vain.
const GAIN: f64 = 0.3;
/// Time for which a measured throughput is remembered, seconds.
const REMEMBERED: f64 = 1200.0;
/// Factor by which the throughput must rise for a finding to end.
const FREED: f64 = 1.25;
/// Share of the throughput that must remain after going back to fewer workers.
const WORSE: f64 = 0.85;
/// Shortest and longest patience, seconds.
const PATIENCE: f64 = 300.0;
const MOST_PATIENCE: f64 = 7200.0;
/// Most numbers of workers that are remembered.
const MOST: usize = 32;

/// The bottleneck that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Fewest workers that process as much as more of them.
    pub(crate) workers: u32,
    /// Rate that all of them process together, records per second.
    pub(crate) rate: f64,
    until: f64,
}

/// What one observation shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Throughput {
    pub(crate) now: f64,
    /// Workers that are processing.
    pub(crate) workers: u32,
    /// Rate that they process together over the window, records per second.
    pub(crate) rate: f64,
    /// Whether records wait for nearly all of them.
    pub(crate) queued: bool,
    /// Time over which the rate is averaged, seconds.
    pub(crate) window: f64,
}

/// Throughput of one number of workers.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// Records per second together.
    rate: f64,
    at: f64,
}

/// Watches whether more workers process more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bottleneck {
    /// By number of workers.
    measured: BTreeMap<u32, Measured>,
    steady_since: Option<(f64, u32)>,
    queued_since: Option<f64>,
    found: Option<Found>,
    /// Until when the effect of the last change is being measured.
    pending_until: Option<f64>,
    /// The same, counted from when the added workers came.
    added_until: Option<f64>,
    /// Workers and throughput before going back, for comparison.
    before: Option<(u32, f64)>,
    patience: f64,
}

impl Bottleneck {
    /// Returns the bottleneck, while the finding is valid.
    pub(crate) fn found(&self, now: f64) -> Option<Found> {
        self.found.filter(|found| now < found.until)
    }

    /// Returns how many workers are tried after a finding: a quarter more than were enough, because what they share
    /// suffers from each further one.
    pub(crate) fn most_to_try(&self) -> Option<u32> {
        self.found.map(|found| found.workers.saturating_add((found.workers / 4).max(1)))
    }

    /// Returns whether the effect of the last change is still being measured while records wait for nearly all workers.
    pub(crate) fn pending(&self, now: f64) -> bool {
        [self.pending_until, self.added_until].into_iter().flatten().any(|until| now < until)
    }

    /// Forgets everything, for another template.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Interrupts the measurement: during a change nothing can be compared.
    pub(crate) fn interrupt(&mut self) {
        (self.steady_since, self.queued_since, self.pending_until) = (None, None, None);
    }

    /// Starts to measure what added workers contribute, which shows within the window.
    pub(crate) fn workers_added(&mut self, now: f64, window: f64) {
        self.added_until = Some(now + window);
    }

    /// Starts a change of the replica count.
    pub(crate) fn begin_change(&mut self) {
        self.interrupt();
        self.added_until = None;
    }

    /// Learns from a job in which nothing changes. `share(n)`: share of the arrivals of the hottest of n workers.
    pub(crate) fn observe(&mut self, seen: Throughput, share: impl Fn(u32) -> f64) {
        let now = seen.now;
        if self.found.is_some_and(|found| seen.rate > FREED * found.rate) {
            *self = Self::default();
        }
        self.measured.retain(|_, measured| now - measured.at < REMEMBERED);
        let since = match self.steady_since {
            Some((since, workers)) if workers == seen.workers => since,
            _ => {
                (self.steady_since, self.queued_since) = (Some((now, seen.workers)), None);
                now
            }
        };
        self.queued_since = if seen.queued { self.queued_since.or(Some(now)) } else { None };
        let smaller = self.measured.range(..seen.workers).next_back().map(|(workers, did)| (*workers, did.rate));
        let gave = smaller.is_none_or(|(workers, rate)| {
            seen.rate - rate >= GAIN * rate * (share(workers) / share(seen.workers).max(1e-12) - 1.0)
        });
        let watched = if gave { seen.window } else { 2.5 * seen.window };
        self.pending_until = (seen.queued && smaller.is_some()).then_some(since + watched);
        // The rate over a window is valid once the whole window belongs to this number of workers.
        if now - since < seen.window {
            return;
        }
        if gave {
            self.added_until = None;
        }
        let queued = self.queued_since.is_some_and(|since| now - since >= seen.window);
        if self.measured.len() < MOST || self.measured.contains_key(&seen.workers) {
            let entry = self.measured.entry(seen.workers).or_insert(Measured { rate: 0.0, at: now });
            // With a queue the rate is the capacity; without one it is a lower bound.
            if queued || seen.rate >= entry.rate {
                *entry = Measured { rate: seen.rate, at: now };
            }
        }
        if let (Some(found), Some((workers, rate))) = (self.found, self.before)
            && seen.workers == found.workers
        {
            self.before = None;
            if queued && seen.rate < WORSE * rate {
                // Fewer workers process less, so what they share is not the bottleneck.
                self.measured.remove(&workers);
                self.found = None;
                self.patience = 0.0;
                return;
            }
        }
        // A short stall looks the same, so the finding waits for another window.
        let long = self.queued_since.is_some_and(|since| now - since >= 2.0 * seen.window);
        if long && self.found.is_none_or(|found| now >= found.until) {
            self.evaluate(seen, share);
        }
    }

    fn evaluate(&mut self, seen: Throughput, share: impl Fn(u32) -> f64) {
        let promised = |workers: u32| share(workers) / share(seen.workers).max(1e-12);
        // The nearest smaller number from which the step to this one promised at least a tenth more.
        let smaller = self.measured.range(..seen.workers).rev().find(|(workers, _)| promised(**workers) > 1.1);
        let Some((workers, rate)) = smaller.map(|(workers, measured)| (*workers, measured.rate)) else { return };
        if seen.rate - rate >= GAIN * rate * (promised(workers) - 1.0) {
            if self.found.take().is_some() {
                self.patience = 0.0;
            }
            return;
        }
        // The fewest workers that processed about as much as any number did.
        let best = self.measured.range(..=seen.workers).map(|(_, measured)| measured.rate).fold(0.0, f64::max);
        let enough = self.measured.range(..=workers).find(|(_, measured)| measured.rate >= 0.95 * best);
        let fewest = enough.map_or(workers, |(w, _)| *w);
        self.patience = (2.0 * self.patience).clamp(PATIENCE, MOST_PATIENCE);
        self.found = Some(Found { workers: fewest, rate: best, until: seen.now + self.patience });
        self.before = Some((seen.workers, seen.rate));
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.measured.len() * 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even(workers: u32) -> f64 {
        1.0 / f64::from(workers.max(1))
    }

    fn watch(bottleneck: &mut Bottleneck, from: u32, workers: u32, rate: f64, queued: bool) {
        for second in 0..30 {
            let now = f64::from(from + second);
            bottleneck.observe(Throughput { now, workers, rate, queued, window: 10.0 }, even);
        }
    }

    #[test]
    fn useless_workers_are_found_whatever_they_were_added_for() {
        let mut bottleneck = Bottleneck::default();
        // Four processed 900 without a queue and a scale-up followed; twelve process 400 with a queue.
        watch(&mut bottleneck, 0, 4, 900.0, false);
        bottleneck.interrupt();
        watch(&mut bottleneck, 60, 12, 400.0, true);
        let found = bottleneck.found(90.0).unwrap();
        assert_eq!(found.workers, 4);
        assert_eq!(bottleneck.most_to_try(), Some(5));
        assert!(bottleneck.found(90.0 + PATIENCE).is_none(), "tried again when the patience is over");
    }

    #[test]
    fn slow_workers_are_not_removed_twice() {
        let mut bottleneck = Bottleneck::default();
        watch(&mut bottleneck, 0, 4, 4000.0, true);
        // Each worker processes half of what it did before: eight process as much as four did.
        watch(&mut bottleneck, 60, 8, 4000.0, true);
        assert_eq!(bottleneck.found(90.0).unwrap().workers, 4);
        bottleneck.interrupt();
        watch(&mut bottleneck, 120, 4, 2000.0, true);
        assert!(bottleneck.found(150.0).is_none(), "four process half of it now, so nothing shared was the bottleneck");
        watch(&mut bottleneck, 180, 8, 4000.0, true);
        assert!(bottleneck.found(210.0).is_none());
    }

    #[test]
    fn workers_that_process_more_are_not_a_bottleneck() {
        let mut bottleneck = Bottleneck::default();
        watch(&mut bottleneck, 0, 4, 4000.0, true);
        watch(&mut bottleneck, 60, 5, 5000.0, true);
        assert!(bottleneck.found(90.0).is_none());
    }
}
