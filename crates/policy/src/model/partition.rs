//! Tracks one partition, and reads each sample as evidence of where its reader is.
//!
//! Three signals show where the reader of a partition is, each at a moment of its own:
//!
//! - the worker's own position, at the moment when its metrics page was read;
//! - a commit. It was made at some moment between the two samples around it, and shows how far behind the reader was
//!   then. Between two commits nothing is known, so a committed lag that grows is not a backlog: it is a saw-tooth
//!   (docs/design/algorithms.md#committed-lag-is-a-saw-tooth);
//! - an idle worker. While a worker is idle, nothing waits for it.
//!
//! The newest of them gives the age of the oldest unprocessed record as a bracket of what is certain and what is
//! possible. A record that waits for longer than the group's commit interval explains is certain to be late.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::contract::observation::Partition;
use super::evidence::{Bracket, Evidence};
use super::offset_history::{Appended, OffsetHistory};
use super::reading::{ReadWith, Reader, Reading};
use sluice_base::num;

/// Time after which one or two records that "wait" at the end of a log that does not grow are transaction markers,
/// seconds.
const MARKERS_STAND: f64 = 60.0;
/// Time for which evidence holds while the commit interval is not known, seconds.
const HOLDS: f64 = 60.0;
/// Most transaction markers at the end of a log, offsets.
const MARKERS: f64 = 2.0;

/// Topic and number of a partition: their order is the one in which the `range` assignor assigns partitions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) topic: Box<str>,
    pub(crate) number: u64,
}

impl Key {
    /// Parses `topic/number`; anything else is a topic of its own.
    pub(crate) fn parse(id: &str) -> Self {
        match id.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse().ok()?))) {
            Some((topic, number)) => Self { topic: topic.into(), number },
            None => Self { topic: id.into(), number: 0 },
        }
    }
}

/// A period between two moments, Unix seconds.
#[derive(Debug, Clone, Copy)]
struct Period {
    from: f64,
    until: f64,
}

/// What is remembered of one partition.
#[derive(Debug, Clone)]
pub(crate) struct PartitionTrack {
    pub(crate) history: OffsetHistory,
    /// Index of the partition's source.
    pub(crate) source: u16,
    /// Hash of its owner; 0: not known.
    pub(crate) owner: u64,
    /// When it was last sampled; NaN: never.
    sampled_at: f64,
    /// Last commit; -1: none, -2: never sampled.
    committed: i64,
    /// Since when records have waited for the next commit; NaN: none wait; infinite: since before watching began.
    uncommitted_since: f64,
    evidence: Evidence,
    /// Highest offset that is certainly processed, and when it last grew.
    pub(crate) position: i64,
    pub(crate) advanced_at: f64,
    /// When its owner last changed, and when the present owner was last seen to own it.
    pub(crate) moved_at: f64,
    owned_at: f64,
    /// When the previous owner was last seen to own it, which is where a pause begins.
    left_at: f64,
    /// Best estimate of the position at the last observation, for attainment; NaN: none.
    pub(crate) guess: f64,
    /// Offset below which everything was counted as due.
    pub(crate) due: Option<i64>,
    /// Estimated end of its log when arrivals were last summed up; NaN: not yet.
    estimated_end: f64,
    /// Smoothed arrival rate over about ten minutes, records per second.
    pub(crate) weight: f32,
    /// The last observation that listed it.
    pub(crate) last_observation: u32,
    /// Consecutive observations that did not list it, and since when.
    pub(crate) missing: u32,
    pub(crate) missing_since: f64,
}

impl PartitionTrack {
    pub(crate) fn new(source: u16, now: f64) -> Self {
        Self {
            history: OffsetHistory::default(),
            source,
            owner: 0,
            sampled_at: f64::NAN,
            committed: -2,
            uncommitted_since: f64::NAN,
            evidence: Evidence::NONE,
            position: -1,
            advanced_at: now,
            moved_at: f64::NEG_INFINITY,
            owned_at: now,
            left_at: now,
            guess: f64::NAN,
            due: None,
            estimated_end: f64::NAN,
            weight: 0.0,
            last_observation: 0,
            missing: 0,
            missing_since: now,
        }
    }

