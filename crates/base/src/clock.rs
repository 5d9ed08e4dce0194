//! The one place that reads the clock. Everything else is handed a [`Clock`], or takes the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::units::Seconds;

/// Unix time. Under tokio's paused time it is the paused one.
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
    /// The computer's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `start` now and advances with tokio's time, paused or not.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn starting_at(start: Seconds) -> Self {
        Self(Source::Virtual { start, since: Instant::now() })
    }

    /// Unix time now, in seconds.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Seconds {
        match &self.0 {
            Source::System => {
                Seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64())
            }
            Source::Virtual { start, since } => *start + Seconds(since.elapsed().as_secs_f64()),
        }
    }

    /// A point on the monotonic clock, which no one can set back; tokio's, so tests can pause it.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn monotonic(&self) -> Instant {
        Instant::now()
    }
}
