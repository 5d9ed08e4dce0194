//! Decides from the queue of the hottest worker when to act and how far (docs/design/algorithms.md#the-rule).
//!
//! ```text
//! staying   the hottest worker's queue, simulated from its delay now under the demand that may come, for the reaction
//!           time R; plus what a change's own handover adds
//! up        if that wait exceeds the share of the objective that staying may use, and the demand exceeds the worker's
//!           capacity: the next number with which the hottest worker can process the demand at R, and work off the
//!           backlog within twice the objective's latency
//! down      the fewest, at least half, with which the hottest worker's wait stays below the share that leaving may use,
//!           from its delay now and what the handover adds
//! ```
//!
//! The shares follow the error budget (`model::caution`). A change whose pause alone makes records late must be rare:
//! the time between two of them is such that no more than half of the error budget is spent, and a scale-up plans as
//! far ahead.

use super::super::contract::settings::Settings;
use super::super::model::memory::Memory;
use super::super::observe::snapshot::{Owner, Snapshot};
use super::Need;
use super::demand::{Demand, recovery};
use super::queue::{Queue, Wait};
use sluice_base::num;

/// Utilisation up to which a scale-down may load the hottest worker.
const FULL: f64 = 0.97;
/// Share of the objective that may still wait by the time another decision could have taken effect after a scale-up.
const LEFT_BY_UP: f64 = 0.5;
/// Utilisation that a scale-up may lead to; and where changes must be rare.
const UP_TO: f64 = 1.02;
const UP_TO_RARE: f64 = 0.9;
/// Utilisation that a scale-down may lead to where changes must be rare.
const DOWN_TO_RARE: f64 = 0.8;
/// Share of the handover that a change adds to the wait if only some partitions stop.
const PART_STOPS: f64 = 0.3;
/// Shortest horizon of the simulation for a scale-down, seconds.
const DOWN_AHEAD: f64 = 40.0;
/// Share of the remaining error budget that one jump of the arrivals may spend.
const JUMP: f64 = 0.8;
/// Share of the error budget above which the jumps of the last hour count as harmless.
const HARMLESS: f64 = 0.9;
/// Longest time between two changes, seconds.
const LONGEST_SPACING: f64 = 21_600.0;
/// Delay from which on a queue proves a capacity that is known only from busy clocks, as a share of the objective.
const PROOF: f64 = 0.1;
/// Factor on a worker's observed rate that a trial may ask for: an error of a third can be corrected in time.
const TRIAL: f64 = 1.35;
/// Load that the worker of the hottest partition may have in total, as a multiple of that partition's load.
const BESIDE: f64 = 1.15;
/// Factor by which the arrival rate of seconds may exceed that of half a minute by chance.
const NOISE: f64 = 1.15;
/// Relative speed below which a slow worker does not justify more workers.
const SLOW: f64 = 0.65;

/// The present workers and their queues.
struct WorkerQueues<'a> {
    memory: &'a Memory,
    owners: &'a [Owner],
    /// Sum of the owners' weights; 0: the owners are not known.
    total: f64,
    mu: f64,
    working: u32,
    floor: f64,
    /// The capacity is known well enough to convert waiting records into seconds.
    trusted: bool,
    settled_delay: f64,
    settled_queue: f64,
}

impl<'a> WorkerQueues<'a> {
    fn new(memory: &'a Memory, snapshot: &'a Snapshot, settings: &Settings, mu: f64, working: u32) -> Self {
        let total: f64 = snapshot.owners.iter().map(|o| o.weight).sum();
        let distinct = num::u32_of(snapshot.owners.len());
        // A part of the partitions does not show the owners' shares.
        let known = snapshot.owners_known && snapshot.all_read && distinct <= working.max(1);
        Self {
            memory,
            owners: &snapshot.owners,
            total: if known { total } else { 0.0 },
            mu,
            working: working.max(1),
            floor: super::latency_floor(memory, settings),
            trusted: memory.trusts_capacity(),
            settled_delay: snapshot.settled_age.certain,
            settled_queue: snapshot.settled_lag.certain,
        }
    }

    fn speed(&self, owner: u64) -> f64 {
        self.memory.capacity.speed_of(owner).map_or(1.0, |speed| (1.0 + 0.7 * (speed - 1.0)).clamp(SLOW, 1.3))
    }

