//! Offset history: when a partition's log reached which offset. It has at most 48 points, sparser the older they are.
//!
//! Two neighbours are never further apart than a fifth of the newer one's age, or one sampling interval. Interpolated
//! between them, the age of an offset is known to 10 % (law 10, `laws/bounded.rs`) unless the rate swings more than
//! about threefold within one gap. 48 points then reach back some 40 minutes when sampled every 2 s; a gap of a tenth
//! reached back five minutes. Of records that are older, only a lower bound of the age is known.

use sluice_base::num;

/// Most points of one history.
pub(crate) const POINTS: usize = 48;
/// Largest gap between neighbours, as a share of the age of the newer one.
const GAP: f64 = 0.2;
/// Difference beyond which a history gets a new base.
const REBASE: u32 = u32::MAX / 2;

/// Milliseconds and records since the history's base: 8 bytes, where absolute values would need 16.
#[derive(Debug, Clone, Copy)]
struct Point {
    ms: u32,
    records: u32,
}

/// (time, end offset) of one partition, in ascending order of both.
#[derive(Debug, Clone, Default)]
pub(crate) struct OffsetHistory {
    base_time: f64,
    base_end: i64,
    points: Vec<Point>,
}

/// When a record was appended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Appended {
    /// At about this time, Unix seconds.
    At(f64),
    /// Before this time: earlier than the history reaches.
    Before(f64),
    /// Not yet, as far as is known.
    NotYet,
}

impl OffsetHistory {
    /// Adds a sample and returns whether it was added. A sample that is not newer than the last is dropped. An end
    /// offset that goes back clears the history, because the topic was recreated.
    pub(crate) fn push(&mut self, time: f64, end: i64) -> bool {
        match self.latest() {
            Some((last, _)) if time <= last => return false,
            Some((_, last_end)) if end < last_end => self.points.clear(),
            _ => {}
        }
        // A partition with a million records per second has more of them in the history's reach than a difference
        // holds: only the oldest points are dropped.
        while !self.points.is_empty() && !self.fits(time, end) {
            let base = (self.base_time, self.base_end);
            self.rebase();
            if (self.base_time, self.base_end) == base {
                self.points.remove(0);
            }
        }
        if self.points.is_empty() {
            // Exactly as many as will ever be needed: growth by doubling would allocate 64.
            self.points.reserve_exact(POINTS);
            self.base_time = time;
            self.base_end = end;
        }
        let point = self.encode(time, end);
        // Of a log that does not grow, only the first and the last moment are needed.
        let flat = |a: Option<&Point>| a.is_some_and(|p| p.records == point.records);
        if flat(self.points.last()) && flat(self.points.len().checked_sub(2).and_then(|i| self.points.get(i))) {
            self.points.pop();
        }
        if self.points.len() >= POINTS {
            self.thin(point.ms);
        }
        self.points.push(point);
        true
    }

    /// Returns the newest point.
    pub(crate) fn latest(&self) -> Option<(f64, i64)> {
        self.points.last().map(|p| self.decode(*p))
    }

    /// Returns the time of the oldest point.
    pub(crate) fn since(&self) -> Option<f64> {
        self.points.first().map(|p| self.decode(*p).0)
    }

    /// Returns the end offset at a time, interpolated; `None` before the first point, the newest after the last.
    pub(crate) fn end_at(&self, time: f64) -> Option<f64> {
        let after = self.points.partition_point(|p| self.decode(*p).0 <= time);
        let (t0, e0) = self.decode(*self.points.get(after.checked_sub(1)?)?);
        let Some((t1, e1)) = self.points.get(after).map(|p| self.decode(*p)) else {
            return Some(num::of_i64(e0));
        };
        Some(num::of_i64(e0) + num::diff(e1, e0) * ((time - t0) / (t1 - t0)).clamp(0.0, 1.0))
    }

    /// Returns the end offset that was certainly reached by a time: that of the older neighbour.
    pub(crate) fn end_by(&self, time: f64) -> Option<i64> {
        let after = self.points.partition_point(|p| self.decode(*p).0 <= time);
        Some(self.decode(*self.points.get(after.checked_sub(1)?)?).1)
    }

    /// Returns when the end offset was first seen at `end` or beyond.
    pub(crate) fn reached(&self, end: i64) -> Option<f64> {
        let index = self.points.partition_point(|p| self.decode(*p).1 < end);
        self.points.get(index).map(|p| self.decode(*p).0)
    }

    /// Returns when the record at `offset` was appended, interpolated between its neighbours.
    pub(crate) fn appended(&self, offset: i64) -> Appended {
        // The record at `offset` exists once the end is beyond it.
        let after = self.points.partition_point(|p| self.decode(*p).1 <= offset);
        let Some((t1, e1)) = self.points.get(after).map(|p| self.decode(*p)) else { return Appended::NotYet };
        match after.checked_sub(1).and_then(|i| self.points.get(i)).map(|p| self.decode(*p)) {
            Some((t0, e0)) => {
                Appended::At(t0 + (t1 - t0) * (num::diff(offset, e0) / num::diff(e1, e0)).clamp(0.0, 1.0))
            }
            None => Appended::Before(t1),
        }
    }

