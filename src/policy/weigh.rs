//! What staying does, how many more it takes, and how many fewer would do: each by a roll-out of every worker's queue.
//!
//! ```text
//! reaction  R = noticing + start-up + handover            until another decision could have worked
//! stay      while nobody waits longer than 0.8 (L - handover) within R, under the upper demand
//! more      fewest n that, having joined, leave the same within L after that, and nobody above 0.97
//! fewer     fewest n with which, its own handover included, nobody waits longer than 0.6 (L - handover), nor works
//!           above 0.94
//! ```
//!
//! A change whose pause alone makes records late is *dear*. It spends error budget, `(D - L)/(1 - rho)` seconds of
//! arrivals of those that it moves (algorithms.md C6); between two of them there is so much time that no more than half
//! of the budget is spent. An Up then looks as far ahead, and its size is where workers and late records cost least.

use super::crew::{Crew, Part};
use super::demand::{Demand, MOST_RECOVERY, recovery, usual};
use super::look::View;
use super::memory::Memory;
use super::pieces::Piece;
use super::rollout::{Change, Outcome, Path, rollout};
use super::settings::Settings;
use super::staircase::Staircase;

/// Share of the latency budget that staying may use, and a Down: the rest is for what the model does not know.
const USE: f64 = 0.8;
const USE_DOWN: f64 = 0.6;
/// Utilisation of the hottest worker that an Up leaves, and that a Down may lead to. The gap keeps noise from undoing it.
const RHO: f64 = 0.97;
const RHO_DOWN: f64 = 0.94;
/// The same where changes are dear.
const RHO_DEAR: f64 = 0.9;
const RHO_DOWN_DEAR: f64 = 0.8;
/// Utilisation from which on a queue grows for good, and the share of the latency at which that shows.
const OVER: f64 = 1.02;
const SHOWS: f64 = 0.35;
/// Utilisation while working off a backlog.
const RHO_RECOVERY: f64 = 0.95;
/// The longest that changes are spared for, seconds.
const LONGEST: f64 = 21_600.0;
/// Where changes are dear, queues are followed for so much longer, seconds: a pause takes that long to be worked off.
const FURTHER: f64 = 120.0;

/// The question.
#[derive(Debug)]
pub(crate) struct Weigh<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) crew: &'a Crew,
    pub(crate) stairs: &'a Staircase,
    pub(crate) demand: Demand,
    /// Capacity of a worker of speed 1, records per second.
    pub(crate) mu: f64,
    pub(crate) current: u32,
    /// Objective less what processing takes anyway, seconds.
    pub(crate) latency: f64,
    /// See [`dear`].
    pub(crate) dear: f64,
    recovery: f64,
    /// Rate that more than this many workers' worth of capacity is bought for by no backlog, records per second.
    most: f64,
    start_up: f64,
    handover: f64,
    /// Handover that is reckoned with where workers leave.
    leaving: f64,
    reaction: f64,
    all_stop: bool,
    /// Seconds until another decision could have worked, and how much longer queues are followed.
    reach: f64,
    further: f64,
    path: Path,
}

/// The answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answer {
    /// Longest wait within the reaction time if nothing is changed, seconds.
    pub(crate) staying: f64,
    /// Workers needed.
    pub(crate) need: u32,
    /// No number of workers is enough.
    pub(crate) unmet: bool,
    /// Where changes are dear: the number at which workers and late records cost least, at most `need`.
    pub(crate) worth: Option<u32>,
}