    /// Returns the delay: the larger of the oldest record's age beyond processing and the waiting records' work,
    /// seconds.
    fn delay(&self, age: f64, queue: f64, capacity: f64) -> f64 {
        let age = (age - self.floor).max(0.0);
        let work = if self.trusted && queue >= 2.0 { (queue / capacity - self.floor).max(0.0) } else { 0.0 };
        age.max(work)
    }

    /// Returns the queue that will be the longest after `ahead` seconds.
    fn hottest(&self, demand: &Demand, ahead: f64) -> Queue {
        if self.total <= 0.0 {
            let share = self.memory.stairs.share(self.working);
            let delay = self.delay(self.settled_delay, self.settled_queue * share, self.mu);
            return Queue { delay, share, capacity: self.mu };
        }
        let rate = demand.at(ahead);
        let queues = self.owners.iter().map(|owner| {
            let capacity = self.mu * self.speed(owner.hash);
            let delay = self.delay(owner.age.certain, owner.queue.certain, capacity);
            Queue { delay, share: owner.weight / self.total, capacity }
        });
        let after = |q: &Queue| q.delay + (rate * q.share / q.capacity - 1.0) * ahead;
        let hottest = queues.max_by(|a, b| after(a).total_cmp(&after(b)));
        hottest.unwrap_or(Queue { delay: 0.0, share: 1.0, capacity: self.mu })
    }
}

/// Plans with a known capacity, by simulating the queue of the hottest worker.
pub(super) fn plan_with_capacity(
    memory: &Memory,
    snapshot: &Snapshot,
    settings: &Settings,
    need: &mut Need,
    mu: f64,
    current: u32,
) {
    let workers = WorkerQueues::new(memory, snapshot, settings, mu, need.working);
    let demand = need.demand;
    let under_way = memory.in_flight().filter(|flight| flight.to > flight.from);
    // A change under way is judged by its new workers: until they are working, the queue grows in any case.
    let (now, wait) = if let Some(flight) = under_way {
        let remaining = (flight.since + memory.durations.start_up() - memory.clock.now).max(0.0);
        let present = workers.hottest(&demand, remaining);
        let landing = present.follow(&demand, 0.0, remaining);
        let joined = Queue { delay: landing.end, share: memory.stairs.share(current), capacity: mu };
        let wait = joined.follow(&demand, remaining, demand.reaction);
        (Queue { delay: present.delay, ..joined }, Wait { worst: wait.end, end: wait.end })
    } else {
        // Commits describe the queue half an interval ago on average; it has changed since.
        let old = if snapshot.positioned { 0.0 } else { 0.5 * memory.commit_interval.upper().unwrap_or(0.0) };
        let now = workers.hottest(&demand, demand.reaction);
        (now, now.follow(&demand, 0.0, demand.reaction + old.min(need.latency)))
    };
    need.delay = need.delay.max(now.delay);
    need.staying = Some(wait.worst);
    need.capacity = Some(now.capacity / now.share.max(1e-12));
    let recovery = recovery(memory, snapshot, settings, &demand, need.latency);
    let waiting = snapshot.settled_lag.certain;
    let sizing = Sizing {
        memory,
        settings,
        need,
        mu,
        current,
        now,
        recovery,
        waiting,
        late_partitions: snapshot.late_partitions,
    };
    let reason = sizing.up_reason(wait);
    let enough = sizing.fewest_enough();
    let mut keep = sizing.fewest_that_fit();
    // A worker may have more lanes than were seen busy at once, so a third more is tried for each.
    let tried = if memory.capacity.may_have_more_lanes() && keep == current { sizing.trial() } else { None };
    keep = tried.unwrap_or(keep);
    need.catch_up = reason == Some(UpReason::Backlog);
    need.keep = Some(keep);
    need.trial = tried.is_some() || memory.capacity.confidence() < super::Confidence::Medium;
    if reason.is_some() {
        let (found, met) = enough;
        need.need = Some(found.max(current));
        need.unmet = !met;
        let all = demand.upper.max(demand.level + recovery);
        need.wanted = if met { need.need } else { Some(num::ceil_u32(all / (FULL * mu)).max(found).max(current)) };
        if !met {
            need.need = Some(least_hot(memory, current).max(current));
        }
    } else {
        need.need = Some(keep.min(current));
        need.wanted = need.need;
    }
}