    /// Returns the arrival rate over the last `window` seconds that are known, records per second.
    pub(crate) fn rate(&self, window: f64) -> Option<f64> {
        let (last, end) = self.history.latest()?;
        let window = window.min(last - self.history.since()?);
        if window < 0.4 {
            return None;
        }
        Some(((num::of_i64(end) - self.history.end_at(last - window)?) / window).max(0.0))
    }

    /// Reads one sample. Returns `None` if it does not show where the log or the group is.
    pub(crate) fn read(&mut self, sample: &Partition, with: &ReadWith) -> Option<Reading> {
        let now = with.now;
        let at = sample.at.map_or(now, |s| s.0);
        // A sample from the future comes from another clock: a few seconds are skew, more is an error.
        if !at.is_finite() || at > now + 5.0 {
            return None;
        }
        let at = at.min(now);
        self.update_owner(sample.owner.as_deref(), now);
        let (end, restarted) = self.update_end(sample.end.filter(|end| *end >= 0)?, at);
        if restarted {
            self.forget();
        }
        // A commit that was not read is a gap in the sample; -1 is an answer.
        sample.committed.or_else(|| sample.position.filter(|p| *p >= 0))?;
        let ahead = sample.committed.map_or(0.0, |c| num::diff(c, end));
        // End and commit are read at different moments.
        let ahead = Some(ahead).filter(|ahead| *ahead > 100.0 + 10.0 * f64::from(self.weight));
        let committed = sample.committed.filter(|c| *c >= 0).map(|c| c.min(end));
        let position = sample.position.filter(|p| *p >= 0).map(|p| p.min(end));
        let start = sample.start.filter(|s| (0..=end).contains(s));
        let commit_gap = self.update_commit(committed, end, at);
        let position_at = with.position_at.filter(|t| (at - 30.0..=at + 5.0).contains(t)).map_or(at, |t| t.min(at));
        if let Some(position) = position {
            let period = Period { from: position_at, until: position_at };
            self.keep_newest(self.evidence_at(position, period, end));
        }
        if let Some(idle) = with.idle_at.filter(|t| *t > self.evidence.at && *t > self.moved_at && *t <= now) {
            self.keep_newest(Evidence::new(idle, Bracket::default(), Bracket::default()));
        }

        let known = position.max(committed).map(|known| known.max(start.unwrap_or(0)));
        let unknown_position = known.is_none();
        let known = known.or(match with.starts_at_earliest {
            Some(true) => start,
            _ => None,
        });
        // Without a commit, only records that have arrived since watching began can wait.
        let first_seen = || self.history.since().and_then(|t| self.history.end_by(t)).unwrap_or(end);
        let low = known.unwrap_or_else(first_seen).min(end);
        let lag = num::diff(end, low);
        let stands_still = self.history.reached(end).map_or(0.0, |since| at - since);
        let since_watch = self.history.since() == self.history.reached(end);
        // A transaction that waits is a record and its marker: a single offset is the marker of a finished one.
        let marker = with.transactional && (since_watch || (lag <= 1.0 && with.reader != Reader::Absent));
        let quiet = lag <= MARKERS && with.reader != Reader::Busy && (stands_still > MARKERS_STAND || marker);
        let (age, queue) = if lag < 1.0 || quiet {
            (Bracket::default(), Bracket::default())
        } else if known.is_none() {
            (Bracket::new(0.0, self.age_of(low, now, at)), Bracket::new(0.0, lag))
        } else {
            self.bracket(low, lag, position.is_some(), at, with)
        };
        // A record that existed at the last commit or position and has not been processed.
        let waits_for_sure = queue.certain >= 1.0 || (position.is_some() && lag >= 1.0 && !quiet);
        let guess = self.estimate_position(low, end, at, age, known.is_none());
        let (progress, pause) = self.advance(low, end, at, restarted, position.is_some(), with);
        self.sampled_at = at;
        Some(Reading {
            at,
            markers: quiet && lag >= 1.0,
            guess,
            age,
            queue,
            waits: lag >= 1.0 && !quiet,
            waits_for_sure,
            positioned: position.is_some(),
            unknown_position,
            due: sample
                .due_end
                .filter(|d| *d >= 0)
                .map(|d| d.min(end))
                .or_else(|| self.history.end_by(at - with.latency)),
            progress,
            commit_gap,
            ahead,
            pause,
            restarted,
            hidden: sample
                .high_watermark
                .map(|high| num::diff(high, end))
                .filter(|hidden| *hidden > MARKERS && stands_still > 10.0),
        })
    }

