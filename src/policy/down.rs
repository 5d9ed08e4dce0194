//! Fewer workers: if everything is known, calm, stays so, and the error budget pays for the handover.

use super::decision::{BoundBy, Limit, Reason};
use super::guard::{Case, Verdict, size};
use super::memory::Memory;
use super::num;
use super::pieces::Piece;

/// Lag's age that still allows a voluntary Down, as a share of the objective (law 8).
const CALM: f64 = 0.3;
/// Share of the spare error budget that one Down may spend.
const SPEND: f64 = 0.1;

impl Case<'_> {
    /// Fewer workers, if everything is known, calm, and stays so.
    pub(crate) fn down(&self) -> Verdict {
        let (memory, view, plan, current) = (self.memory, self.view, self.plan, self.current);
        let limit = self.partition_limit();
        let steady = |reason| Verdict {
            limit,
            ..Verdict::hold(current, reason, if limit.is_some() { BoundBy::Partitions } else { BoundBy::Objective })
        };
        let because = |reason, bound_by, why: String| Verdict {
            because: Some(why),
            limit,
            ..Verdict::hold(current, reason, bound_by)
        };
        if let Some(gap) = &view.gap {
            return because(Reason::NoSignal, BoundBy::Signal, gap.clone());
        }
        let window = down_window(memory);
        let watched = memory.now - memory.watching_since;
        // Not voluntary: the partitions cannot feed them, and that has been so for a while.
        if let Some(useful) =
            plan.stairs.useful().filter(|u| *u < current && watched >= 60.0 && memory.flight.is_none())
        {
            return Verdict { limit, ..Verdict::hold(useful, Reason::Useless, BoundBy::Partitions) };
        }
        if view.idle && self.settings.min_replicas == 0 && self.range.floor == 0 && memory.flight.is_none() {
            return Verdict::hold(0, Reason::Idle, BoundBy::Objective);
        }
        let (Some(keep), Some(highest)) = (plan.keep, memory.needs.highest()) else {
            let reason = if plan.need.is_none() || plan.mu.is_none() { Reason::Learning } else { Reason::Steady };
            return steady(reason);
        };
        if memory.in_flight().is_some() {
            return steady(Reason::InFlight);
        }
        if keep >= current {
            return steady(Reason::Steady);
        }
        // A trial waits twice as long, and looks at the last one first.
        let window = if plan.trial { 2.0 * window } else { window };
        let tried = plan.trial && memory.rescales.back().is_some_and(|t| memory.now - t < window);
        if watched < window || highest >= current || tried {
            return steady(Reason::Stabilizing);
        }
        let keep = memory.mistakes.least(memory.now, keep.max(highest), (plan.demand.level, memory.level_noise()));
        if keep >= current {
            return because(Reason::Stabilizing, BoundBy::Objective, "fewer have proved too few for this".to_owned());
        }
        self.voluntary(keep, limit)
    }

    /// Law 8: calm now, and the handover makes no more late records than there is budget for.
    fn voluntary(&self, keep: u32, limit: Option<(Limit, u32)>) -> Verdict {
        let (memory, view, plan, current) = (self.memory, self.view, self.plan, self.current);
        let wait = |why: &str| Verdict {
            because: Some(why.to_owned()),
            limit,
            ..Verdict::hold(current, Reason::Stabilizing, BoundBy::Objective)
        };
        let objective = self.settings.latency.0;
        let age = view.age.map_or(f64::INFINITY, |age| age.min(view.calm_age));
        // The pessimistic edge, less the saw-tooth that commits make of it.
        let high = view.calm_age - if view.certain { 0.0 } else { memory.commit_interval };
        if age >= CALM * objective || high >= CALM * objective || view.calm_overdue > 0.0 {
            return wait("records are too old to spare a worker");
        }
        if memory.rescales_last_hour() >= self.settings.max_rescales_per_hour {
            return Verdict { bound_by: BoundBy::RescaleBudget, ..wait("the changes of this hour are used up") };
        }
        // A mistaken trial leaves a quarter too little until it is mended: that must not make records late.
        if plan.trial && memory.handover.p90() + 0.3 * plan.reaction > 0.7 * plan.latency {
            return Verdict { reason: Reason::Learning, ..wait("what a worker can do is not known") };
        }
        let fewest = current.saturating_sub(size(self.settings.max_step_down, current));
        let mut target = keep.max(fewest).max(1);
        if plan.trial {
            target = target.max(plan.stairs.snap(current.saturating_sub(1)));
        }
        let stair = plan.stairs.snap(target);
        let next = plan.stairs.snap(current.saturating_sub(1)).max(keep);
        // On the staircase 23 to 13 of 24 are one step: a limit in between goes to its lower end.
        let target = if stair >= fewest.max(keep) {
            stair
        } else if target < current {
            target.min(next).max(keep)
        } else {
            current
        };
        let target = plan.stairs.snap(target).max(keep).max(1);
        if target >= current {
            return wait("the next step down is too far");
        }
        if current - target < self.worthwhile() {
            return Verdict { bound_by: BoundBy::RescaleBudget, ..wait("the changes of this hour are nearly used up") };
        }
        let (spare, _) = memory.attainment.budget(self.settings.percentile).unwrap_or((0.0, 1.0));
        if self.late_by_pause(age, target) > SPEND * spare.max(0.0) {
            return wait("the handover would make more records late than the error budget has room for");
        }
        let bound_by = if target > keep { BoundBy::StepLimit } else { BoundBy::Objective };
        Verdict { limit: None, ..Verdict::hold(target, Reason::LowerDemand, bound_by) }
    }

    /// Workers that a Down must free: one as a rule, up to a quarter while the last changes of the hour are used up.
    fn worthwhile(&self) -> u32 {
        let (used, most) = (self.memory.rescales_last_hour(), self.settings.max_rescales_per_hour);
        let short = (2.0 * f64::from(used) / f64::from(most.max(1)) - 1.0).clamp(0.0, 1.0);
        num::ceil_u32(0.25 * short * f64::from(self.current)).max(1)
    }

    /// Late records that a Down's own handover makes: (D + d0 - L)+ / (1 - rho) seconds of the arrivals that it moves (C6,
    /// rescale budget).
    fn late_by_pause(&self, age: f64, target: u32) -> f64 {
        let plan = self.plan;
        let over = (self.memory.careful().1 + age - plan.latency).max(0.0);
        if over <= 0.0 {
            return 0.0;
        }
        let capacity = plan.mu.map_or(0.0, |mu| plan.stairs.capacity(target, mu));
        let idle = (1.0 - plan.demand.upper / capacity.max(1e-9)).clamp(0.02, 1.0);
        // Who hands partitions over one by one stops those that the leaving workers had: their share, as all are alike.
        let one_by_one = self.view.sticky && self.memory.all_stop.is_some_and(|all| all <= 0.5);
        let leaving = f64::from(self.current.saturating_sub(target)) / f64::from(self.current.max(1));
        // Staying makes no late records: it is calm now.
        plan.demand.upper * over / idle * if one_by_one { leaving } else { 1.0 }
    }
}

/// So long must fewer workers have been enough, seconds: six times what a change takes, between half a minute and five
/// minutes. Changes that are cheap to undo may be made soon; dear ones must last.
pub(crate) fn down_window(memory: &Memory) -> f64 {
    let (start_up, handover) = memory.careful();
    let changes = (2.0 * (start_up + handover)).clamp(30.0, 300.0);
    (if memory.off.spares(Piece::WINDOW) { changes } else { 0.0 }).max(memory.dear)
}
