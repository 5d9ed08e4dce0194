//! Progress: how much all workers process together, and whether that agrees with what the source reports.

use std::collections::VecDeque;

/// Time after which idle workers agree with a source that reports no backlog, seconds.
const AT_REST: f64 = 30.0;
/// Time after which counters that do not increase although records are processed are wrong, and for which they are then
/// doubted; seconds.
const COUNTERS_STAND: f64 = 10.0;
const COUNTERS_DOUBTED: f64 = 30.0;
/// Factor by which each shorter gap reduces the usual gap between finished records.
const GAP_FADES: f64 = 0.8;
/// Number of points that are kept.
const POINTS: usize = 64;

/// Records processed since watching began, over time.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    points: VecDeque<(f64, f64)>,
    /// Records that the workers may still have to process, by what the source reported when its log last grew; below
    /// zero, they process records that it does not report.
    left: f64,
    /// When records were last seen to be processed, by the workers' counters and by the log.
    pub(crate) worked_at: f64,
    pub(crate) moved_at: f64,
    /// Since when no worker processes anything although records wait.
    pub(crate) still_since: Option<f64>,
    /// Longest time without a finished record while records waited: an upper estimate that fades, seconds.
    usual_gap: f64,
    /// Whether progress is measured by the workers' counters, and not only by commits.
    pub(crate) counted: bool,
    finished_at: f64,
    /// Since when the workers' counters do not increase although the log shows progress, and when that last lasted for
    /// long.
    counters_still_since: Option<f64>,
    counters_stood_at: f64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            points: VecDeque::new(),
            left: f64::INFINITY,
            worked_at: f64::NEG_INFINITY,
            moved_at: f64::NEG_INFINITY,
            still_since: None,
            usual_gap: 0.0,
            counted: false,
            finished_at: f64::NEG_INFINITY,
            counters_still_since: None,
            counters_stood_at: f64::NEG_INFINITY,
        }
    }
}

impl Progress {
    pub(crate) fn clear(&mut self) {
        self.points.clear();
        self.still_since = None;
    }

    /// Records how many records were processed by now.
    pub(crate) fn record(&mut self, now: f64, records: f64) {
        let total = self.points.back().map_or(0.0, |p| p.1) + records;
        if self.points.back().is_none_or(|p| now - p.0 >= 1.0) {
            if self.points.len() >= POINTS {
                self.points.pop_front();
            }
            self.points.push_back((now, total));
        } else if let Some(last) = self.points.back_mut() {
            last.1 = total;
        }
    }

    /// Returns the rate over the last `window` seconds, records per second.
    pub(crate) fn rate(&self, window: f64) -> Option<f64> {
        let (last, total) = *self.points.back()?;
        let (since, before) = *self.points.iter().find(|p| last - p.0 <= window)?;
        (last - since >= 2.0).then(|| (total - before).max(0.0) / (last - since))
    }

    /// Compares the workers with the source. A source that keeps reporting the same offsets, or zeros, soon has nothing
    /// left to process although the workers continue. `left`: the source's backlog, if its log is growing.
    pub(crate) fn compare(&mut self, now: f64, left: Option<f64>, processed: Option<f64>) {
        if let Some(left) = left {
            self.left = left;
        }
        let Some(processed) = processed else { return };
        if processed > 0.0 {
            self.worked_at = now;
        }
        if left.is_none() {
            self.left -= processed;
        }
    }

    /// Records that records were finished. Long records finish rarely, which is not a stall.
    pub(crate) fn finished(&mut self, now: f64) {
        let gap = now - self.finished_at;
        if gap.is_finite() {
            self.usual_gap = gap.max(GAP_FADES * self.usual_gap);
        }
        self.finished_at = now;
    }

    /// Records that none waits, or that no worker is there to process one: this time is not a gap.
    pub(crate) fn nothing_to_finish(&mut self, now: f64) {
        self.finished_at = now;
    }

    /// Returns the usual time without a finished record, seconds.
    pub(crate) fn usual_gap(&self) -> f64 {
        self.usual_gap
    }

    /// Compares the workers' counters with the log: `processed` is their count, `progress` that of the log.
    pub(crate) fn compare_counters(&mut self, now: f64, processed: Option<f64>, progress: f64) {
        match processed {
            Some(processed) if processed <= 0.0 && progress > 0.0 => {
                let since = *self.counters_still_since.get_or_insert(now);
                if now - since >= COUNTERS_STAND {
                    self.counters_stood_at = now;
                }
            }
            Some(processed) if processed <= 0.0 => {}
            _ => self.counters_still_since = None,
        }
    }

    /// Returns whether counters that do not increase are wrong, because the log shows progress. When they increase
    /// again, they include what they missed.
    pub(crate) fn counters_stand_still(&self, now: f64) -> bool {
        now - self.counters_stood_at < COUNTERS_DOUBTED
    }

    /// Returns whether the workers process more than the source reports. A small excess is allowed: their counters are
    /// read at other times than the log, and records that were handed over are processed twice.
    pub(crate) fn exceeds_source(&self, now: f64, interval: f64) -> bool {
        let slack = 100.0 + 1.5 * interval * self.rate(10.0).unwrap_or(0.0);
        self.left < -slack && now - self.worked_at < AT_REST
    }

    /// Returns whether the workers processed more than the source's last reported backlog within the last three intervals
    /// (at least 10 s). Meanwhile no worker is removed.
    pub(crate) fn not_at_rest(&self, now: f64, interval: f64) -> bool {
        self.left < 0.0 && now - self.worked_at < (3.0 * interval).max(10.0)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.points.capacity() * size_of::<(f64, f64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_gap_follows_long_records_and_fades() {
        let mut progress = Progress::default();
        for now in [0.0, 360.0, 700.0] {
            progress.finished(now);
        }
        assert!(progress.usual_gap() >= 340.0);
        // A night without records is not a gap between two of them.
        progress.nothing_to_finish(30_000.0);
        progress.finished(30_002.0);
        assert!(progress.usual_gap() < 400.0, "{}", progress.usual_gap());
        for observation in 0..30 {
            progress.finished(30_004.0 + 2.0 * f64::from(observation));
        }
        assert!(progress.usual_gap() <= 3.0, "{}", progress.usual_gap());
    }
}