    /// Returns the bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.points.capacity() * size_of::<Point>()
    }

    fn encode(&self, time: f64, end: i64) -> Point {
        Point {
            ms: num::floor_u32((time - self.base_time) * 1000.0),
            records: u32::try_from(end.saturating_sub(self.base_end)).unwrap_or(u32::MAX),
        }
    }

    fn decode(&self, point: Point) -> (f64, i64) {
        (self.base_time + f64::from(point.ms) / 1000.0, self.base_end.saturating_add(i64::from(point.records)))
    }

    fn fits(&self, time: f64, end: i64) -> bool {
        self.points.is_empty()
            || ((time - self.base_time) * 1000.0 < f64::from(REBASE)
                && end.saturating_sub(self.base_end) < i64::from(REBASE))
    }

    /// Makes the oldest point the base.
    fn rebase(&mut self) {
        let Some(first) = self.points.first().copied() else { return };
        let (time, end) = self.decode(first);
        for point in &mut self.points {
            point.ms -= first.ms.min(point.ms);
            point.records -= first.records.min(point.records);
        }
        self.base_time = time;
        self.base_end = end;
    }

    /// Makes room: removes inner points whose neighbours are close enough without them, newest first, or the oldest
    /// point if all are needed.
    fn thin(&mut self, now: u32) {
        let full = self.points.len();
        let mut after = self.points.last().map_or(now, |p| p.ms);
        // Kept points are gathered at the back; the newest always stays.
        let mut write = full.saturating_sub(1);
        for read in (0..full.saturating_sub(1)).rev() {
            let Some(point) = self.points.get(read).copied() else { continue };
            let before = read.checked_sub(1).and_then(|i| self.points.get(i)).map(|p| p.ms);
            let allowed = GAP * f64::from(now.saturating_sub(after).max(1));
            if before.is_some_and(|before| f64::from(after.saturating_sub(before)) <= allowed) {
                continue;
            }
            write -= 1;
            if let Some(slot) = self.points.get_mut(write) {
                *slot = point;
            }
            after = point.ms;
        }
        self.points.drain(..write.max(usize::from(write == 0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_known_to_ten_percent_at_any_depth() {
        let mut ring = OffsetHistory::default();
        let start = 1.764e9;
        // An uneven log: the rate swings, so that interpolation is not exact by accident.
        let end_of = |t: f64| num::of_i64(1_000_000) + 100.0 * t + 600.0 * (t / 7.0).sin();
        for tick in 0..1800 {
            let t = f64::from(tick) * 2.0;
            ring.push(start + t, end_of(t).floor() as i64);
        }
        assert!(ring.points.len() <= POINTS && ring.points.capacity() == POINTS);
        let now = 3598.0;
        for age in [1.0, 3.0, 9.0, 25.0, 70.0, 200.0, 500.0, 1500.0] {
            let offset = end_of(now - age).ceil() as i64;
            let Appended::At(time) = ring.appended(offset) else { panic!("{age} is not covered") };
            let measured = start + now - time;
            assert!((measured - age).abs() <= 0.1 * age + 2.0, "age {age}, measured {measured}");
        }
        assert!(matches!(ring.appended(0), Appended::Before(_)));
        assert_eq!(ring.appended(i64::MAX), Appended::NotYet);
    }

    /// The history used to be emptied every half hour, and with it all ages that were known.
    #[test]
    fn busiest_log_loses_its_oldest_points_only() {
        let mut ring = OffsetHistory::default();
        for tick in 0..3600 {
            ring.push(f64::from(tick), i64::from(tick) * 2_000_000);
            let reach = f64::from(tick) - ring.since().unwrap();
            assert!(reach >= f64::from(tick.min(600)), "{reach} s after {tick}");
        }
    }

    #[test]
    fn still_log_keeps_its_history() {
        let mut ring = OffsetHistory::default();
        ring.push(0.0, 5);
        for t in 1..1000 {
            ring.push(f64::from(t), 10);
        }
        assert_eq!(ring.points.len(), 3);
        assert_eq!(ring.appended(9).clone(), Appended::At(0.8));
        assert_eq!((ring.end_at(500.0), ring.end_at(-1.0), ring.end_by(0.5)), (Some(10.0), None, Some(5)));
    }

    #[test]
    fn invalid_samples_are_survived() {
        let mut ring = OffsetHistory::default();
        assert!(ring.push(10.0, 100));
        assert!(!ring.push(10.0, 101), "not newer");
        assert!(!ring.push(5.0, 101), "clock went back");
        assert!(ring.push(11.0, 50), "topic recreated");
        assert_eq!(ring.points.len(), 1);
        assert!(ring.push(12.0, i64::MAX));
        assert_eq!(ring.latest(), Some((12.0, i64::MAX)));
        assert!(ring.push(1e300, i64::MAX));
        assert!(ring.latest().is_some());
    }
}
