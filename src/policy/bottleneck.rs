//! An external bottleneck: everybody is behind, and more workers do no more together (algorithms.md C7).
//!
//! After each Up that was made while the workers could not keep up, what all of them do together is compared with what it
//! should have become. Less than a third of the gain: the Up is undone once, and the next is tried after five minutes,
//! then ten, up to two hours; or at once when they do more than before, or have another template. Without a backlog
//! there is no verdict: what workers could do does not show.

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
/// They do so much more than at the verdict: it no longer holds.
const FREED: f64 = 1.25;
/// Patience at first and at most, seconds.
const PATIENCE: f64 = 300.0;
const MOST_PATIENCE: f64 = 7200.0;

/// An Up that is being watched.
#[derive(Debug, Clone, Copy)]
struct Trial {
    from: u32,
    to: u32,
    /// Records per second that all workers did together before.
    rate: f64,
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
    memory.bottleneck.landed = None;
    // An Up on top of another: both are judged together.
    let first = memory.bottleneck.trial.filter(|_| behind);
    memory.bottleneck.trial = match first {
        Some(first) => Some(Trial { to, ..first }),
        None => rate.filter(|_| behind).map(|rate| Trial { from, to, rate }),
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
    let Some(trial) = memory.bottleneck.trial.filter(|_| memory.flight.is_none()) else { return };
    if view.unsettled || memory.still_since.is_some() {
        // What they do while all stand still says nothing.
        memory.bottleneck.landed = None;
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
    if gained {
        memory.bottleneck.forget();
    } else {
        let patience = (2.0 * memory.bottleneck.patience).clamp(PATIENCE, MOST_PATIENCE);
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
