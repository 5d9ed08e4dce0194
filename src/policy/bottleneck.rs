//! An external bottleneck: everybody is behind, and more workers do no more together (algorithms.md C7).
//!
//! After each Up that was made while the workers could not keep up, what all of them do together is compared with what it
//! should have become. Less than a third of the gain, and less than they could do if each did what it did before: the Up is
//! undone once, and the next is tried after an hour, then two; after five minutes, then ten and so on, where it was not
//! known what a worker can do. It is tried at once when they do more than before, or have another template. Without a
//! backlog there is no verdict: what workers could do does not show.

use super::decision::Confidence;
use super::learning::{processing_rate, rate_window};
use super::look::View;
use super::memory::Memory;
use super::pieces::Piece;

/// Share of the expected gain below which an Up was in vain.
const GAIN: f64 = 0.3;
/// Share of the arrivals whose owners must be behind for a verdict.
const ALL_BEHIND: f64 = 0.7;
/// So old are the oldest records of a worker that is behind, seconds.
const BEHIND: f64 = 1.0;
/// They do so much of what they could do by themselves: nothing else is the limit.
const UNBOUND: f64 = 0.85;
/// They do so much more than at the verdict: it no longer holds.
const FREED: f64 = 1.25;
/// An Up that is not seen after so long was refused, or somebody else has changed the number; seconds.
const NEVER_MADE: f64 = 30.0;
/// Patience at first, where workers do less than they can and where what they can do is not known, and at most; seconds.
const SURE_PATIENCE: f64 = 3600.0;
const PATIENCE: f64 = 300.0;
const MOST_PATIENCE: f64 = 7200.0;

/// An Up that is being watched.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// When it was decided, Unix seconds.
    at: f64,
    from: u32,
    to: u32,
    /// Records per second that all workers did together before.
    rate: f64,
    /// Records per second that one was known to do before.
    alone: Option<f64>,
}

/// What was found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Workers that do as much as more of them.
    pub(crate) workers: u32,
    /// Records per second that all of them do together.
    pub(crate) rate: f64,
    until: f64,
}

/// Watches whether more workers do more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bottleneck {
    trial: Option<Trial>,
    landed: Option<f64>,
    found: Option<Found>,
    patience: f64,
}

impl Bottleneck {
    /// The bottleneck, while it is believed in.
    pub(crate) fn holds(&self, now: f64) -> Option<Found> {
        self.found.filter(|found| now < found.until)
    }

    /// Most workers that are tried after a verdict: a quarter more than were enough, for what all share suffers from more.
    pub(crate) fn probe(&self) -> Option<u32> {
        self.found.map(|found| found.workers.saturating_add((found.workers / 4).max(1)))
    }

    /// An Up has landed and does not show yet.
    pub(crate) fn pending(&self) -> bool {
        self.trial.is_some()
    }