impl<'a> Weigh<'a> {
    pub(crate) fn new(
        (memory, view, settings): (&Memory, &View, &'a Settings),
        (crew, stairs): (&'a Crew, &'a Staircase),
        demand: Demand,
        (mu, current, latency): (f64, u32, f64),
    ) -> Self {
        let (start_up, handover) = (memory.start_up(), memory.handover.p90());
        let reaction = memory.reaction();
        let reach = reaction + memory.interval;
        let dear = dear(memory, settings, latency);
        let further = if dear > 0.0 { FURTHER } else { 2.0 * (handover - 0.2 * latency).max(0.0) };
        Self {
            settings,
            crew,
            stairs,
            demand,
            mu,
            current,
            latency,
            dear,
            most: demand.level + MOST_RECOVERY * usual(memory, demand.level, stairs.capacity(current, mu)),
            recovery: recovery(memory, view, settings, demand.level, stairs.capacity(current, mu)),
            start_up,
            handover,
            leaving: memory.careful().1,
            reaction,
            all_stop: memory.all_stop > Some(0.5),
            reach,
            further,
            path: demand.path(memory, start_up + memory.careful().1 + reach + further),
        }
    }

    /// Workers needed, before any guard.
    pub(crate) fn answer(&self) -> Answer {
        let mut parts = Vec::new();
        let most = self.stairs.useful().unwrap_or(u32::MAX);
        let staying = self.staying(self.reach, &mut parts);
        // The pause of a change under way was reckoned with.
        let own_pause = if self.crew.workers() < self.current { self.handover } else { 0.0 };
        // A backlog that is being worked off in time, that of the last change above all, asks for nobody.
        let draining = staying.end < 0.95 * self.crew.delay(self.mu) && staying.worst < 0.9 * self.latency;
        let behind =
            self.recovery > 0.0 && (self.demand.level + self.recovery) * self.crew.hottest_share(&parts) > self.mu;
        // More comes than they can do, and it shows: sooner or later it takes more of them.
        let over = self.demand.level * self.crew.hottest_share(&parts) > OVER * self.mu
            && self.crew.delay(self.mu) > SHOWS * self.room(self.handover);
        let mut answer = Answer { staying: staying.worst, ..Answer::default() };
        if over || (staying.worst > own_pause + USE * self.room(self.handover) && !draining) || behind {
            let (found, met) = search(self.current.saturating_add(1), most, |n| self.enough(n, &mut parts));
            let found = if met { found } else { self.least_hot(most, &mut parts) };
            answer.need = self.stairs.snap(found).max(self.current.min(most));
            answer.unmet = !met;
            if self.dear > 0.0 {
                answer.worth = self.cheapest(answer.need, &mut parts);
            }
        } else {
            answer.need = self.fewer(most, &mut parts);
        }
        answer
    }

    /// Latency that may be used up before a change must have worked: its own handover is still to come.
    fn room(&self, handover: f64) -> f64 {
        if handover < 0.8 * self.latency { self.latency - handover } else { self.latency }
    }

    fn joining(&self) -> Change {
        Change { at: self.start_up, pause: self.handover, all_stop: self.all_stop }
    }

    fn follow(&self, n: u32, change: Option<Change>, horizon: f64, parts: &mut Vec<Part>) -> Outcome {
        self.crew.after(n.max(1), self.stairs, parts);
        rollout(self.crew, parts, change, &self.path, (self.mu, horizon, self.latency))
    }

    /// What happens if nothing is changed. Newcomers under way come no later than had they been asked for now.
    fn staying(&self, horizon: f64, parts: &mut Vec<Part>) -> Outcome {
        let under_way = self.crew.workers() < self.current;
        self.follow(self.current, under_way.then(|| self.joining()), horizon, parts)
    }

    /// Rate that more workers must be able to do, and how hot they may be.
    fn later(&self) -> (f64, f64) {
        let soon = self.demand.at(self.start_up + self.handover + self.reaction);
        if self.dear <= 0.0 {
            return (soon, RHO.min(self.spare_for_stops()));
        }
        // The next change shall not come before this one is paid for.
        (soon.max(self.demand.at(self.dear.min(1800.0))), RHO_DEAR)
    }

    /// Where all stand still at a change, what it leaves must be worked off in twice the objective, or it is a reason for
    /// the next change.
    fn spare_for_stops(&self) -> f64 {
        if self.all_stop { 1.0 / (1.0 + self.handover / (2.0 * self.latency)) } else { 1.0 }
    }

    fn enough(&self, n: u32, parts: &mut Vec<Part>) -> bool {
        let drained = (0.4 * self.reach).max(self.latency.max(10.0)).min(self.reach);
        let horizon = self.start_up + self.handover + drained + self.further;
        let out = self.follow(n, Some(self.joining()), horizon, parts);
        let hottest = self.crew.hottest_share(parts);
        let (later, rho) = self.later();
        // What is lost already does not buy a cluster: it is worked off in its time.
        let all_it_may = self.most * hottest <= RHO_RECOVERY * self.mu;
        (out.end <= USE * self.room(self.handover) || all_it_may)
            && later * hottest <= rho * self.mu
            && (self.demand.level + self.recovery) * hottest <= RHO_RECOVERY * self.mu
    }

    fn fits(&self, n: u32, parts: &mut Vec<Part>) -> bool {
        let leaving = Change { at: 0.0, pause: self.leaving, all_stop: self.all_stop };
        let out = self.follow(n, Some(leaving), self.leaving + self.reach, parts);
        let hottest = self.crew.hottest_share(parts);
        let room = USE_DOWN * self.room(self.leaving);
        let rho = if self.dear > 0.0 { RHO_DOWN_DEAR } else { RHO_DOWN.min(0.95 * self.spare_for_stops()) };
        // A pause that takes longer than the objective makes records late: how many may be, the error budget says.
        let most = self.leaving + room;
        let most = if self.leaving < 0.8 * self.latency { most.min(0.9 * self.latency) } else { most };
        out.worst <= most && out.end <= room && self.later().0.max(self.demand.level) * hottest <= rho * self.mu
    }

    /// Fewest that fit, at least half of the present ones.
    fn fewer(&self, most: u32, parts: &mut Vec<Part>) -> u32 {
        let mut keep = self.current.min(most);
        let fewest = (keep / 2).max(1);
        let mut missed = 0_u32;
        // A count that does not fit may have a smaller one that does: it depends on how the partitions divide.
        for n in (fewest..keep).rev() {
            if self.fits(n, parts) {
                keep = n;
                missed = 0;
            } else {
                missed += 1;
                if missed > 2 + n / 8 {
                    break;
                }
            }
        }
        keep
    }

    /// If no number is enough: the fewest whose hottest worker is about as cool as it can be.
    fn least_hot(&self, most: u32, parts: &mut Vec<Part>) -> u32 {
        let mut heat = |n: u32| {
            self.crew.after(n, self.stairs, parts);
            self.crew.hottest_share(parts)
        };
        let coolest = (self.current.max(1)..=most).map(&mut heat).fold(f64::INFINITY, f64::min);
        (self.current.max(1)..=most).find(|n| heat(*n) <= 1.02 * coolest).unwrap_or(most)
    }

    /// Late records have a price: one in a hundred (by the objective) costs as much as all workers do.
    fn cheapest(&self, need: u32, parts: &mut Vec<Part>) -> Option<u32> {
        let horizon = self.start_up + self.handover + self.reach + self.further;
        let price = 1.0 / ((1.0 - self.settings.percentile).max(1e-4) * self.mu);
        let mut cost = |n: u32| {
            let out = if n == self.current {
                self.staying(horizon, parts)
            } else {
                self.follow(n, Some(self.joining()), horizon, parts)
            };
            out.late * price + f64::from(n.saturating_sub(self.current)) * self.dear.min(LONGEST)
        };
        (self.current..=need).map(|n| (n, cost(n))).min_by(|a, b| a.1.total_cmp(&b.1)).map(|best| best.0)
    }
}

/// Seconds that must pass between two changes so that their pauses spend no more than half of the error budget; 0 where
/// a pause is shorter than the objective.
pub(crate) fn dear(memory: &Memory, settings: &Settings, latency: f64) -> f64 {
    let over = if memory.off.spares(Piece::DEAR) { (memory.handover.p90() - latency).max(0.0) } else { 0.0 };
    // Of partitions a change moves some, one in seven as a rule; a third of the capacity works off what a pause left.
    let moved = if memory.all_stop > Some(0.5) { 1.0 } else { 0.15 };
    (over * moved / 0.3 / (0.5 * (1.0 - settings.percentile)).max(1e-6)).min(LONGEST)
}

/// Fewest of `from..=to` for which `fits` holds, and whether it does for any.
fn search(from: u32, to: u32, mut fits: impl FnMut(u32) -> bool) -> (u32, bool) {
    // One by one at first: how the partitions divide is not monotone.
    let twice = to.min(from.saturating_mul(2));
    if let Some(found) = (from..=twice).find(|n| fits(*n)) {
        return (found, true);
    }
    if twice >= to || !fits(to) {
        return (to.max(from), false);
    }
    let (mut low, mut high) = (twice.saturating_add(1), to);
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { high = middle } else { low = middle.saturating_add(1) }
    }
    (high, true)
}
