//! Timing of samples: interval, jitter, deadline and back-off.

use std::time::Duration;

use parking_lot::Mutex;

use crate::sample::Category;

/// Longest wait between two attempts, except after an exceeded limit.
pub(super) const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// Longest wait after an exceeded limit: what was too large will mostly be too large again.
const LONGEST_WAIT_AFTER_LIMIT: Duration = Duration::from_mins(10);

/// Factor by which the first wait after an exceeded limit is longer than after an outage.
const LIMIT_FACTOR: u32 = 8;

/// Longest wait for a missing topic: the question is cheap for the cluster, and the topic's creation should be noticed
/// soon.
const LONGEST_WAIT_FOR_TOPIC: Duration = Duration::from_secs(5);

/// Returns how often a job with this latency objective is sampled: five times per latency, from 0.5 s to 5 s.
pub fn interval(latency: Duration) -> Duration {
    (latency / 5).clamp(Duration::from_millis(500), Duration::from_secs(5))
}

/// Returns the deadline of one attempt: the interval, but at least 2 s, and 10 ms more for each question, up to 10 s.
/// (Kafka's client sends three requests for each group: 300 groups took 2 s in a debug build on two busy cores.)
pub(super) fn deadline(interval: Duration, questions: usize) -> Duration {
    let more = Duration::from_millis(10).saturating_mul(u32::try_from(questions).unwrap_or(u32::MAX));
    interval.max(Duration::from_secs(2)).saturating_add(more).min(Duration::from_secs(10))
}

/// Returns the wait after the `failures`th consecutive failure: the interval, doubled with each failure.
pub(super) fn back_off(interval: Duration, failures: u32, category: Category) -> Duration {
    let (longest, times) = match category {
        Category::TopicMissing => (LONGEST_WAIT_FOR_TOPIC, 1),
        Category::LimitExceeded => (LONGEST_WAIT_AFTER_LIMIT, LIMIT_FACTOR),
        _ => (LONGEST_BACK_OFF, 1),
    };
    interval.saturating_mul(times << failures.min(10)).min(longest.max(interval))
}

/// Random numbers for the timing, so that clients that started together do not stay in step. Not for secrets.
#[derive(Debug)]
pub(super) struct Random(Mutex<fastrand::Rng>);

impl Random {
    pub(super) fn new() -> Self {
        Self(Mutex::new(fastrand::Rng::new()))
    }

    /// Creates a generator that gives the same numbers in every run.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// Returns a number that is uniformly distributed in 0..1.
    fn fraction(&self) -> f64 {
        self.0.lock().f64()
    }

    /// Returns a factor of 0.9 to 1.1.
    pub(super) fn jitter(&self) -> f64 {
        0.9 + 0.2 * self.fraction()
    }

    /// Returns the delay before the first attempt: a random part of the interval, and at most a second, because the job
    /// waits for its first sample.
    pub(super) fn initial_delay(&self, interval: Duration) -> Duration {
        interval.min(Duration::from_secs(1)).mul_f64(self.fraction())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_a_fifth_of_the_latency_within_bounds() {
        for (latency, expected) in [(0.0, 0.5), (1.0, 0.5), (2.5, 0.5), (10.0, 2.0), (25.0, 5.0), (86_400.0, 5.0)] {
            assert_eq!(interval(Duration::from_secs_f64(latency)), Duration::from_secs_f64(expected), "{latency}");
        }
    }

    #[test]
    fn deadline_grows_with_questions_up_to_a_limit() {
        let second = Duration::from_secs(1);
        assert_eq!(deadline(second, 0), 2 * second);
        assert_eq!(deadline(5 * second, 0), 5 * second);
        assert_eq!(deadline(second, 300), 5 * second);
        assert_eq!(deadline(second, usize::MAX), 10 * second);
    }

    #[test]
    fn back_off_doubles_up_to_its_limit() {
        let second = Duration::from_secs(1);
        let waits: Vec<_> = (1..8).map(|n| back_off(second, n, Category::Unreachable).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(back_off(second, u32::MAX, Category::Protocol), LONGEST_BACK_OFF);
        assert_eq!(back_off(second, u32::MAX, Category::TopicMissing), LONGEST_WAIT_FOR_TOPIC);
        let waits: Vec<_> = (1..8).map(|n| back_off(second, n, Category::LimitExceeded).as_secs()).collect();
        assert_eq!(waits, [16, 32, 64, 128, 256, 512, 600]);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let random = Random::seeded(1);
        let rolls: Vec<_> = (0..1000).map(|_| random.jitter()).collect();
        assert!(rolls.iter().all(|roll| (0.9..1.1).contains(roll)));
        let mean = rolls.iter().sum::<f64>() / 1000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
