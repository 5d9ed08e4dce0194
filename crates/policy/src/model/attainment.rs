//! Attainment of the objective: records due and late, each offset counted once, and the latency over the last minute.
//!
//! A record is due when its deadline passes, and late if it is not processed by then. Between two observations both the
//! due edge and the position are assumed to move evenly. Records that retention removed before the group read them are
//! late. See docs/design/algorithms.md#due-and-late-records.

use std::collections::VecDeque;

use sluice_base::num;
use sluice_base::units::Seconds;

/// Number of buckets that the objective's window is divided into.
const BUCKETS: f64 = 60.0;
/// Number of parts of the window that are kept over a restart; each is as long as three buckets.
const PARTS: f64 = 20.0;
const THIRDS: [f64; 3] = [0.0, 1.0, 2.0];
/// Most parts that are kept: those of one window, and the part that has begun.
const MOST_PARTS: usize = 21;
/// Growth of the upper bounds of the latency histogram, from 10 ms to about 14 h.
const GROWTH: f64 = 1.25;
const FIRST: f64 = 0.01;
const BOUNDS: usize = 70;
/// The last minute: six slices of ten seconds.
const SLICES: usize = 6;
const SLICE: f64 = 10.0;

/// The error budget of the objective's window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Budget {
    /// Late records that the objective still allows.
    pub(crate) records: f64,
    /// Share of the budget that is left: 1 untouched, 0 spent, negative overdrawn.
    pub(crate) left: f64,
}

/// The part of the objective's window that is kept over a restart.
///
/// Its parts begin at multiples of their length, so that saving and restoring it repeatedly does not shift it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The objective's latency, which decides which records are late.
    pub latency: Seconds,
    /// The objective's percentile, 0.5 to 0.9999.
    pub percentile: f64,
    /// Start of the first part, Unix time.
    pub since: Seconds,
    /// Length of a part: a twentieth of the window, in whole seconds.
    pub part: Seconds,
    /// Records that became due in each part, and how many of them were late; the oldest first, at most 21 parts.
    pub records: Vec<(f64, f64)>,
}

/// Records due and late over the objective's window, and the latency of the last minute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attainment {
    buckets: VecDeque<Bucket>,
    /// Start of each slice, and its records by latency.
    slices: VecDeque<(f64, Vec<f32>)>,
}

/// Records that became due, and how many of them were late, from `begin` on.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    begin: f64,
    due: f64,
    late: f64,
}

/// An offset at the previous observation and now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) before: f64,
    pub(crate) now: f64,
}

/// Returns how many records became due and late between two observations, from the due edge and the reader's position.
pub(crate) fn late_between(due: Moved, position: Moved) -> f64 {
    let grown = (due.now - due.before).max(0.0);
    // How far the position is behind the due edge. Records that fell due while it was behind are late.
    let (before, now) = (due.before - position.before, due.now - position.now);
    let behind = match (before > 0.0, now > 0.0) {
        (true, true) => 1.0,
        (false, false) => 0.0,
        (true, false) => before / (before - now),
        (false, true) => now / (now - before),
    };
    if behind.is_finite() { grown * behind.clamp(0.0, 1.0) } else { grown }
}

impl Attainment {
    /// Records how many records fell due by `now`, and how many of them were late.
    pub(crate) fn record_due(&mut self, now: f64, window: f64, due: f64, late: f64) {
        let length = window / BUCKETS;
        if self.buckets.back().is_none_or(|b| now >= b.begin + length) {
            self.buckets.push_back(Bucket { begin: now, due: 0.0, late: 0.0 });
        }
        while self.buckets.front().is_some_and(|b| now - b.begin > window + length) || self.buckets.len() > 64 {
            self.buckets.pop_front();
        }
        if let Some(last) = self.buckets.back_mut() {
            last.due += due.max(0.0);
            last.late += late.clamp(0.0, due.max(0.0));
        }
    }

    /// Records the latency of a number of records.
    pub(crate) fn record_latency(&mut self, now: f64, seconds: f64, records: f64) {
        if !(records > 0.0 && records.is_finite() && seconds.is_finite()) {
            return;
        }
        if self.slices.back().is_none_or(|s| now >= s.0 + SLICE) {
            if self.slices.len() >= SLICES {
                self.slices.pop_front();
            }
            self.slices.push_back((now, vec![0.0; BOUNDS]));
        }
        let index = num::ceil_u32((seconds.max(FIRST) / FIRST).ln() / GROWTH.ln());
        let index = usize::try_from(index).unwrap_or(BOUNDS).min(BOUNDS - 1);
        if let Some(bucket) = self.slices.back_mut().and_then(|s| s.1.get_mut(index)) {
            *bucket += num::f32_of(records);
        }
    }

