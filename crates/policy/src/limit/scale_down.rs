//! Removes workers: if every signal is there, the job is calm and has been calm long enough, and the error budget pays
//! for the handover.

use super::super::contract::decision::{BoundBy, Limit, Reason};
use super::super::model::memory::Memory;
use super::super::plan::Need;
use super::{Case, Proposal, step_size};

/// Age of the oldest record up to which a voluntary scale-down is allowed, as a share of the objective.
const CALM: f64 = 0.3;
/// Share of the remaining error budget that one scale-down may spend.
const SPEND: f64 = 0.2;
/// Time for which fewer workers must have been enough, seconds.
const HOLD: f64 = 14.0;
/// The effect of a trial is visible after this share of the objective.
const SHOWS: f64 = 0.2;
/// Time without a scale-down after a restart, seconds: how arrivals vary is not known yet.
const JUST_BEGUN: f64 = 60.0;
/// Changes in an hour from which on wake-ups from zero are taken to be what overdraws the budget.
const OFTEN: u32 = 6;
/// Time after which workers that the partitions cannot feed are removed, seconds.
const USELESS_FOR: f64 = 60.0;

impl Case<'_> {
    /// Removes workers, or explains why none is removed.
    pub(crate) fn scale_down(&self) -> Proposal {
        let (memory, snapshot, need, current) = (self.memory, self.snapshot, self.need, self.current);
        let limit = self.partition_limit();
        let bound_by = if limit.is_some() { BoundBy::Partitions } else { BoundBy::Objective };
        let hold = |reason| Proposal::new(current, reason, bound_by).with_limit(limit);
        if let Some(gap) = &snapshot.gap {
            return Proposal::new(current, Reason::NoSignal, BoundBy::Signal).with_limit(limit).because(gap.clone());
        }
        let watched = memory.clock.watched();
        let settled = memory.in_flight().is_none();
        // Not a voluntary change: the partitions have not been able to feed these workers for `USELESS_FOR`.
        if let Some(useful) = need.stairs.useful().filter(|u| *u < current && watched >= USELESS_FOR && settled) {
            return Proposal::new(useful, Reason::Useless, BoundBy::Partitions).with_limit(limit);
        }
        if self.may_sleep() {
            return Proposal::new(0, Reason::Idle, BoundBy::Objective);
        }
        let Some(keep) = need.keep else { return hold(Reason::Learning) };
        if !settled {
            return hold(Reason::InFlight);
        }
        let keep = keep.min(current);
        if keep >= current {
            return hold(if need.mu.is_none() { Reason::Learning } else { Reason::Steady });
        }
        if watched < JUST_BEGUN {
            return hold(Reason::Stabilizing);
        }
        let (since, highest) = memory.changes.fewer_since.unwrap_or((memory.clock.now, current));
        if memory.clock.now - since < hold_seconds(memory, need) || highest >= current {
            return hold(Reason::Stabilizing);
        }
        self.voluntary_scale_down(keep.max(highest), limit)
    }

    /// Returns whether the job may go to zero: provably nothing arrives or waits, and going to zero keeps every
    /// promise.
    fn may_sleep(&self) -> bool {
        let memory = self.memory;
        let allowed = self.settings.min_replicas == 0 && self.range.floor == 0 && memory.in_flight().is_none();
        // Workers that have not begun to read cannot know of records that wait for them.
        let awake = !memory.changes.waking || self.snapshot.working.is_none_or(|working| working > 0);
        // Each return from zero is a change, and the records that cause it are late.
        let changes = memory.changes.rescales_last_hour(memory.clock.now);
        let budget = memory.attainment.budget(self.settings.percentile).is_none_or(|budget| budget.left > 0.0)
            || changes < OFTEN;
        let changes = changes < self.settings.max_rescales_per_hour;
        self.snapshot.idle && allowed && awake && budget && changes
    }

    /// Scales down if the job is calm now and the handover makes no more records late than the error budget allows.
    fn voluntary_scale_down(&self, keep: u32, limit: Option<(Limit, u32)>) -> Proposal {
        let (memory, snapshot, need, current) = (self.memory, self.snapshot, self.need, self.current);
        let wait =
            |why: &str| Proposal::new(current, Reason::Stabilizing, BoundBy::Objective).with_limit(limit).because(why);
        // Latency that no number of workers removes keeps no worker: the part that the commit interval explains is not
        // counted.
        let floor = self.settings.latency.0 - need.latency;
        if snapshot.settled_age.possible - floor >= CALM * need.latency + self.slack() {
            return wait("the oldest records are too old to remove a worker");
        }
        let changes = memory.changes.rescales_last_hour(memory.clock.now);
        if changes >= self.settings.max_rescales_per_hour {
            return Proposal { bound_by: BoundBy::RescaleBudget, ..wait("the changes allowed per hour are used up") };
        }
        let target = self.stepped_down(keep);
        if target >= current {
            return wait("the next useful number is more than one step down");
        }
        if current - target < self.worthwhile(changes) {
            return Proposal {
                bound_by: BoundBy::RescaleBudget,
                ..wait("the changes allowed per hour are nearly used up")
            };
        }
        let spare = memory.attainment.budget(self.settings.percentile).map_or(0.0, |budget| budget.records);
        if self.late_by_pause(target) > SPEND * spare.max(0.0) {
            return wait("the handover would make more records late than the error budget allows");
        }
        let bound_by = if target > keep { BoundBy::StepLimit } else { BoundBy::Objective };
        Proposal::new(target, Reason::LowerDemand, bound_by)
    }

    /// Returns the error of an age that is due to the time between samples, seconds.
    fn slack(&self) -> f64 {
        if self.snapshot.positioned { 0.0 } else { 2.5 * self.memory.clock.interval }
    }

    /// Applies the step limit: removes no more workers than it allows at once, but never stops at a number of workers
    /// that handles no more than a smaller one.
    fn stepped_down(&self, keep: u32) -> u32 {
        let (stairs, current) = (&self.need.stairs, self.current);
        let fewest = current.saturating_sub(step_size(self.settings.max_step_down, current)).max(1);
        let useful = stairs.snap(current);
        // Workers beyond the last stair handle nothing, so removing them does not count as a step.
        let next = if useful < current { useful } else { stairs.below(current).unwrap_or(current) };
        let mut target = next.max(keep);
        while let Some(below) = stairs.below(target).filter(|below| *below >= fewest.max(keep)) {
            target = below;
        }
        target
    }

    /// Returns how many workers a scale-down must free at least: usually one, and up to a quarter of them while the
    /// last changes of the hour are being used up.
    fn worthwhile(&self, used: u32) -> u32 {
        let most = self.settings.max_rescales_per_hour;
        let short = (2.0 * f64::from(used) / f64::from(most.max(1)) - 1.0).clamp(0.0, 1.0);
        sluice_base::num::ceil_u32(0.25 * short * f64::from(self.current)).max(1)
    }

    /// Returns how many records the handover of a scale-down makes late: (D + d0 - L)+ / (1 - rho) seconds of the
    /// arrivals that it moves (docs/design/algorithms.md#cost-of-a-pause).
    fn late_by_pause(&self, target: u32) -> f64 {
        let (need, memory) = (self.need, self.memory);
        let over = (memory.durations.handover() + need.delay - need.latency).max(0.0);
        if over <= 0.0 {
            return 0.0;
        }
        let capacity = need.mu.map_or(0.0, |mu| mu / memory.stairs.share(target));
        let idle = (1.0 - need.demand.upper / capacity.max(1e-9)).clamp(0.02, 1.0);
        // Where members hand partitions over one by one, only the partitions of the leaving workers stop.
        let one_by_one = memory.durations.all_stop.is_some_and(|all| all <= 0.5);
        let leaving = f64::from(self.current.saturating_sub(target)) / f64::from(self.current.max(1));
        // Staying makes no records late, because the job is calm now.
        need.demand.upper * over / idle * if one_by_one { leaving } else { 1.0 }
    }
}

/// Returns for how long fewer workers must have been enough, seconds. It is longer after a scale-down that had to be
/// undone, where changes must be rare, and where the next change rests on what the last one showed.
pub(crate) fn hold_seconds(memory: &Memory, need: &Need) -> f64 {
    let commits = memory.commit_interval.upper().unwrap_or(5.0);
    // With a long objective, records wait for long before they show that there are too few workers.
    let shows = (2.0 * need.demand.reaction + 2.0 * commits).max(60.0).max(SHOWS * need.latency);
    let trial = if need.trial { shows } else { 0.0 };
    // Removing a worker interrupts the record it is processing, and another worker starts that record again.
    let records = 2.0 * memory.capacity.seconds_per_record().unwrap_or(0.0);
    (HOLD * memory.caution.hold()).max(need.spacing).max(trial).max(records).max(4.0 * memory.clock.interval)
}
