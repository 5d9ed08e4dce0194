//! When are the workers through with the load?

use std::time::Duration;

/// For the backlog to go when the load is over.
const DRAIN: Duration = Duration::from_mins(2);
/// Without one more record for so long, the workers are through.
const QUIET: f64 = 3.0;

/// Watches for the end.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Unix seconds at which the load ended.
    pub(super) began: Option<f64>,
    processed: u64,
    /// Unix seconds at which `processed` last grew.
    grew: f64,
}

impl Drain {
    /// With every record committed and no more of them for a while, so that the totals tell all; or after the longest
    /// wait.
    pub(super) fn is_over(&mut self, now: f64, uncommitted: Option<u64>, processed: u64) -> bool {
        if processed > self.processed {
            (self.processed, self.grew) = (processed, now);
        }
        let Some(began) = self.began else { return false };
        let quiet = now - self.grew.max(began) >= QUIET;
        (quiet && uncommitted == Some(0)) || now - began >= DRAIN.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_ends_when_the_backlog_is_gone_and_the_last_totals_have_come() {
        let mut drain = Drain::default();
        assert!(!drain.is_over(100.0, None, 50), "the load still runs");
        drain.began = Some(101.0);
        assert!(!drain.is_over(101.0, Some(10), 60));
        assert!(!drain.is_over(107.0, Some(10), 60), "a backlog that stands still is waited for");
        assert!(!drain.is_over(108.0, None, 60), "unknown is not zero");
        assert!(drain.is_over(109.0, Some(0), 60));
    }

    #[test]
    fn waiting_has_an_end() {
        let mut drain = Drain { began: Some(0.0), ..Drain::default() };
        assert!(!drain.is_over(DRAIN.as_secs_f64() - 1.0, Some(10), 60));
        assert!(drain.is_over(DRAIN.as_secs_f64(), Some(10), 61));
    }
}