    /// Returns the records due and late over the window.
    pub(crate) fn totals(&self) -> (f64, f64) {
        sum(self.buckets.iter())
    }

    /// Returns the share of due records that were in time, or `None` while none was due.
    pub(crate) fn share(&self) -> Option<f64> {
        let (due, late) = self.totals();
        (due > 0.0).then(|| 1.0 - late / due)
    }

    /// Returns how many times faster than the objective allows records became late over the last sixth of the window,
    /// or `None` while none was due.
    pub(crate) fn burn_rate(&self, percentile: f64) -> Option<f64> {
        let (due, late) = sum(self.buckets.iter().rev().take(10));
        (due > 0.0).then(|| late / (due * (1.0 - percentile)).max(1e-9))
    }

    /// Returns what is left of the error budget, or `None` while nothing was due.
    pub(crate) fn budget(&self, percentile: f64) -> Option<Budget> {
        let (due, late) = self.totals();
        let allowed = due * (1.0 - percentile);
        (allowed > 0.0).then(|| Budget { records: allowed - late, left: 1.0 - late / allowed })
    }

    /// Returns a percentile of the latency over the last minute: the upper bound of its bucket, at most 25 % too high.
    pub(crate) fn percentile(&self, now: f64, percentile: f64) -> Option<f64> {
        let recent = self.slices.iter().filter(|s| now - s.0 <= SLICE * num::of_usize(SLICES));
        let mut sum = vec![0.0_f64; BOUNDS];
        for (_, slice) in recent {
            for (total, part) in sum.iter_mut().zip(slice) {
                *total += f64::from(*part);
            }
        }
        let all: f64 = sum.iter().sum();
        if all <= 0.0 {
            return None;
        }
        let mut seen = 0.0;
        let index = sum.iter().position(|part| {
            seen += part;
            seen >= percentile * all
        });
        Some(FIRST * GROWTH.powf(num::of_usize(index.unwrap_or(BOUNDS - 1))))
    }

    /// Returns what is kept over a restart, without the objective: start of the first part, length of a part, and the
    /// records due and late in each.
    pub(crate) fn parts(&self, window: f64) -> (f64, f64, Vec<(f64, f64)>) {
        let length = (window / PARTS).ceil().max(1.0);
        let part = |begin: f64| num::floor_i64(begin / length);
        let newest = self.buckets.back().map_or(0, |bucket| part(bucket.begin));
        let oldest = self.buckets.front().map_or(0, |bucket| part(bucket.begin));
        let most = i64::try_from(MOST_PARTS).unwrap_or(i64::MAX);
        let first = oldest.max(newest.saturating_sub(most - 1));
        let mut records = Vec::new();
        for bucket in &self.buckets {
            let Ok(index) = usize::try_from(part(bucket.begin).saturating_sub(first)) else { continue };
            if index >= MOST_PARTS {
                continue;
            }
            if records.len() <= index {
                records.resize(index + 1, (0.0, 0.0));
            }
            if let Some((due, late)) = records.get_mut(index) {
                *due += bucket.due;
                *late += bucket.late;
            }
        }
        (num::of_i64(first) * length, length, records)
    }

    /// Restores what an earlier run has counted.
    pub(crate) fn recall(&mut self, history: &History) {
        self.buckets.clear();
        let (length, third) = (history.part.0, history.part.0 / num::of_usize(THIRDS.len()));
        let mut begin = history.since.0;
        for (due, late) in history.records.iter().take(MOST_PARTS) {
            let share = |records: f64| num::finite(records / num::of_usize(THIRDS.len())).unwrap_or(0.0).max(0.0);
            let (due, late) = (share(*due), share(*late).min(share(*due)));
            self.buckets.extend(THIRDS.map(|number| Bucket { begin: begin + number * third, due, late }));
            begin += length;
        }
        self.buckets.retain(|bucket| bucket.begin.is_finite());
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
            + self.slices.capacity() * size_of::<(f64, Vec<f32>)>()
            + self.slices.len() * BOUNDS * size_of::<f32>()
    }
}

