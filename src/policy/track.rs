//! What is remembered of one partition, and how one sample of it is read.
//!
//! Without the worker's own `position` only commits are known, and committed lag is a saw-tooth (experiments, point
//! 10). Then the position is a bracket: at least what is committed; at best what is committed plus what was processed
//! since at the rate of the last commits. The best guess is used for everything but the question whether fewer workers
//! would do.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::num;
use super::observation::Partition;
use super::ring::{Appended, Ring};

/// Where a partition stands among its topic's: the order that the `range` assignor deals them out in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) topic: Box<str>,
    pub(crate) number: u64,
}

impl Key {
    /// `topic/number`; anything else is a topic of its own.
    pub(crate) fn parse(id: &str) -> Self {
        match id.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse().ok()?))) {
            Some((topic, number)) => Self { topic: topic.into(), number },
            None => Self { topic: id.into(), number: 0 },
        }
    }
}

/// What is remembered of one partition.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) ring: Ring,
    /// Index of its source.
    pub(crate) source: u16,
    /// Hash of its owner; 0: none known.
    pub(crate) owner: u64,
    /// Last commit, and when it was first seen; -1: none.
    committed: i64,
    committed_at: f64,
    /// Records per second between the last two commits.
    commit_rate: f32,
    /// Highest offset known to be processed, when it last grew, and by how much in the last look.
    pub(crate) position: i64,
    pub(crate) advanced_at: f64,
    /// When its owner last changed, and when its owner was last seen to own it.
    pub(crate) moved_at: f64,
    owned_at: f64,
    /// When the owner before was last seen to own it: a pause begins there.
    left_at: f64,
    /// Best guess of the position at the last look, for attainment; NaN: none.
    pub(crate) guess: f64,
    /// Everything below it was counted as due.
    pub(crate) due: Option<i64>,
    /// Where its log's end was reckoned to be when arrivals were last added up; NaN: not yet.
    pub(crate) reckoned: f64,
    /// Smoothed arrival rate over about ten minutes.
    pub(crate) weight: f32,
    /// The last look that mentioned it.
    pub(crate) look: u32,
    /// Looks that did not mention it, in a row, and since when.
    pub(crate) missing: u32,
    pub(crate) missing_since: f64,
}

/// One look at one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// When it was sampled.
    pub(crate) at: f64,
    pub(crate) end: i64,
    /// Best guess of the next unprocessed offset.
    pub(crate) guess: f64,
    /// Age of the oldest unprocessed record, best guess and upper edge, seconds.
    pub(crate) age: f64,
    pub(crate) age_high: f64,
    /// Records wait.
    pub(crate) waits: bool,
    /// End offset a latency ago: everything below is due.
    pub(crate) due: Option<i64>,
    /// Progress since the last look, records.
    pub(crate) progress: f64,
    /// Signals contradict each other, or do not say where the group stands.
    pub(crate) doubtful: bool,
    /// Records beyond the log's end that are said to be processed.
    pub(crate) ahead: Option<f64>,
    /// A pause between two owners that ended with this look, seconds.
    pub(crate) pause: Option<f64>,
    /// Interval between the last two commits, if one was seen now.
    pub(crate) commit_interval: Option<f64>,
    /// Offsets started over.
    pub(crate) restarted: bool,
}

impl Track {
    pub(crate) fn new(source: u16, now: f64) -> Self {
        Self {
            ring: Ring::default(),
            source,
            owner: 0,
            committed: -1,
            committed_at: now,
            commit_rate: 0.0,
            position: -1,
            advanced_at: now,
            moved_at: f64::NEG_INFINITY,
            owned_at: now,
            left_at: now,
            guess: f64::NAN,
            due: None,
            reckoned: f64::NAN,
            weight: 0.0,
            look: 0,
            missing: 0,
            missing_since: now,
        }
    }

    /// Records per second appended over the last `window` seconds that are known.
    pub(crate) fn rate(&self, window: f64) -> Option<f64> {
        let (last, end) = self.ring.latest()?;
        let window = window.min(last - self.ring.since()?);
        if window < 0.4 {
            return None;
        }
        Some(((num::of_i64(end) - self.ring.end_at(last - window)?) / window).max(0.0))
    }

