//! What limits what, first wins: suspend > pinned > ceiling > floor > mode > useful workers > steps and rescale budget.
//!
//! Also the safety table (algorithms.md C8): nobody leaves while anything is unknown, and an Up needs a reason.

use super::decision::{Action, BoundBy, Confidence, Limit, Reason};
use super::look::View;
use super::memory::Memory;
use super::num;
use super::observation::Observation;
use super::plan::Plan;
use super::schedule::Bounds;
use super::settings::{Mode, Settings, Step};
use super::workers;

/// Demand so much above what a change under way was made for is more than noise.
const BEYOND: f64 = 1.04;
/// Most growth by one decision until capacity is known well.
const LEAP: u32 = 4;

/// A number of workers and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) desired: u32,
    pub(crate) reason: Reason,
    pub(crate) bound_by: BoundBy,
    /// Why not more, and how many were wanted.
    pub(crate) limit: Option<(Limit, u32)>,
    /// What keeps it from being otherwise, for the message.
    pub(crate) because: Option<String>,
}

impl Verdict {
    pub(crate) fn hold(current: u32, reason: Reason, bound_by: BoundBy) -> Self {
        Self { desired: current, reason, bound_by, limit: None, because: None }
    }
}

/// Lowest and highest number of workers now, and what sets them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) floor: u32,
    pub(crate) ceiling: u32,
    pub(crate) floor_by: BoundBy,
    pub(crate) ceiling_by: BoundBy,
}

/// The ceiling wins over the floor.
pub(crate) fn range(settings: &Settings, observation: &Observation, schedule: &Bounds) -> Range {
    let (mut ceiling, mut ceiling_by) = (settings.max_replicas, BoundBy::MaxReplicas);
    for (limit, by) in [(schedule.ceiling, BoundBy::Schedule), (observation.limits.granted, BoundBy::Granted)] {
        if let Some(limit) = limit.filter(|l| *l < ceiling) {
            (ceiling, ceiling_by) = (limit, by);
        }
    }
    let (mut floor, mut floor_by) = (settings.min_replicas, BoundBy::MinReplicas);
    if let Some(limit) = schedule.floor.filter(|l| *l > floor) {
        (floor, floor_by) = (limit, BoundBy::Schedule);
    }
    Range { floor: floor.min(ceiling), ceiling, floor_by, ceiling_by }
}

/// Everything that a verdict is made from.
pub(crate) struct Case<'a> {
    pub(crate) memory: &'a Memory,
    pub(crate) observation: &'a Observation,
    pub(crate) settings: &'a Settings,
    pub(crate) view: &'a View,
    pub(crate) plan: &'a Plan,
    pub(crate) range: Range,
    pub(crate) current: u32,
}