fn sum<'a>(buckets: impl Iterator<Item = &'a Bucket>) -> (f64, f64) {
    buckets.fold((0.0, 0.0), |(due, late), bucket| (due + bucket.due, late + bucket.late))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(before: f64, now: f64) -> Moved {
        Moved { before, now }
    }

    #[test]
    fn records_are_late_if_they_fall_due_unprocessed() {
        let due = moved(100.0, 200.0);
        assert_eq!(late_between(due, moved(300.0, 400.0)), 0.0, "ahead all the time");
        assert_eq!(late_between(due, moved(50.0, 90.0)), 100.0, "behind all the time");
        assert_eq!(late_between(due, moved(150.0, 150.0)), 50.0, "fell behind half way");
        assert_eq!(late_between(due, moved(50.0, 250.0)), 50.0, "caught up half way");
        assert_eq!(late_between(moved(200.0, 100.0), moved(0.0, 0.0)), 0.0, "nothing fell due");
        assert_eq!(late_between(due, moved(f64::NAN, f64::NAN)), 0.0);
    }

    #[test]
    fn budget_follows_the_objective() {
        let mut attainment = Attainment::default();
        assert_eq!(attainment.budget(0.99), None);
        for t in 0..100 {
            attainment.record_due(f64::from(t), 3600.0, 100.0, 0.0);
        }
        assert_eq!(attainment.share(), Some(1.0));
        attainment.record_due(100.0, 3600.0, 50.0, 50.0);
        let budget = attainment.budget(0.99).unwrap();
        assert!((budget.records - 50.5).abs() < 1e-6 && (budget.left - 50.5 / 100.5).abs() < 1e-6);
        attainment.record_due(9000.0, 3600.0, 10.0, 0.0);
        assert_eq!(attainment.share(), Some(1.0), "the window has moved on");
    }

    fn history(attainment: &Attainment, window: f64) -> History {
        let (since, part, records) = attainment.parts(window);
        History { since: Seconds(since), part: Seconds(part), records, ..History::default() }
    }

    #[test]
    fn history_can_be_saved_and_restored_repeatedly() {
        let (start, window) = (1_764_000_123.0, 3600.0);
        let mut attainment = Attainment::default();
        for second in 0..5000 {
            let late = if (2000..2100).contains(&second) { 10.0 } else { 0.0 };
            attainment.record_due(start + f64::from(second), window, 100.0, late);
        }
        let kept = history(&attainment, window);
        assert!(kept.records.len() <= MOST_PARTS && kept.part.0 == 180.0 && kept.since.0 % 180.0 == 0.0);
        let mut again = Attainment::default();
        for _ in 0..50 {
            again.recall(&kept);
            let same = history(&again, window);
            assert_eq!((same.since, same.records.len()), (kept.since, kept.records.len()));
            for (one, other) in same.records.iter().zip(&kept.records) {
                assert!((one.0 - other.0).abs() < 1e-6 && (one.1 - other.1).abs() < 1e-6, "{same:?} {kept:?}");
            }
        }
        let left = |attainment: &Attainment| attainment.budget(0.99).unwrap().left;
        assert!((left(&attainment) - left(&again)).abs() < 1e-6);
        assert_eq!(attainment.burn_rate(0.99), Some(0.0));
        assert_eq!(again.burn_rate(0.99), Some(0.0), "records that were late half an hour ago are not recent");
        // Late records leave the window on time, give or take one part.
        for (second, gone) in [(5000, false), (5500, false), (5900, true)] {
            again.record_due(start + f64::from(second), window, 100.0, 0.0);
            assert_eq!(again.share() == Some(1.0), gone, "{second}");
        }
    }

    #[test]
    fn invalid_history_counts_no_records() {
        let mut attainment = Attainment::default();
        let records = vec![(f64::NAN, 5.0), (-3.0, f64::INFINITY), (9.0, 90.0)];
        attainment.recall(&History { records: records.clone(), part: Seconds(1.0), ..History::default() });
        assert_eq!(attainment.totals(), (9.0, 9.0));
        attainment.recall(&History { records: records.repeat(1000), part: Seconds(f64::NAN), ..History::default() });
        assert!(attainment.buckets.len() <= 64);
    }

    #[test]
    fn percentile_is_weighted_by_records() {
        let mut attainment = Attainment::default();
        attainment.record_latency(0.0, 0.5, 985.0);
        attainment.record_latency(0.0, 20.0, 15.0);
        let p99 = attainment.percentile(1.0, 0.99).unwrap();
        assert!((20.0..25.1).contains(&p99), "{p99}");
        assert!(attainment.percentile(1.0, 0.9).unwrap() < 0.63);
        assert_eq!(attainment.percentile(1000.0, 0.99), None);
    }
}
