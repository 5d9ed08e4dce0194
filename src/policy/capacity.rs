//! Records per second that one worker can process when it never waits (algorithms.md C2, estimators 1 and 2).
//!
//! *Saturated*: a worker that had a backlog all the time did what it can. *Busy*: records per second spent working,
//! times the threads that work. A worker without a backlog and without a busy clock shows a lower bound only.

use super::decision::Confidence;
use super::num;

/// Weight of one look at one saturated worker, and the most that looks can weigh together: the estimate then follows a
/// change within about twenty looks.
const SATURATED: f64 = 1.0;
const BUSY: f64 = 0.3;
const MOST: f64 = 20.0;

/// One worker between two reads of its counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stint {
    /// Records per second.
    pub(crate) rate: f64,
    /// Threads busy on average, if the worker says it.
    pub(crate) busy: Option<f64>,
    /// Had a backlog the whole time.
    pub(crate) saturated: bool,
}

/// What is known of one worker's capacity.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    mean: f64,
    weight: f64,
    /// Relative variance of single looks.
    variance: f64,
    /// Threads of one worker.
    threads: f64,
    /// Most that a worker was seen to do without being saturated.
    least: f64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { mean: 0.0, weight: 0.0, variance: 0.01, threads: 1.0, least: 0.0 }
    }
}

impl Capacity {
    /// A value from an earlier run: planned with, soon outweighed.
    pub(crate) fn recall(&mut self, mean: Option<f64>) {
        if let Some(mean) = mean.filter(|m| m.is_finite() && *m > 0.0) {
            self.mean = mean;
            self.weight = 1.0;
        }
    }

    /// Another template: the mean is kept as a guess, everything else is open.
    pub(crate) fn reset(&mut self) {
        *self = Self { mean: self.mean, weight: self.weight.min(1.0), ..Self::default() };
    }

    /// Records per second of one worker, if known; never above what the user allows one worker.
    pub(crate) fn per_worker(&self, allowed: Option<f64>) -> Option<f64> {
        (self.weight > 0.0).then(|| self.mean.min(allowed.filter(|a| *a > 0.0).unwrap_or(f64::INFINITY)))
    }

    /// What a worker was seen to do, whether or not it could do more.
    pub(crate) fn at_least(&self) -> Option<f64> {
        let known = if self.weight > 0.0 { self.mean } else { self.least };
        (known > 0.0).then_some(known)
    }

    pub(crate) fn confidence(&self) -> Confidence {
        match self.weight {
            w if w >= 8.0 && self.variance < 0.04 => Confidence::High,
            w if w >= 2.5 => Confidence::Medium,
            w if w > 0.0 => Confidence::Low,
            _ => Confidence::None,
        }
    }

    /// Learns from one look at the workers.
    pub(crate) fn learn(&mut self, stints: &[Stint]) {
        let working = |s: &&Stint| s.rate.is_finite() && s.rate > 0.0;
        for busy in stints.iter().filter_map(|s| s.busy) {
            // 1.05 busy threads are one thread and a little noise. A clock that stood still and jumps is not many threads.
            let seen = (busy - 0.1).ceil();
            if seen > self.threads && seen.is_finite() {
                self.threads = if seen > 4.0 * self.threads { self.threads } else { seen.min(256.0) };
            }
        }
        // Those that are behind are the slow ones: what all show together is what a worker can do.
        let by_busy = |s: &Stint| s.busy.filter(|b| *b >= 0.1 * self.threads).map(|b| s.rate / b * self.threads);
        let shows = |s: &Stint| if s.saturated { Some(s.rate) } else { by_busy(s) };
        let full = stints.iter().filter(working).filter(|s| s.saturated).count();
        let mut able: Vec<f64> = stints.iter().filter(working).filter_map(shows).collect();
        if let Some(rate) = num::quantile(&mut able, 0.5) {
            self.take(rate, if full > 0 { SATURATED * num::of_usize(full).min(4.0) } else { BUSY });
        } else if let Some(rate) = stints.iter().filter(working).map(|s| s.rate).reduce(f64::max) {
            self.least = self.least.max(rate);
            if self.weight > 0.0 && rate > 1.1 * self.mean {
                // It did more than it is said to be able to.
                self.take(rate, BUSY);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn slow_down(&mut self, factor: f64) {
        self.mean /= factor;
    }

    fn take(&mut self, rate: f64, weight: f64) {
        if self.weight <= 0.0 {
            self.mean = rate;
            self.weight = weight;
            return;
        }
        // A single look does not overturn many.
        let rate = if self.weight >= 6.0 { rate.clamp(0.4 * self.mean, 2.5 * self.mean) } else { rate };
        self.weight = (self.weight + weight).min(MOST);
        let gain = weight / self.weight;
        let surprise = (rate - self.mean) / self.mean;
        self.variance += gain * (surprise * surprise - self.variance);
        self.variance = self.variance.clamp(1e-4, 4.0);
        self.mean += gain * (rate - self.mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stint(rate: f64, busy: Option<f64>, saturated: bool) -> Stint {
        Stint { rate, busy, saturated }
    }

    #[test]
    fn a_saturated_worker_shows_its_capacity() {
        let mut capacity = Capacity::default();
        capacity.learn(&[stint(950.0, None, true), stint(1000.0, None, true), stint(40.0, None, false)]);
        assert_eq!(capacity.per_worker(None), Some(1000.0));
        assert_eq!(capacity.per_worker(Some(300.0)), Some(300.0));
        assert_eq!(capacity.confidence(), Confidence::Low);
        for _ in 0..10 {
            capacity.learn(&[stint(1000.0, None, true)]);
        }
        assert_eq!(capacity.confidence(), Confidence::High);
    }

    #[test]
    fn busy_time_shows_it_without_a_backlog() {
        let mut capacity = Capacity::default();
        for _ in 0..10 {
            capacity.learn(&[stint(300.0, Some(0.3), false)]);
        }
        assert!((capacity.per_worker(None).unwrap() - 1000.0).abs() < 1.0);
        // Two threads at work: one busy second is half of what the worker can do.
        let mut two = Capacity::default();
        for _ in 0..10 {
            two.learn(&[stint(900.0, Some(1.8), false)]);
        }
        assert!((two.per_worker(None).unwrap() - 1000.0).abs() < 1.0);
    }

    #[test]
    fn a_worker_that_waits_shows_a_lower_bound_only() {
        let mut capacity = Capacity::default();
        capacity.learn(&[stint(300.0, None, false)]);
        assert_eq!((capacity.per_worker(None), capacity.at_least()), (None, Some(300.0)));
        capacity.learn(&[stint(0.0, None, true), stint(f64::NAN, Some(f64::NAN), true)]);
        assert_eq!(capacity.per_worker(None), None);
    }

    #[test]
    fn a_slower_template_is_followed() {
        let mut capacity = Capacity::default();
        for _ in 0..50 {
            capacity.learn(&[stint(1000.0, None, true)]);
        }
        capacity.reset();
        assert_eq!(capacity.confidence(), Confidence::Low);
        for _ in 0..6 {
            capacity.learn(&[stint(500.0, None, true)]);
        }
        assert!(capacity.per_worker(None).unwrap() < 600.0);
    }
}