    /// Another template: what held for the old one says nothing.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Notes an Up that was decided now.
pub(crate) fn watch(memory: &mut Memory, view: &View, from: u32, to: u32) {
    let behind = behind(memory, view) && memory.off.spares(Piece::BOTTLENECK);
    let rate = processing_rate(memory).filter(|rate| *rate > 0.0 && from > 0);
    let known = memory.capacity.confidence() >= Confidence::Medium;
    let alone = memory.capacity.per_worker(None).filter(|_| known);
    memory.bottleneck.landed = None;
    // An Up on top of another: both are judged together.
    let first = memory.bottleneck.trial.filter(|_| behind);
    memory.bottleneck.trial = match first {
        Some(first) => Some(Trial { at: memory.now, to, ..first }),
        None => rate.filter(|_| behind).map(|rate| Trial { at: memory.now, from, to, rate, alone }),
    };
}

/// Draws the conclusion, once the Up has landed and shows.
pub(crate) fn learn(memory: &mut Memory, view: &View) {
    let now = memory.now;
    let rate = processing_rate(memory);
    if let (Some(found), Some(rate)) = (memory.bottleneck.found, rate)
        && rate > FREED * found.rate
    {
        memory.bottleneck.forget();
        return;
    }
    let Some(trial) = memory.bottleneck.trial else { return };
    let made = memory.desired.is_some_and(|desired| desired >= trial.to);
    if !made || memory.flight.is_some() || view.unsettled || memory.still_since.is_some() {
        // What they do before the others have come, or while all stand still, says nothing.
        memory.bottleneck.landed = None;
        if !made && now - trial.at > NEVER_MADE {
            memory.bottleneck.trial = None;
        }
        return;
    }
    let landed = *memory.bottleneck.landed.get_or_insert(now);
    if !behind(memory, view) {
        memory.bottleneck.trial = None;
        return;
    }
    let expected = trial.rate * (f64::from(trial.to) / f64::from(trial.from) - 1.0);
    let gained = rate.is_some_and(|rate| rate - trial.rate >= GAIN * expected);
    let Some(rate) = rate.filter(|_| gained || now - landed >= rate_window(memory)) else { return };
    memory.bottleneck.trial = None;
    if gained || trial.alone.is_some_and(|alone| rate >= UNBOUND * alone * f64::from(trial.to)) {
        memory.bottleneck.forget();
    } else {
        let first = if trial.alone.is_some() { SURE_PATIENCE } else { PATIENCE };
        let patience = (2.0 * memory.bottleneck.patience).clamp(first, MOST_PATIENCE);
        memory.bottleneck.patience = patience;
        memory.bottleneck.found = Some(Found { workers: trial.from, rate, until: now + patience });
    }
}

/// Nearly everybody has records that wait.
fn behind(memory: &Memory, view: &View) -> bool {
    let slack = BEHIND + if view.certain { 0.0 } else { 1.5 * memory.commit_interval };
    if !view.owners_known {
        return view.waiting && view.settled_age > slack;
    }
    let total: f64 = view.by_owner.iter().map(|o| o.weight).sum();
    let late: f64 = view.by_owner.iter().filter(|o| o.age > slack).map(|o| o.weight).sum();
    late > ALL_BEHIND * total
}

#[cfg(test)]
mod tests {
    use super::super::flight::Flight;
    use super::super::look::Owner;
    use super::*;

    /// Four workers of 1000/s are all behind; from 0 s on a fifth is asked for, is there at 20 s, and then they do `rate`
    /// together. Looks at every fifth second until 45 s.
    fn after_an_up(rate: f64, alone: Option<f64>) -> Memory {
        let mut memory = Memory { desired: Some(4), ..Memory::default() };
        let owner = Owner { weight: 1000.0, age: 20.0, ..Owner::default() };
        let view = View { certain: true, owners_known: true, by_owner: vec![owner; 4], ..View::default() };
        let mut done = 0.0;
        for second in (-20..=45).step_by(5) {
            memory.now = f64::from(second);
            done += 5.0 * if second > 20 { rate } else { 4000.0 };
            memory.progress.push_back((memory.now, done));
            if second == 0 {
                watch(&mut memory, &view, 4, 5);
                memory.bottleneck.trial.as_mut().unwrap().alone = alone;
            }
            memory.desired = Some(if second > 0 { 5 } else { 4 });
            memory.flight = (0 < second && second < 20).then(|| Flight::new(0.0, 4, 5, 4000.0));
            learn(&mut memory, &view);
            assert!(second > 25 || memory.bottleneck.found.is_none(), "a verdict at {second} s, before it can show");
        }
        memory
    }

    #[test]
    fn an_up_that_has_just_come_is_not_judged_by_what_the_others_did_before() {
        let memory = after_an_up(5000.0, None);
        assert!(memory.bottleneck.found.is_none() && !memory.bottleneck.pending());
    }

    #[test]
    fn an_up_that_gives_nothing_is_seen() {
        for (alone, patience) in [(None, PATIENCE), (Some(1000.0), SURE_PATIENCE)] {
            let found = after_an_up(4000.0, alone).bottleneck.found.unwrap();
            assert_eq!((found.workers, found.rate), (4, 4000.0));
            assert!((patience..patience + 45.0).contains(&found.until), "{}", found.until);
        }
    }

    #[test]
    fn workers_that_do_what_they_can_alone_share_no_limit() {
        assert!(after_an_up(4000.0, Some(900.0)).bottleneck.found.is_none());
    }

    #[test]
    fn an_up_that_was_never_made_is_forgotten() {
        let mut memory = Memory { desired: Some(4), now: 0.0, ..Memory::default() };
        memory.progress.extend([(-10.0, 0.0), (0.0, 40_000.0)]);
        let view = View { waiting: true, settled_age: 20.0, certain: true, ..View::default() };
        watch(&mut memory, &view, 4, 5);
        learn(&mut memory, &view);
        assert!(memory.bottleneck.pending());
        memory.now = NEVER_MADE + 1.0;
        learn(&mut memory, &view);
        assert!(!memory.bottleneck.pending() && memory.bottleneck.found.is_none());
    }
}
