//! The one place that reads the clock. Everything else receives a [`Clock`], or takes the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::units::Seconds;

/// Unix time. Under tokio's paused time, the paused time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    /// A fixed start, advanced by tokio's clock.
    Virtual {
        start: Seconds,
        since: Instant,
    },
}

impl Clock {
    /// Returns the computer's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Creates a clock that shows `start` now and advances with tokio's time, paused or not.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn starting_at(start: Seconds) -> Self {
        Self(Source::Virtual { start, since: Instant::now() })
    }

    /// Returns Unix time now, in seconds.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Seconds {
        match &self.0 {
            Source::System => {
                Seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64())
            }
            Source::Virtual { start, since } => *start + Seconds(since.elapsed().as_secs_f64()),
        }
    }

    /// Returns a point on the monotonic clock, which cannot be set back. It is tokio's clock, so that tests can pause
    /// it.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn monotonic(&self) -> Instant {
        Instant::now()
    }
}
