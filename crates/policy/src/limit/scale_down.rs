//! Fewer workers: if everything is known, calm, has been so for a while, and the error budget pays for the handover.

use super::super::contract::decision::{BoundBy, Limit, Reason};
use super::super::model::memory::Memory;
use super::super::plan::Need;
use super::{Case, Limited, size};

/// The oldest record that still allows a voluntary Down, as a share of the objective.
const CALM: f64 = 0.3;
/// Share of the error budget that is left which one Down may spend.
const SPEND: f64 = 0.2;
/// Fewer must have been enough for this long, seconds.
const HOLD: f64 = 14.0;
/// A trial shows what it does within this share of the objective.
const SHOWS: f64 = 0.2;
/// After a restart nothing is known of how arrivals vary: no worker leaves for this long, seconds.
const JUST_BEGUN: f64 = 60.0;
/// Changes in an hour from which on it is the wake-ups that overdraw the budget.
const OFTEN: u32 = 6;
/// Workers that the partitions cannot feed leave after this long, seconds.
const USELESS_FOR: f64 = 60.0;

impl Case<'_> {
    /// Fewer workers, or why not.
    pub(crate) fn down(&self) -> Limited {
        let (memory, snapshot, need, current) = (self.memory, self.snapshot, self.need, self.current);
        let limit = self.partition_limit();
        let bound_by = if limit.is_some() { BoundBy::Partitions } else { BoundBy::Objective };
        let hold = |reason| Limited::hold(current, reason, bound_by).with_limit(limit);
        if let Some(gap) = &snapshot.gap {
            return Limited::hold(current, Reason::NoSignal, BoundBy::Signal).with_limit(limit).because(gap.clone());
        }
        let watched = memory.clock.watched();
        let settled = memory.in_flight().is_none();
        // Not voluntary: the partitions cannot feed them, and that has been so for a while.
        if let Some(useful) = need.stairs.useful().filter(|u| *u < current && watched >= USELESS_FOR && settled) {
            return Limited::hold(useful, Reason::Useless, BoundBy::Partitions).with_limit(limit);
        }
        if self.may_sleep() {
            return Limited::hold(0, Reason::Idle, BoundBy::Objective);
        }
        let Some(keep) = need.keep else { return hold(Reason::Learning) };
        if !settled {
            return hold(Reason::InFlight);
        }
        // Pods that never ran can go without a handover.
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
        self.voluntary(keep.max(highest), limit)
    }

    /// No record arrives and none waits, for sure; and sleeping does not break what was promised.
    fn may_sleep(&self) -> bool {
        let memory = self.memory;
        let allowed = self.settings.min_replicas == 0 && self.range.floor == 0 && memory.in_flight().is_none();
        // Workers that have not begun to read know nothing of records that wait for them.
        let awake = !memory.changes.waking || self.snapshot.working.is_none_or(|working| working > 0);
        // Each sleep is a change, and makes the records that wake the job late.
        let changes = memory.changes.rescales_last_hour(memory.clock.now);
        let budget = memory.attainment.budget(self.settings.percentile).is_none_or(|budget| budget.left > 0.0)
            || changes < OFTEN;
        let changes = changes < self.settings.max_rescales_per_hour;
        self.snapshot.idle && allowed && awake && budget && changes
    }

    /// Calm now, and the handover makes no more late records than there is budget for.
    fn voluntary(&self, keep: u32, limit: Option<(Limit, u32)>) -> Limited {
        let (memory, snapshot, need, current) = (self.memory, self.snapshot, self.need, self.current);
        let wait =
            |why: &str| Limited::hold(current, Reason::Stabilizing, BoundBy::Objective).with_limit(limit).because(why);
        // What no worker can remove keeps none: the age that the commit interval explains does not count.
        let floor = self.settings.latency.0 - need.latency;
        if snapshot.settled_age.possible - floor >= CALM * need.latency + self.slack() {
            return wait("records are too old to spare a worker");
        }
        let changes = memory.changes.rescales_last_hour(memory.clock.now);
        if changes >= self.settings.max_rescales_per_hour {
            return Limited { bound_by: BoundBy::RescaleBudget, ..wait("the changes of this hour are used up") };
        }
        let target = self.stepped_down(keep);
        if target >= current {
            return wait("the next step down is too far");
        }
        if current - target < self.worthwhile(changes) {
            return Limited { bound_by: BoundBy::RescaleBudget, ..wait("the changes of this hour are nearly used up") };
        }
        let spare = memory.attainment.budget(self.settings.percentile).map_or(0.0, |budget| budget.records);
        if self.late_by_pause(target) > SPEND * spare.max(0.0) {
            return wait("the handover would make more records late than the error budget has room for");
        }
        let bound_by = if target > keep { BoundBy::StepLimit } else { BoundBy::Objective };
        Limited::hold(target, Reason::LowerDemand, bound_by)
    }

    /// Seconds by which an age may be off because samples are apart.
    fn slack(&self) -> f64 {
        if self.snapshot.positioned { 0.0 } else { 2.5 * self.memory.clock.interval }
    }

    /// The step limit takes away no more than it says at once, but never stops on a number that serves no more than a
    /// smaller one.
    fn stepped_down(&self, keep: u32) -> u32 {
        let (stairs, current) = (&self.need.stairs, self.current);
        let fewest = current.saturating_sub(size(self.settings.max_step_down, current)).max(1);
        let useful = stairs.snap(current);
        // The workers beyond the last stair serve nothing: they are not counted as a step.
        let next = if useful < current { useful } else { stairs.below(current).unwrap_or(current) };
        let mut target = next.max(keep);
        while let Some(below) = stairs.below(target).filter(|below| *below >= fewest.max(keep)) {
            target = below;
        }
        target
    }

    /// Workers that a Down must free: one as a rule, up to a quarter while the last changes of the hour are used up.
    fn worthwhile(&self, used: u32) -> u32 {
        let most = self.settings.max_rescales_per_hour;
        let short = (2.0 * f64::from(used) / f64::from(most.max(1)) - 1.0).clamp(0.0, 1.0);
        sluice_base::num::ceil_u32(0.25 * short * f64::from(self.current)).max(1)
    }

    /// Late records that a Down's own handover makes: (D + d0 - L)+ / (1 - rho) seconds of the arrivals that it moves.
    fn late_by_pause(&self, target: u32) -> f64 {
        let (need, memory) = (self.need, self.memory);
        let over = (memory.durations.handover() + need.delay - need.latency).max(0.0);
        if over <= 0.0 {
            return 0.0;
        }
        let capacity = need.mu.map_or(0.0, |mu| mu / memory.stairs.share(target));
        let idle = (1.0 - need.demand.upper / capacity.max(1e-9)).clamp(0.02, 1.0);
        // Members that hand partitions over one by one stop those that the leaving workers had: their share.
        let one_by_one = memory.durations.all_stop.is_some_and(|all| all <= 0.5);
        let leaving = f64::from(self.current.saturating_sub(target)) / f64::from(self.current.max(1));
        // Staying makes no late records: it is calm now.
        need.demand.upper * over / idle * if one_by_one { leaving } else { 1.0 }
    }
}

/// For this long fewer must have been enough, seconds: longer where a Down had to be taken back, where a change is rare,
/// and where the next one rests on what the last one showed.
pub(crate) fn hold_seconds(memory: &Memory, need: &Need) -> f64 {
    let commits = memory.commit_interval.upper().unwrap_or(5.0);
    // A long objective lets records wait for long before a number shows that it is too few.
    let shows = (2.0 * need.demand.reaction + 2.0 * commits).max(60.0).max(SHOWS * need.latency);
    let trial = if need.trial { shows } else { 0.0 };
    // Removing a worker interrupts the record that it processes: another worker starts that record again.
    let records = 2.0 * memory.capacity.seconds_per_record().unwrap_or(0.0);
    (HOLD * memory.caution.hold()).max(need.spacing).max(trial).max(records).max(4.0 * memory.clock.interval)
}
