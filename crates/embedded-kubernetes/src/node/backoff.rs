//! The back-off of a container that ends repeatedly. As in the kubelet, the first restart is immediate, the next waits
//! 10 s, and each further wait doubles up to 5 min. A run of 10 min resets the back-off.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(5);
const RESET_AFTER: Duration = Duration::from_mins(10);

/// The back-off of one container.
#[derive(Debug, Default)]
pub(super) struct Backoff(Option<(Duration, Instant)>);

impl Backoff {
    /// Returns how long to wait before the next start, for a container that has ended now.
    pub(super) fn after_end(&mut self, now: Instant) -> Duration {
        let (wait, next) = match self.0 {
            Some((next, at)) if now.saturating_duration_since(at) <= RESET_AFTER => (next, (next * 2).min(LONGEST)),
            _ => (Duration::ZERO, FIRST),
        };
        // The run that resets the back-off is measured from the next start.
        self.0 = Some((next, now + wait));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_and_reset_after_a_long_run() {
        let clock = sluice_base::clock::Clock::system();
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = backoff.after_end(clock.monotonic());
            tokio::time::advance(wait).await;
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        tokio::time::advance(Duration::from_secs(601)).await;
        assert_eq!(backoff.after_end(clock.monotonic()), Duration::ZERO);
    }
}