impl Case<'_> {
    /// The verdict as if mode and `spec.replicas` did not hold it back.
    pub(crate) fn free(&self) -> Verdict {
        let mut verdict = self.wish();
        let given = verdict.desired.clamp(self.range.floor, self.range.ceiling);
        let wanted = verdict.desired.max(if self.plan.unmet { 0 } else { self.plan.wanted.unwrap_or(0) });
        if given >= self.range.ceiling && wanted > given && (wanted > self.current || given < verdict.desired) {
            verdict.bound_by = self.range.ceiling_by;
            if self.plan.need.is_none_or(|need| need > given) {
                verdict.limit = Some((self.ceiling_limit(), wanted));
            }
        }
        if given < self.current.min(verdict.desired) {
            verdict.reason = Reason::Ceiling;
        } else if given > verdict.desired {
            verdict.bound_by = self.range.floor_by;
            if given > self.current {
                verdict.reason = Reason::Floor;
            }
        }
        verdict.desired = given;
        verdict
    }

    /// The verdict with `spec.suspend`, `spec.replicas` and `scaling.mode`.
    pub(crate) fn held(&self, free: &Verdict) -> Verdict {
        let (settings, current) = (self.settings, self.current);
        if settings.suspend {
            return Verdict::hold(0, Reason::Suspended, BoundBy::Suspend);
        }
        if let Some(pinned) = settings.pinned {
            return Verdict { limit: free.limit, ..Verdict::hold(pinned, Reason::Pinned, BoundBy::Pinned) };
        }
        let blocked = match free.desired.cmp(&current) {
            std::cmp::Ordering::Greater => !allows_up(settings.mode),
            std::cmp::Ordering::Less => !allows_down(settings.mode),
            std::cmp::Ordering::Equal => false,
        };
        if !blocked {
            return free.clone();
        }
        // Floor and ceiling come before the mode, except that Recommend changes nothing at all.
        let bound = current.clamp(self.range.floor, self.range.ceiling);
        if settings.mode != Mode::Recommend && bound != current {
            let (reason, bound_by) = if bound > current {
                (Reason::Floor, self.range.floor_by)
            } else {
                (Reason::Ceiling, self.range.ceiling_by)
            };
            return Verdict { limit: free.limit, ..Verdict::hold(bound, reason, bound_by) };
        }
        let limit = match settings.mode {
            Mode::OutOnly => Some((Limit::OutOnly, free.desired)),
            Mode::InOnly => Some((Limit::InOnly, free.desired)),
            Mode::Auto | Mode::Recommend => free.limit,
        };
        Verdict { desired: current, bound_by: BoundBy::Mode, limit, ..free.clone() }
    }

    fn ceiling_limit(&self) -> Limit {
        if self.range.ceiling_by == BoundBy::Granted { Limit::QuotaExceeded } else { Limit::AtMaxReplicas }
    }

    /// What the signals ask for, before floor and ceiling.
    fn wish(&self) -> Verdict {
        let (view, current) = (self.view, self.current);
        if !view.fresh {
            return self.blind();
        }
        if current == 0 {
            return self.asleep();
        }
        if workers::stalled(self.memory, view) {
            return Verdict::hold(current, Reason::Stalled, BoundBy::Signal);
        }
        if let Some(up) = self.up() {
            return up;
        }
        self.down()
    }

    /// No signal at all: what there is stays; after a while at least the fallback.
    fn blind(&self) -> Verdict {
        let fallback = self
            .settings
            .fallback_replicas
            .filter(|_| self.memory.now - self.memory.seen_at >= self.settings.fallback_after.0);
        match fallback {
            Some(replicas) => Verdict::hold(self.current.max(replicas), Reason::Fallback, BoundBy::Signal),
            None => Verdict::hold(self.current, Reason::NoSignal, BoundBy::Signal),
        }
    }

    /// No workers: records that wait wake the job at once.
    fn asleep(&self) -> Verdict {
        if !self.view.waiting {
            return Verdict::hold(0, Reason::Idle, BoundBy::Objective);
        }
        let most = if self.memory.capacity.confidence() < Confidence::High { LEAP } else { u32::MAX };
        let need = self.plan.need.unwrap_or(1).clamp(1, most);
        Verdict::hold(need, Reason::WakeUp, BoundBy::Objective)
    }

    fn up(&self) -> Option<Verdict> {
        let (memory, plan, current) = (self.memory, self.plan, self.current);
        // While a change takes effect its backlog is its own doing: only demand beyond what it was made for counts.
        let need = match memory.in_flight() {
            Some(flight) if plan.demand.expected > BEYOND * flight.demand => plan.need?,
            // A roll-out takes its time: not if it makes records late.
            Some(flight) if flight.rolling && self.view.age > Some(plan.latency) => plan.need?,
            Some(_) => current,
            None => plan.need?,
        };
        let need = plan.worth.map_or(need, |worth| need.min(worth));
        let limit = self.partition_limit();
        if need <= current {
            return None;
        }
        let calm = self.view.settled_age < 0.1 * plan.latency;
        let reason = if calm || plan.for_demand >= Some(need) { Reason::Growth } else { Reason::CatchUp };
        let mut up = Verdict { desired: need, reason, bound_by: BoundBy::Objective, limit, because: None };
        if limit.is_some() {
            up.bound_by = BoundBy::Partitions;
        }
        let held = |reason, bound_by, limit| Verdict {
            limit: Some((limit, need)),
            ..Verdict::hold(current, reason, bound_by)
        };
        let limits = self.observation.limits;
        let pods = self.observation.replicas.existing.unwrap_or(current);
        // What the last Up gave is seen first, if everybody was behind then.
        if memory.flight.is_none() && memory.bottleneck.pending() {
            return Some(Verdict::hold(current, Reason::InFlight, BoundBy::Objective));
        }
        if let Some(found) = memory.bottleneck.holds(memory.now) {
            let mut held = held(Reason::ExternalBottleneck, BoundBy::Objective, Limit::ExternalBottleneck);
            // The Up that gave nothing is undone, once.
            if current > found.workers && memory.flight.is_none() && self.view.gap.is_none() {
                held.desired = found.workers;
            }
            return Some(held);
        }
        if limits.crash_looping.is_some_and(|n| n > 0 && n >= (pods / 4).max(1)) {
            return Some(held(Reason::CrashLooping, BoundBy::Objective, Limit::CrashLooping));
        }
        if limits.unschedulable.is_some_and(|n| n > 0) {
            return Some(held(reason, BoundBy::Granted, Limit::Unschedulable));
        }
        let confidence = memory.capacity.confidence();
        // A guess from before a restart alone moves nobody: records must be seen to wait.
        if confidence < Confidence::Medium && plan.mu.is_some() && self.view.settled_age < 0.1 * plan.latency {
            return Some(Verdict::hold(current, Reason::Learning, BoundBy::Signal));
        }
        if memory.rescales_last_hour() >= self.settings.max_rescales_per_hour && !plan.urgent {
            return Some(held(reason, BoundBy::RescaleBudget, Limit::RescaleBudget));
        }
        let leap = (confidence < Confidence::High).then(|| current.saturating_mul(LEAP));
        let leap = leap.into_iter().chain(memory.bottleneck.probe().map(|most| most.max(current))).min();
        let step =
            self.settings.max_step_up.filter(|_| !plan.urgent).map(|step| current.saturating_add(size(step, current)));
        if let Some(most) = leap.into_iter().chain(step).min().filter(|most| *most < need) {
            // A step onto a stair that gives nothing is no step.
            up.desired = plan.stairs.snap(most).max(current);
            up.bound_by = BoundBy::StepLimit;
            up.limit = Some((Limit::StepLimit, need));
            if up.desired == current {
                up.desired = most;
            }
        }
        Some(up)
    }

    /// More were wanted than the partitions can feed.
    pub(crate) fn partition_limit(&self) -> Option<(Limit, u32)> {
        let (plan, useful) = (self.plan, self.plan.stairs.useful()?);
        if !plan.unmet {
            return None;
        }
        let wanted = plan.wanted.unwrap_or(useful).max(useful.saturating_add(1));
        // All partitions alike would share the load at 1/P each.
        let even = plan.stairs.partitions().map_or(0.0, |p| 1.0 / f64::from(p));
        let hot = plan.stairs.share(useful) > 2.0 * even
            && plan.stairs.share(useful) * plan.demand.level > plan.mu.unwrap_or(f64::MAX);
        Some((if hot { Limit::Skewed } else { Limit::AtPartitionCount }, wanted))
    }
}

/// Workers that a step may be at most; a share is rounded up, as the HPA does.
pub(crate) fn size(step: Step, current: u32) -> u32 {
    match step {
        Step::Workers(workers) => workers.max(1),
        Step::Percent(percent) => num::ceil_u32(f64::from(current) * f64::from(percent) / 100.0).max(1),
    }
}

/// Direction of a change.
pub(crate) fn direction(desired: u32, current: u32) -> Action {
    match desired.cmp(&current) {
        std::cmp::Ordering::Greater => Action::Up,
        std::cmp::Ordering::Less => Action::Down,
        std::cmp::Ordering::Equal => Action::Hold,
    }
}

fn allows_up(mode: Mode) -> bool {
    matches!(mode, Mode::Auto | Mode::OutOnly)
}

fn allows_down(mode: Mode) -> bool {
    matches!(mode, Mode::Auto | Mode::InOnly)
}
