//! A token bucket: limits the records per second. Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Bursts of this length at the full rate are allowed, so that a timer that fires late costs no throughput.
const BURST: Duration = Duration::from_millis(100);

/// The generic cell rate algorithm: one instant instead of a number of tokens, so nothing drifts.
#[derive(Debug, Default)]
pub(super) struct TokenBucket {
    per_record: Option<Duration>,
    /// When the bucket will be full again: the theoretical arrival time of ITU-T I.371.
    full_at: Option<Instant>,
}

impl TokenBucket {
    /// Sets the rate; `None` removes the limit. Starts with a full bucket, because a wait for a slow rate must not
    /// delay a fast one.
    pub(super) fn set_rate(&mut self, per_second: Option<u32>) {
        self.per_record = per_second.map(|rate| Duration::from_secs(1) / rate.max(1));
        self.full_at = None;
    }

    /// Returns when the next record may pass; `None` if it may pass now.
    pub(super) fn ready_at(&self, now: Instant) -> Option<Instant> {
        let step = self.per_record?;
        let earliest = self.full_at?.checked_sub(BURST.saturating_sub(step))?;
        (earliest > now).then_some(earliest)
    }

    /// Takes the token of one record.
    pub(super) fn take(&mut self, now: Instant) {
        if let Some(step) = self.per_record {
            self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + step);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the paused clock")]
mod tests {
    use super::*;

    /// Counts the records that the bucket lets through in this time.
    async fn passed(bucket: &mut TokenBucket, time: Duration) -> u32 {
        let end = Instant::now() + time;
        let mut passed = 0;
        loop {
            match bucket.ready_at(Instant::now()) {
                None => {
                    bucket.take(Instant::now());
                    passed += 1;
                    if passed > 1_000_000 {
                        return passed;
                    }
                }
                Some(at) if at >= end => return passed,
                Some(at) => tokio::time::sleep_until(at).await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rate_is_kept_within_the_burst() {
        for rate in [1_u32, 7, 500, 20_000] {
            let mut bucket = TokenBucket::default();
            bucket.set_rate(Some(rate));
            let passed = passed(&mut bucket, Duration::from_secs(10)).await;
            let most = rate * 10 + rate.div_ceil(10) + 1;
            assert!((rate * 10..=most).contains(&passed), "{rate}/s let {passed} through in 10 s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_rate_applies_at_once() {
        let mut bucket = TokenBucket::default();
        bucket.set_rate(Some(1));
        assert!(passed(&mut bucket, Duration::from_secs(2)).await <= 3);
        bucket.set_rate(Some(1000));
        assert!(passed(&mut bucket, Duration::from_secs(1)).await >= 1000);
        bucket.set_rate(None);
        assert!(passed(&mut bucket, Duration::from_secs(1)).await > 1_000_000, "unbounded");
    }

    #[tokio::test(start_paused = true)]
    async fn pause_gains_no_more_than_the_burst() {
        let mut bucket = TokenBucket::default();
        bucket.set_rate(Some(100));
        passed(&mut bucket, Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(passed(&mut bucket, Duration::from_secs(1)).await <= 111);
    }
}
