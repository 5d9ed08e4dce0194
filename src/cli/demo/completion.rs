//! Detects when the workers have processed the whole load.

use std::time::Duration;

/// The longest wait for the backlog to be processed after the end of the load.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(2);
/// The workers are considered finished when the processed total has not grown for this time, seconds.
const QUIET_SECONDS: f64 = 3.0;

/// Tracks the progress of the workers after the end of the load.
#[derive(Debug, Default)]
pub(super) struct Completion {
    /// End of the load, Unix seconds; `None` while it is running.
    pub(super) load_ended: Option<f64>,
    processed: u64,
    /// Time at which `processed` last grew, Unix seconds.
    grew: f64,
}

impl Completion {
    /// Returns true once every record is committed and the processed total, which arrives later, no longer grows; or
    /// after [`DRAIN_TIMEOUT`].
    pub(super) fn is_reached(&mut self, now: f64, uncommitted: Option<u64>, processed: u64) -> bool {
        if processed > self.processed {
            (self.processed, self.grew) = (processed, now);
        }
        let Some(load_ended) = self.load_ended else { return false };
        let quiet = now - self.grew.max(load_ended) >= QUIET_SECONDS;
        (quiet && uncommitted == Some(0)) || now - load_ended >= DRAIN_TIMEOUT.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completion_needs_an_empty_backlog_and_final_totals() {
        let mut completion = Completion::default();
        assert!(!completion.is_reached(100.0, None, 50), "the load is still running");
        completion.load_ended = Some(101.0);
        assert!(!completion.is_reached(101.0, Some(10), 60));
        assert!(!completion.is_reached(107.0, Some(10), 60), "a backlog without progress is waited for");
        assert!(!completion.is_reached(108.0, None, 60), "unknown is not zero");
        assert!(completion.is_reached(109.0, Some(0), 60));
    }

    #[test]
    fn completion_wait_is_bounded() {
        let mut completion = Completion { load_ended: Some(0.0), ..Completion::default() };
        assert!(!completion.is_reached(DRAIN_TIMEOUT.as_secs_f64() - 1.0, Some(10), 60));
        assert!(completion.is_reached(DRAIN_TIMEOUT.as_secs_f64(), Some(10), 61));
    }
}