    /// Updates the end of the log. Returns the end that is known now, and whether the log started over.
    fn update_end(&mut self, end: i64, at: f64) -> (i64, bool) {
        match self.history.latest() {
            // The end went back, or two billion records further at once: another log under the same name.
            Some((_, last))
                if (end < last || end.saturating_sub(last) > i64::from(u32::MAX / 2)) && self.history.push(at, end) =>
            {
                (end, true)
            }
            latest => {
                let _ = self.history.push(at, end);
                // A cached sample does not move the end back.
                (latest.map_or(end, |(t, last)| if at <= t { last } else { end }), false)
            }
        }
    }

    /// Updates the commit. Returns how long its records had waited for it, seconds.
    fn update_commit(&mut self, committed: Option<i64>, end: i64, at: f64) -> Option<f64> {
        let Some(committed) = committed else {
            if self.committed == -2 {
                self.committed = -1;
            }
            return None;
        };
        let first = self.committed == -2;
        let before = std::mem::replace(&mut self.committed, committed);
        if committed <= before && !first {
            if committed < end && self.uncommitted_since.is_nan() {
                self.uncommitted_since = at;
            }
            return None;
        }
        if first {
            // When this commit was made is not known, so how long records wait for the next one is not known either.
            self.uncommitted_since = if committed < end { f64::INFINITY } else { f64::NAN };
            return None;
        }
        let from = if self.sampled_at.is_finite() { self.sampled_at } else { at };
        let evidence = self.evidence_at(committed, Period { from, until: at }, end);
        // Records that had not arrived by the last sample have waited since then at most.
        let since = if self.uncommitted_since.is_nan() { from } else { self.uncommitted_since };
        let gap = Some(at - since).filter(|gap| gap.is_finite() && *gap > 0.0);
        self.keep_newest(evidence);
        self.uncommitted_since = if committed < end { at } else { f64::NAN };
        gap
    }

    /// Returns how far behind a reader was that had reached `offset` at some moment of the period.
    fn evidence_at(&self, offset: i64, Period { from, until }: Period, end: i64) -> Evidence {
        let end_at = |time: f64| self.history.end_at(time).unwrap_or_else(|| num::of_i64(end));
        let offset_f = num::of_i64(offset);
        let appended = match self.history.appended(offset) {
            Appended::At(t) | Appended::Before(t) => t,
            Appended::NotYet => until,
        };
        // The reader can have been here only after the previous record had been appended.
        let from = from.max(appended.min(until));
        let queue = Bracket::new((end_at(from) - offset_f).max(0.0), (end_at(until) - offset_f).max(0.0));
        let age = if queue.possible < 1.0 {
            Bracket::default()
        } else {
            let certain = if queue.certain < 1.0 { 0.0 } else { from - appended };
            Bracket::new(certain.max(0.0), (until - appended).max(0.0))
        };
        Evidence::new(until, age, queue)
    }

    fn keep_newest(&mut self, evidence: Evidence) {
        if evidence.at >= self.evidence.at {
            self.evidence = evidence;
        }
    }

    /// Returns age and queue from the newest evidence and from what the commit interval does not explain.
    fn bracket(&self, low: i64, lag: f64, positioned: bool, at: f64, with: &ReadWith) -> (Bracket, Bracket) {
        let age = self.age_of(low, with.now, at);
        if positioned {
            return (self.evidence.age(), self.evidence.queue());
        }
        if with.reader == Reader::Absent {
            return (Bracket::new(age, age), Bracket::new(lag, lag));
        }
        let known = self.evidence.at.is_finite();
        let (mut certain, mut queue_certain) =
            if known { (self.evidence.age().certain, self.evidence.queue().certain.min(lag)) } else { (0.0, 0.0) };
        let overdue = match with.commit_interval {
            Some(interval) if !with.workers_keep_up => age - interval,
            _ => 0.0,
        };
        if overdue > certain {
            certain = overdue;
            let before = with.commit_interval.and_then(|interval| self.history.end_at(at - interval));
            queue_certain = queue_certain.max(before.map_or(0.0, |end| end - num::of_i64(low)).max(0.0));
        }
        // While it is not known when a commit would refute it, evidence holds for a limited time only.
        let holds = known && (with.commit_interval.is_some() || at - self.evidence.at < HOLDS);
        let possible = if holds { self.evidence.age().possible.max(overdue) } else { age };
        let queue_possible = if holds { self.evidence.queue().possible.max(queue_certain).min(lag) } else { lag };
        (Bracket::new(certain, possible.min(age.max(certain))), Bracket::new(queue_certain, queue_possible))
    }