    /// Reads one sample. `None` if it does not say where the log or the group is.
    pub(crate) fn look_at(&mut self, sample: &Partition, now: f64, latency: f64, commit_interval: f64) -> Option<Seen> {
        let at = sample.at.map_or(now, |s| s.0);
        // A sample from the future has another clock: a little is skew, more is nonsense.
        if !at.is_finite() || at > now + 5.0 {
            return None;
        }
        let at = at.min(now);
        self.meet_owner(sample.owner.as_deref(), now);
        let end = sample.end.filter(|end| *end >= 0)?;
        let (known, restarted) = match self.ring.latest() {
            // Back, or two billion records further in one go: another log under the same name.
            Some((_, last))
                if (end < last || end.saturating_sub(last) > i64::from(u32::MAX / 2)) && self.ring.push(at, end) =>
            {
                (end, true)
            }
            latest => {
                let _ = self.ring.push(at, end);
                // A cached sample does not take the log back.
                (latest.map_or(end, |(t, last)| if at <= t { last } else { end }), false)
            }
        };
        let end = known;
        if restarted {
            self.forget();
        }
        let (low, unknown) = self.low(sample, end)?;
        let ahead = sample.committed.map_or(0.0, |c| num::diff(c, end));
        // End and commit are not read in one moment.
        let ahead = Some(ahead).filter(|ahead| *ahead > 100.0 + 10.0 * f64::from(self.weight));
        let doubtful = unknown || restarted || ahead.is_some();
        let low = low.min(end);
        let interval = self.meet_commit(sample.committed.filter(|c| *c >= 0).map(|c| c.min(end)), at);
        let certain = sample.position.is_some();
        let guess = if certain { num::of_i64(low) } else { self.guess(low, end, at, commit_interval) };

        let progress = if self.position >= 0 { num::diff(low, self.position).max(0.0) } else { 0.0 };
        // A backlog that stood before the move is not the move's.
        let waited = at - self.advanced_at.max(self.left_at);
        let mut pause = None;
        if progress > 0.0 || low >= end {
            if progress > 0.0 && self.moved_at >= self.advanced_at && !restarted {
                // Commits come at intervals even when nothing moves: that wait is not the move's.
                pause = Some((waited - if certain { 0.0 } else { commit_interval }).max(0.0));
            }
            self.advanced_at = at;
        }
        self.position = low;
        // A lag of one or two that never moves is an idle transactional partition, whose markers take offsets: nobody
        // waits for it, and it is not aged (law 11). It may be a record that is long in work: see `View::idle`.
        let quiet = num::diff(end, low) <= 2.0 && self.ring.reached(end).is_some_and(|since| now - since > 60.0);
        Some(Seen {
            at,
            end,
            guess,
            age: if quiet { 0.0 } else { self.age(num::of_i64(end) - guess, num::floor_i64(guess), now, at) },
            age_high: if quiet { 0.0 } else { self.age(num::diff(end, low), low, now, at) },
            waits: !quiet && low < end,
            due: sample.due_end.filter(|d| *d >= 0).map(|d| d.min(end)).or_else(|| self.ring.end_by(at - latency)),
            progress,
            doubtful,
            ahead,
            pause,
            commit_interval: interval,
            restarted,
        })
    }

    /// Lower edge of the position, and whether it is only an assumption.
    fn low(&self, sample: &Partition, end: i64) -> Option<(i64, bool)> {
        let committed = sample.committed.filter(|c| *c >= 0);
        let position = sample.position.filter(|p| *p >= 0);
        let start = sample.start.filter(|s| (0..=end).contains(s));
        match (position.max(committed), start) {
            (Some(low), start) => Some((low.max(start.unwrap_or(0)), false)),
            // No commit: what the log still holds waits; an empty log holds nothing.
            (None, Some(start)) if sample.committed.is_some() => Some((start, start < end)),
            (None, None) if sample.committed.is_some() && end == 0 => Some((0, false)),
            (None, None) if sample.committed.is_some() => {
                let first = self.ring.since().and_then(|t| self.ring.end_by(t)).unwrap_or(end);
                Some((first, true))
            }
            _ => None,
        }
    }

    fn meet_owner(&mut self, owner: Option<&str>, now: f64) {
        let Some(owner) = owner else { return };
        let hash = owner_hash(owner);
        if self.owner != 0 && self.owner != hash {
            self.moved_at = now;
            self.left_at = self.owned_at;
        }
        self.owner = hash;
        self.owned_at = now;
    }

    /// Notes a commit; answers the time since the one before.
    fn meet_commit(&mut self, committed: Option<i64>, at: f64) -> Option<f64> {
        let committed = committed?;
        if committed == self.committed {
            return None;
        }
        let (grown, waited) = (num::diff(committed, self.committed), at - self.committed_at);
        let first = self.committed < 0;
        self.committed = committed;
        self.committed_at = at;
        if first || grown <= 0.0 || waited <= 0.0 {
            self.commit_rate = 0.0;
            return None;
        }
        self.commit_rate = num::f32_of(grown / waited);
        Some(waited)
    }

    /// Where the worker probably is: processing went on since the last commit, for as long as commits are not overdue.
    fn guess(&self, low: i64, end: i64, at: f64, commit_interval: f64) -> f64 {
        let since = at - self.committed_at;
        if since > 3.0 * commit_interval {
            return num::of_i64(low);
        }
        let ahead = f64::from(self.commit_rate) * since.clamp(0.0, 1.5 * commit_interval);
        (num::of_i64(low) + ahead).min(num::of_i64(end))
    }

    /// Age of the record at `offset` if `lag` records wait.
    fn age(&self, lag: f64, offset: i64, now: f64, at: f64) -> f64 {
        if lag < 1.0 {
            return 0.0;
        }
        match self.ring.appended(offset) {
            Appended::At(t) | Appended::Before(t) => (now - t).max(0.0),
            Appended::NotYet => (now - at).max(0.0),
        }
    }

    /// A recreated topic: nothing known of the old one holds.
    fn forget(&mut self) {
        self.committed = -1;
        self.commit_rate = 0.0;
        self.position = -1;
        self.guess = f64::NAN;
        self.due = None;
        self.reckoned = f64::NAN;
    }

    /// Records that its log has gained since this was last asked, up to `newest`, the time of the newest sample of any.
    pub(crate) fn grown_until(&mut self, newest: f64) -> f64 {
        let Some((at, end)) = self.ring.latest() else { return 0.0 };
        let reckoned = num::of_i64(end) + f64::from(self.weight) * (newest - at).max(0.0);
        let before = if self.reckoned.is_finite() { self.reckoned } else { reckoned };
        self.reckoned = reckoned.max(before);
        self.reckoned - before
    }

    /// Since when the log is known to stand still.
    pub(crate) fn still_since(&self) -> Option<f64> {
        self.ring.latest().and_then(|(_, end)| self.ring.reached(end))
    }
}

/// A small stand-in for an owner's name; never 0. The same for the same name, always: the hasher has fixed keys.
pub(crate) fn owner_hash(owner: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    owner.hash(&mut hasher);
    hasher.finish().max(1)
}
