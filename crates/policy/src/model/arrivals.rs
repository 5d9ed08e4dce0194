//! Arrivals: the end offsets of all logs, summed up over time.
//!
//! Times are those of the samples, so that a cached sample adds nothing and does not look like a rate of zero. A
//! partition that was not sampled is assumed to continue at its previous rate, because unknown is not zero; its next
//! sample corrects the sum.

use std::collections::VecDeque;

use super::partition::PartitionTrack;

/// Time for which points are kept, seconds: where records are few, the level is averaged over five minutes.
const KEPT: f64 = 330.0;
/// Age from which on points are thinned to one every two seconds, seconds.
const DENSE: f64 = 40.0;

/// Records appended to all partitions since watching began, over time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    points: VecDeque<(f64, f64)>,
    total: f64,
}

impl Arrivals {
    pub(crate) fn clear(&mut self) {
        self.points.clear();
    }

    /// Records what all partitions have gained up to the newest sample.
    pub(crate) fn record<'a>(&mut self, tracks: impl Iterator<Item = &'a mut PartitionTrack>, newest: f64) {
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

    /// Removes one point that has left the dense part and is closer than two seconds to the previous one.
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

    /// Returns the newest time and total.
    pub(crate) fn latest(&self) -> Option<(f64, f64)> {
        self.points.back().copied()
    }

    /// Returns the time that the points cover, seconds.
    pub(crate) fn span(&self) -> f64 {
        self.points.front().zip(self.points.back()).map_or(0.0, |(first, last)| last.0 - first.0)
    }

    /// Returns the total at a time, interpolated; before the first and after the last point, that point's total.
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

    /// Returns the rate over the last `window` seconds that are known, records per second.
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
