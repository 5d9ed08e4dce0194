//! The only clock of this crate, which is passed to the parts that need the time. It follows tokio's paused time.

use jiff::Timestamp;
use tokio::time::Instant;

/// A clock that formats times as the API does.
#[derive(Debug, Clone)]
pub struct Clock(sluice_base::clock::Clock);

impl Clock {
    /// Creates a clock that shows the time of `clock`.
    pub fn new(clock: sluice_base::clock::Clock) -> Self {
        Self(clock)
    }

    /// Returns the Unix time, whole seconds.
    #[allow(clippy::cast_possible_truncation, reason = "seconds of this era fit")]
    pub fn unix(&self) -> i64 {
        self.0.now().0.floor() as i64
    }

    /// Returns the current time as `metav1.Time` is written.
    pub fn now(&self) -> String {
        self.after(0)
    }

    /// Returns the time `seconds` from now as `metav1.Time` is written.
    pub fn after(&self, seconds: i64) -> String {
        Timestamp::from_second(self.unix().saturating_add(seconds)).unwrap_or_default().to_string()
    }

    /// Returns the current point on the monotonic clock.
    pub fn monotonic(&self) -> Instant {
        self.0.monotonic()
    }
}