/// Why more workers are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpReason {
    /// More records arrive than the hottest worker can process.
    Growth,
    /// The backlog is not worked off in time.
    Backlog,
}

/// Everything that the size is chosen from.
#[derive(Clone, Copy)]
struct Sizing<'a> {
    memory: &'a Memory,
    settings: &'a Settings,
    need: &'a Need,
    mu: f64,
    current: u32,
    /// Queue of the hottest worker.
    now: Queue,
    /// Rate beyond the arrivals that works off the backlog, records per second.
    recovery: f64,
    /// Records that certainly wait; and partitions in which they are late, or nearly.
    waiting: f64,
    late_partitions: u32,
}

impl Sizing<'_> {
    /// Returns how much a change adds to the wait, seconds.
    fn handover_adds(&self, handover: f64) -> f64 {
        handover * if self.memory.durations.all_stop() { 1.0 } else { PART_STOPS }
    }

    /// Returns why more workers are needed, if they are.
    fn up_reason(&self, wait: Wait) -> Option<UpReason> {
        let (need, demand) = (self.need, &self.need.demand);
        let latency = need.latency;
        let adds = self.handover_adds(self.memory.durations.handover());
        let may_use = (self.memory.caution.staying() * latency - adds).max(PROOF * latency);
        let over = demand.upper * self.now.share > self.now.capacity;
        let proven = self.memory.trusts_capacity() || need.delay > PROOF * latency;
        if over && wait.worst > may_use && proven {
            return Some(UpReason::Growth);
        }
        // Where a change alone makes records late, the queue cannot serve as a buffer.
        if over && need.spacing > 0.0 && proven {
            return Some(UpReason::Growth);
        }
        // The backlog is late already, or will be, and is not worked off before more workers could have come.
        let late = need.delay > may_use.max(0.6 * latency);
        // One or two waiting records per worker do not justify another worker, nor does the backlog of a single
        // partition, which only one worker at a time can read.
        let much = self.waiting > f64::from(need.working.max(1)) && self.late_partitions >= 2;
        // A backlog that will be worked off before more workers could help needs no help.
        let falls = (self.now.delay - wait.end) / demand.reaction;
        let soon = falls > 0.0 && (self.now.delay - 0.5 * may_use) / falls < 2.0 * demand.reaction + adds;
        (late && much && !soon && wait.end > 0.8 * may_use && self.memory.in_flight().is_none())
            .then_some(UpReason::Backlog)
    }

    /// Returns the demand that a new number of workers must be able to process, records per second.
    fn ahead(&self) -> f64 {
        let demand = &self.need.demand;
        let upper = demand.upper;
        // The next change must not come before this one is paid for.
        if self.need.spacing > 0.0 { upper.max(demand.at(self.need.spacing.min(1800.0))) } else { upper }
    }

    /// Returns the share of the capacity that is left while records that waited for a handover are worked off.
    fn spare_for_stops(&self) -> f64 {
        if self.memory.durations.all_stop() {
            1.0 / (1.0 + self.memory.durations.handover() / (2.0 * self.settings.latency.0).max(20.0))
        } else {
            1.0
        }
    }

    /// Returns whether this many workers are enough: they can process what is expected, work off the backlog, and their
    /// queue stays short until another decision could have taken effect.
    fn is_enough(&self, workers: u32) -> bool {
        let (need, demand) = (self.need, &self.need.demand);
        let share = self.memory.stairs.share(workers);
        let utilisation = if need.spacing > 0.0 { UP_TO_RARE } else { UP_TO }.min(self.spare_for_stops());
        let expected = demand.expected(demand.reaction).max(demand.level + self.recovery);
        let expected = if need.spacing > 0.0 { expected.max(self.ahead()) } else { expected };
        if expected * share > utilisation * self.mu {
            return false;
        }
        let start_up = self.memory.durations.start_up();
        let landing = self.now.follow(demand, 0.0, start_up);
        let stops = if self.memory.durations.all_stop() { self.memory.durations.handover() } else { 0.0 };
        let queue = Queue { delay: landing.end + stops, share, capacity: self.mu };
        let wait = queue.follow(demand, start_up, demand.reaction);
        wait.end <= LEFT_BY_UP * need.latency || demand.upper * share <= utilisation * self.mu
    }

    /// Returns the fewest workers that are enough, and whether any number is.
    fn fewest_enough(&self) -> (u32, bool) {
        let mut workers = self.need.working.min(self.current);
        loop {
            let Some(next) = self.need.stairs.above(workers) else {
                return (self.need.stairs.snap(self.need.stairs.useful().unwrap_or(workers)), false);
            };
            workers = next;
            if self.is_enough(workers) {
                return (workers, true);
            }
            // Without partitions there is no largest useful number.
            if self.need.stairs.useful().is_none() {
                let most = self.ahead().max(self.need.demand.level + self.recovery);
                return (num::ceil_u32(most / (FULL * self.mu)).max(workers), true);
            }
        }
    }

    /// Returns whether this smaller number of workers is enough: the hottest worker's wait stays below what leaving may use.
    fn fits(&self, workers: u32) -> bool {
        let (need, demand) = (self.need, &self.need.demand);
        let share = self.memory.stairs.share(workers);
        let capacity = self.mu;
        let full = if need.spacing > 0.0 { DOWN_TO_RARE } else { FULL }.min(0.98 * self.spare_for_stops());
        let level = self.ahead().max(demand.level * (1.0 + demand.excess));
        if level * share > full * capacity {
            return false;
        }
        let handover = self.memory.durations.handover_of_leaving();
        let delay = self.now.delay + 0.5 * handover * demand.level * share / capacity;
        if !self.affords_jump(share) {
            return false;
        }
        let wait = Queue { delay, share, capacity }.follow(demand, 0.0, DOWN_AHEAD.max(demand.reaction));
        wait.worst < self.memory.caution.leaving() * need.latency + if need.spacing > 0.0 { handover } else { 0.0 }
    }

    /// Returns whether the error budget pays for the records that would be late if arrivals jumped as they did within
    /// the last hour.
    fn affords_jump(&self, share: f64) -> bool {
        let (need, demand) = (self.need, &self.need.demand);
        let jump = self.memory.forecast.jump(demand.level);
        let grows = jump * share / self.mu - 1.0;
        if grows <= 0.0 {
            return true;
        }
        // Records are late from when the queue has grown to the objective until more workers have worked it off.
        let late_seconds = (1.5 * demand.reaction - need.latency / grows).max(0.0);
        let budget = self.memory.attainment.budget(self.settings.percentile);
        // Jumps that made no records late were harmless.
        budget.is_none_or(|budget| budget.left > HARMLESS || jump * late_seconds <= JUMP * budget.records)
    }

    /// Returns the next useful number below, if it may be tried although it is too small by what is known.
    fn trial(&self) -> Option<u32> {
        let below = self.need.stairs.below(self.current)?;
        let level = self.need.demand.level;
        let failed = self.memory.trial.failed(self.memory.clock.now, below, level);
        let more = Sizing { mu: TRIAL * self.mu, ..*self };
        (!failed && pays_for_trial(self.memory, self.settings, self.need, self.current, below) && more.fits(below))
            .then_some(below)
    }

    /// Returns the fewest workers that fit: at least half of the present ones, or the next useful number below.
    fn fewest_that_fit(&self) -> u32 {
        let stairs = &self.need.stairs;
        let useful = stairs.snap(self.current);
        let least = (self.current / 2).max(1);
        let mut keep = self.current;
        // A smaller number that handles just as much fits if staying fits.
        let mut candidate = if useful < self.current { Some(useful) } else { stairs.below(self.current) };
        while let Some(workers) = candidate {
            let failed = self.memory.trial.failed_lately(self.memory.clock.now, workers, self.need.demand.level);
            if failed || !self.fits(workers) {
                break;
            }
            keep = workers;
            candidate = stairs.below(workers).filter(|next| *next >= least);
        }
        keep
    }
}

