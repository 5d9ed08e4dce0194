//! How long a container that ends again and again waits to be started: as the kubelet does it, not at all the first
//! time, then 10 s, doubling up to 5 min; from the beginning once it has been well for 10 min.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_mins(5);
const FORGIVEN: Duration = Duration::from_mins(10);

/// The waits of one container.
#[derive(Debug, Default)]
pub(super) struct Backoff(Option<(Duration, Instant)>);

impl Backoff {
    /// How long to wait after an end, seen now.
    pub(super) fn after_end(&mut self, now: Instant) -> Duration {
        let (wait, next) = match self.0 {
            Some((next, at)) if now.saturating_duration_since(at) <= FORGIVEN => (next, (next * 2).min(MOST)),
            _ => (Duration::ZERO, FIRST),
        };
        // Counted from when it is started again.
        self.0 = Some((next, now + wait));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_and_are_forgiven() {
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
