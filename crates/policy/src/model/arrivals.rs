//! How many records arrive: the ends of all logs added up over time.
//!
//! Time is that of the samples, so that a cached answer adds nothing and is no rate of zero. A partition that was not
//! sampled now goes on at the rate it had (unknown is not zero); what it did in truth is made up for by its next sample.

use std::collections::VecDeque;

use super::partition::PartitionTrack;

/// Seconds that are kept: where records are few, a level is averaged over five minutes.
const KEPT: f64 = 330.0;
/// Points older than this are thinned to one every two seconds.
const DENSE: f64 = 40.0;

/// Records appended to all partitions since the watch began, by time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    points: VecDeque<(f64, f64)>,
    total: f64,
}

impl Arrivals {
    pub(crate) fn clear(&mut self) {
        self.points.clear();
    }

    /// Adds what all partitions have gained up to the newest sample.
    pub(crate) fn note<'a>(&mut self, tracks: impl Iterator<Item = &'a mut PartitionTrack>, newest: f64) {
        let mut grown = 0.0;
        for track in tracks {
            grown += track.grown_until(newest);
        }
        self.total += grown;
        if let Some(last) = self.points.back_mut().filter(|last| newest <= last.0) {
            last.1 = self.total;
            return;
        }
        while self.points.front().is_some_and(|p| newest - p.0 > KEPT) {
            self.points.pop_front();
        }
        self.points.push_back((newest, self.total));
        self.thin(newest);
    }

    /// Removes one point that left the dense part and is closer than two seconds to the one before it.
    fn thin(&mut self, newest: f64) {
        let index = self.points.partition_point(|p| newest - p.0 > DENSE);
        let time = |index: usize| self.points.get(index).map(|p| p.0);
        if let (Some(index), true) = (index.checked_sub(1), index >= 2)
            && let (Some(before), Some(after)) = (time(index - 1), time(index + 1))
            && after - before < 2.0
        {
            self.points.remove(index);
        }
    }

    /// Newest time and total.
    pub(crate) fn latest(&self) -> Option<(f64, f64)> {
        self.points.back().copied()
    }

    /// Seconds that the points cover.
    pub(crate) fn span(&self) -> f64 {
        self.points.front().zip(self.points.back()).map_or(0.0, |(first, last)| last.0 - first.0)
    }

    /// Total at a time, interpolated; the edges beyond the points.
    fn at(&self, time: f64) -> Option<f64> {
        let after = self.points.partition_point(|p| p.0 <= time);
        let Some(before) = after.checked_sub(1).and_then(|i| self.points.get(i)) else {
            return self.points.front().map(|p| p.1);
        };
        Some(match self.points.get(after) {
            Some(next) => before.1 + (next.1 - before.1) * ((time - before.0) / (next.0 - before.0)),
            None => before.1,
        })
    }

    /// Records per second over the last `window` seconds that are known.
    pub(crate) fn rate(&self, window: f64) -> Option<f64> {
        let (last, total) = self.latest()?;
        let window = window.min(self.span());
        if window < 0.4 {
            return None;
        }
        Some((total - self.at(last - window)?) / window)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.points.capacity() * size_of::<(f64, f64)>()
    }
}