/// If no number of workers is enough, returns the fewest whose hottest worker is about as cool as it can be.
fn least_hot(memory: &Memory, current: u32) -> u32 {
    let stairs = &memory.stairs.steps;
    let Some(useful) = stairs.useful() else { return current };
    // The worker of the hottest partition may keep a little beside it: taking that away as well would need one worker
    // for each partition.
    let coolest = stairs.share(useful).max(stairs.top());
    stairs.fewest(BESIDE * coolest).0
}

/// Plans for a job without workers: enough for the arrivals and for the backlog.
pub(super) fn plan_from_zero(memory: &Memory, snapshot: &Snapshot, settings: &Settings, need: &mut Need, mu: f64) {
    let more = recovery(memory, snapshot, settings, &need.demand, need.latency);
    let most = need.demand.upper.max(need.demand.level + more);
    let (found, met) = need.stairs.fewest(FULL * mu / most.max(1e-12));
    need.need = Some(found);
    need.wanted = Some(found);
    need.unmet = !met;
    need.keep = Some(found);
}

/// Plans without a known capacity: tries more workers if records are certainly late, and one stair fewer if all is
/// calm.
pub(super) fn plan_without_capacity(
    memory: &Memory,
    snapshot: &Snapshot,
    settings: &Settings,
    need: &mut Need,
    current: u32,
) {
    need.need = Some(current);
    need.wanted = Some(current);
    need.keep = Some(current);
    let Some(rates) = snapshot.rates else { return };
    need.trial = true;
    let level = need.demand.level;
    let gaining = memory.processing_rate().is_some_and(|done| done > 1.05 * level);
    // One or two waiting records per worker do not justify another worker.
    let enough_for_more = snapshot.settled_lag.certain > f64::from(current.max(1));
    // The effect of the last change shows with the commits after it.
    let since = memory.clock.now - memory.changes.unsettled_at.max(memory.changes.landed_at);
    let shows = memory.commit_interval.upper().unwrap_or(5.0) + memory.durations.handover_of_leaving();
    let patience = if since < shows { 0.8 } else { 0.4 };
    if need.delay > patience * need.latency && snapshot.waits_for_sure && enough_for_more && !gaining {
        let twice = current.max(1).saturating_mul(2);
        let above = need.stairs.above(current);
        need.wanted = Some(twice);
        need.catch_up = true;
        need.need = Some(above.map_or(current, |above| need.stairs.snap(twice).max(above)));
        need.unmet = above.is_none();
        return;
    }
    let Some(below) = need.stairs.below(current) else { return };
    let target = need.stairs.snap(current);
    if target < current {
        need.keep = Some(target);
        return;
    }
    // A trial lasts for minutes: the noise of seconds does not count for or against it, but a rise of the arrivals does.
    let level = rates.half_minute.max(level / NOISE);
    // The trial asks for a third more of each worker, or for one stair.
    let at_most = if level > 0.0 { TRIAL * memory.stairs.share(current) } else { 2.0 * memory.stairs.share(current) };
    let mut below = below;
    while let Some(next) = need.stairs.below(below).filter(|next| memory.stairs.share(*next) <= at_most) {
        below = next;
    }
    let share = memory.stairs.share(below);
    let seen_to_do = memory.capacity.at_least().is_some_and(|least| share * level <= TRIAL * least);
    let paid = pays_for_trial(memory, settings, need, current, below);
    if !memory.trial.failed(memory.clock.now, below, level) && (seen_to_do || paid || level <= 0.0) {
        need.keep = Some(below);
    }
}

