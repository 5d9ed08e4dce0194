//! How much all workers process together, and whether that agrees with what the source says.

use std::collections::VecDeque;

/// Workers that have done nothing for this long agree with a source that has nothing, seconds.
const AT_REST: f64 = 30.0;
/// Counters that stand still for this long while records are processed are broken, and doubted for this long after; seconds.
const COUNTERS_STAND: f64 = 10.0;
const COUNTERS_DOUBTED: f64 = 30.0;
/// Share of the usual gap between finished records that is left after each shorter one.
const GAP_FADES: f64 = 0.8;
/// Points that are kept.
const POINTS: usize = 64;

/// Records processed since the watch began, by time.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    points: VecDeque<(f64, f64)>,
    /// Records that the workers may still have to process, by what the source said when its log last grew; below zero,
    /// they process what it does not tell of.
    left: f64,
    /// When records were last seen to be processed, by the workers' counters and by the log.
    pub(crate) worked_at: f64,
    pub(crate) moved_at: f64,
    /// Since when no worker does anything although records wait.
    pub(crate) still_since: Option<f64>,
    /// For how long records waited and none was finished before one was: an upper estimate that fades, seconds.
    usual_gap: f64,
    /// The workers' counters tell it, and not only commits.
    pub(crate) counted: bool,
    finished_at: f64,
    /// Since when the workers' counters stand still while the log says that records are processed, and when they last did
    /// so for long.
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

    /// Adds records processed by now.
    pub(crate) fn note(&mut self, now: f64, records: f64) {
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

    /// Records processed per second over the last `window` seconds.
    pub(crate) fn rate(&self, window: f64) -> Option<f64> {
        let (last, total) = *self.points.back()?;
        let (since, before) = *self.points.iter().find(|p| last - p.0 <= window)?;
        (last - since >= 2.0).then(|| (total - before).max(0.0) / (last - since))
    }

    /// Keeps account of what the workers may have to process. A source that answers the same offsets for ever, or zeros,
    /// has nothing left to be processed soon, and yet they go on. `left`: what the source says, if its log is not at rest.
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

    /// Records were finished. Long ones are finished rarely, and that is no stall.
    pub(crate) fn finished(&mut self, now: f64) {
        let gap = now - self.finished_at;
        if gap.is_finite() {
            self.usual_gap = gap.max(GAP_FADES * self.usual_gap);
        }
        self.finished_at = now;
    }

    /// No record waits, or no worker is there to finish one: this time is no gap.
    pub(crate) fn nothing_to_finish(&mut self, now: f64) {
        self.finished_at = now;
    }

    /// Seconds without a finished record that are usual.
    pub(crate) fn usual_gap(&self) -> f64 {
        self.usual_gap
    }

    /// Compares the workers' counters with the log: `processed` by their count, `progress` by the log.
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

    /// Whether counters of zero are no proof of rest: the log says that records are processed. Those that move again bring
    /// what they did not count.
    pub(crate) fn counters_stand_still(&self, now: f64) -> bool {
        now - self.counters_stood_at < COUNTERS_DOUBTED
    }

    /// Whether the workers process what the source does not tell of. Their counters are read at other times than the log,
    /// and what was handed over is processed twice: this much is no contradiction.
    pub(crate) fn exceeds_source(&self, now: f64, interval: f64) -> bool {
        let slack = 100.0 + 1.5 * interval * self.rate(10.0).unwrap_or(0.0);
        self.left < -slack && now - self.worked_at < AT_REST
    }

    /// Whether they may be about to: no worker leaves on the word of a log that has just come to rest.
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
    fn long_records_are_finished_rarely_and_that_fades() {
        let mut progress = Progress::default();
        for now in [0.0, 360.0, 700.0] {
            progress.finished(now);
        }
        assert!(progress.usual_gap() >= 340.0);
        // A night without records is no gap between two of them.
        progress.nothing_to_finish(30_000.0);
        progress.finished(30_002.0);
        assert!(progress.usual_gap() < 400.0, "{}", progress.usual_gap());
        for look in 0..30 {
            progress.finished(30_004.0 + 2.0 * f64::from(look));
        }
        assert!(progress.usual_gap() <= 3.0, "{}", progress.usual_gap());
    }
}