    /// Returns the age of the record at `offset`, if it waits, seconds.
    fn age_of(&self, offset: i64, now: f64, at: f64) -> f64 {
        match self.history.appended(offset) {
            Appended::At(t) | Appended::Before(t) => (now - t).max(0.0),
            Appended::NotYet => (now - at).max(0.0),
        }
    }

    /// Returns the most likely next unprocessed offset: as far behind as is certain.
    fn estimate_position(&self, low: i64, end: i64, at: f64, age: Bracket, assumed: bool) -> f64 {
        let low = num::of_i64(low);
        if assumed {
            return num::of_i64(end);
        }
        let by_age = self.history.end_at(at - age.certain).unwrap_or(low);
        by_age.clamp(low, num::of_i64(end).max(low))
    }

    /// Records progress. Returns it, and the handover pause that it ended.
    fn advance(
        &mut self,
        low: i64,
        end: i64,
        at: f64,
        restarted: bool,
        positioned: bool,
        with: &ReadWith,
    ) -> (f64, Option<f64>) {
        let progress = if self.position >= 0 { num::diff(low, self.position).max(0.0) } else { 0.0 };
        // A backlog from before the move was not caused by it.
        let waited = at - self.advanced_at.max(self.left_at);
        let mut pause = None;
        if progress > 0.0 || low >= end {
            if progress > 0.0 && self.moved_at >= self.advanced_at && !restarted {
                // Commits come at intervals even when nothing moves, and that wait was not caused by the move.
                let explained = if positioned { Some(0.0) } else { with.commit_interval.map(|c| 2.0 * c) };
                pause = explained.map(|explained| (waited - explained).max(0.0));
            }
            self.advanced_at = at;
        }
        self.position = low;
        (progress, pause)
    }

    fn update_owner(&mut self, owner: Option<&str>, now: f64) {
        let Some(owner) = owner else { return };
        let hash = owner_hash(owner);
        if hash != self.owner {
            if self.owner != 0 {
                self.moved_at = now;
                self.left_at = self.owned_at;
                // The commits of the previous owner do not show when this one commits.
                self.uncommitted_since = f64::NAN;
            }
            self.owner = hash;
        }
        self.owned_at = now;
    }

    /// Forgets what was known about a topic that was recreated.
    fn forget(&mut self) {
        self.committed = -2;
        self.uncommitted_since = f64::NAN;
        self.evidence = Evidence::NONE;
        self.position = -1;
        self.guess = f64::NAN;
        self.due = None;
        self.estimated_end = f64::NAN;
    }

    /// Returns the records that the log has gained since the last call, up to `newest`, the time of the newest sample
    /// of any partition.
    pub(crate) fn grown_until(&mut self, newest: f64) -> f64 {
        let Some((at, end)) = self.history.latest() else { return 0.0 };
        let estimated = num::of_i64(end) + f64::from(self.weight) * (newest - at).max(0.0);
        let before = if self.estimated_end.is_finite() { self.estimated_end } else { estimated };
        self.estimated_end = estimated.max(before);
        self.estimated_end - before
    }

    /// Returns since when the log is known not to grow.
    pub(crate) fn still_since(&self) -> Option<f64> {
        self.history.latest().and_then(|(_, end)| self.history.reached(end))
    }
}

/// Returns a hash of an owner's name, never 0. It is the same for the same name, because the hasher has fixed keys.
pub(crate) fn owner_hash(owner: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    owner.hash(&mut hasher);
    hasher.finish().max(1)
}