/// Returns whether the error budget pays for a trial that fails: records are late from when the queue has grown to the
/// objective until the trial is undone.
fn pays_for_trial(memory: &Memory, settings: &Settings, need: &Need, current: u32, below: u32) -> bool {
    let notice = memory.commit_interval.upper().unwrap_or(5.0) + 2.0 * memory.clock.interval;
    // At worst the present workers cannot process more than they do now.
    let over = memory.stairs.share(below) / memory.stairs.share(current).max(1e-12) - 1.0;
    let late_seconds = (notice + need.demand.reaction - need.latency / over.max(1e-9)).max(0.0);
    let budget = memory.attainment.budget(settings.percentile);
    budget.is_some_and(|budget| 0.5 * late_seconds * need.demand.level <= 0.6 * budget.records)
}

/// Returns the time that must pass between two changes so that their pauses spend no more than half of the error
/// budget, seconds; 0 where a pause is shorter than the objective (docs/design/algorithms.md#cost-of-a-pause).
pub(super) fn spacing(memory: &Memory, settings: &Settings, latency: f64) -> f64 {
    let over = (memory.durations.handover() - latency).max(0.0);
    // A change usually moves one in seven partitions, and a third of the capacity works off the backlog of the pause.
    let moved = if memory.durations.all_stop() { 1.0 } else { 0.15 };
    (over * moved / 0.3 / (0.5 * (1.0 - settings.percentile)).max(1e-6)).min(LONGEST_SPACING)
}
