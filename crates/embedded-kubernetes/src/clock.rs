//! The only clock of this room, handed to whoever needs the time. Under tokio's paused time it is the paused one.

use jiff::Timestamp;
use tokio::time::Instant;

/// Shows the time in the words of the API.
#[derive(Debug, Clone)]
pub struct Clock(sluice_base::clock::Clock);

impl Clock {
    /// A clock that shows the time of another.
    pub fn new(clock: sluice_base::clock::Clock) -> Self {
        Self(clock)
    }

    /// Unix time in whole seconds.
    #[allow(clippy::cast_possible_truncation, reason = "seconds of this era fit")]
    pub fn unix(&self) -> i64 {
        self.0.now().0.floor() as i64
    }

    /// Now, as `metav1.Time` is written.
    pub fn now(&self) -> String {
        self.after(0)
    }

    /// So many seconds from now, as `metav1.Time` is written.
    pub fn after(&self, seconds: i64) -> String {
        Timestamp::from_second(self.unix().saturating_add(seconds)).unwrap_or_default().to_string()
    }

    /// A point on the monotonic clock.
    pub fn monotonic(&self) -> Instant {
        self.0.monotonic()
    }
}
