//! What limits what, first wins: suspend > pinned > ceiling > floor > mode > scaling.
//!
//! Scaling itself (`scale_up`, `scale_down`) knows the useful numbers, the step limits and the rescale budget. No worker
//! leaves while anything is unknown, and an Up needs a reason.

pub(crate) mod scale_down;
pub(crate) mod scale_up;
pub(crate) mod schedule;

use super::contract::decision::{Action, BoundBy, Limit, Reason};
use super::contract::observation::Observation;
use super::contract::settings::{Mode, Settings, Step};
use super::model::memory::Memory;
use super::observe::snapshot::Snapshot;
use super::plan::Need;
use schedule::Bounds;
use sluice_base::num;

/// Most workers of the first wake-up while capacity is not known well.
const FIRST: u32 = 4;

/// A number of workers and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limited {
    pub(crate) desired: u32,
    pub(crate) reason: Reason,
    pub(crate) bound_by: BoundBy,
    /// Why not more, and how many were wanted.
    pub(crate) limit: Option<(Limit, u32)>,
    /// What keeps it from being otherwise, for the message.
    pub(crate) because: Option<String>,
}

impl Limited {
    pub(crate) fn hold(current: u32, reason: Reason, bound_by: BoundBy) -> Self {
        Self { desired: current, reason, bound_by, limit: None, because: None }
    }

    pub(crate) fn with_limit(self, limit: Option<(Limit, u32)>) -> Self {
        Self { limit, ..self }
    }

    pub(crate) fn because(self, why: impl Into<String>) -> Self {
        Self { because: Some(why.into()), ..self }
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

/// Everything that a number is chosen from.
pub(crate) struct Case<'a> {
    pub(crate) memory: &'a Memory,
    pub(crate) observation: &'a Observation,
    pub(crate) settings: &'a Settings,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) need: &'a Need,
    pub(crate) range: Range,
    pub(crate) current: u32,
}

impl Case<'_> {
    /// The number as if mode and `spec.replicas` did not hold it back.
    pub(crate) fn free(&self) -> Limited {
        let mut wish = self.wish();
        let given = wish.desired.clamp(self.range.floor, self.range.ceiling);
        let wanted = wish.desired.max(if self.need.unmet { 0 } else { self.need.wanted.unwrap_or(0) });
        if given >= self.range.ceiling && wanted > given && (wanted > self.current || given < wish.desired) {
            wish.bound_by = self.range.ceiling_by;
            if self.need.need.is_none_or(|need| need > given) {
                wish.limit = Some((self.ceiling_limit(), wanted));
            }
        }
        if given < self.current.min(wish.desired) {
            wish.reason = Reason::Ceiling;
        } else if given > wish.desired {
            wish.bound_by = self.range.floor_by;
            if given > self.current {
                wish.reason = Reason::Floor;
            }
        }
        wish.desired = given;
        wish
    }

    /// The number with `spec.suspend`, `spec.replicas` and `scaling.mode`.
    pub(crate) fn held(&self, free: &Limited) -> Limited {
        let (settings, current) = (self.settings, self.current);
        if settings.suspend {
            return Limited::hold(0, Reason::Suspended, BoundBy::Suspend);
        }
        if let Some(pinned) = settings.pinned {
            return Limited::hold(pinned, Reason::Pinned, BoundBy::Pinned).with_limit(free.limit);
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
            return Limited::hold(bound, reason, bound_by).with_limit(free.limit);
        }
        let limit = match settings.mode {
            Mode::OutOnly => Some((Limit::OutOnly, free.desired)),
            Mode::InOnly => Some((Limit::InOnly, free.desired)),
            Mode::Auto | Mode::Recommend => free.limit,
        };
        Limited { desired: current, bound_by: BoundBy::Mode, limit, ..free.clone() }
    }

    fn ceiling_limit(&self) -> Limit {
        if self.range.ceiling_by == BoundBy::Granted { Limit::QuotaExceeded } else { Limit::AtMaxReplicas }
    }

    /// What the signals ask for, before floor and ceiling.
    fn wish(&self) -> Limited {
        if !self.snapshot.fresh {
            return self.blind();
        }
        if self.current == 0 {
            return self.asleep();
        }
        if self.stalled() {
            return Limited::hold(self.current, Reason::Stalled, BoundBy::Signal);
        }
        self.up().unwrap_or_else(|| self.down())
    }

    /// No signal at all: what there is stays; after a while at least the fallback.
    fn blind(&self) -> Limited {
        let clock = &self.memory.clock;
        let fallback =
            self.settings.fallback_replicas.filter(|_| clock.now - clock.seen_at >= self.settings.fallback_after.0);
        match fallback {
            Some(replicas) => Limited::hold(self.current.max(replicas), Reason::Fallback, BoundBy::Signal),
            None => Limited::hold(self.current, Reason::NoSignal, BoundBy::Signal),
        }
    }

    /// No workers: records that wait wake the job at once.
    fn asleep(&self) -> Limited {
        if !self.snapshot.waits || self.only_assumed() {
            return Limited::hold(0, Reason::Idle, BoundBy::Objective);
        }
        let most = if self.memory.trusts_capacity() { u32::MAX } else { FIRST };
        let need = self.need.need.unwrap_or(1).clamp(1, most);
        Limited::hold(need, Reason::WakeUp, BoundBy::Objective)
    }

    /// Records are only assumed to wait: the group has no commit, and nothing has arrived since the watch began.
    fn only_assumed(&self) -> bool {
        let possible = self.snapshot.lag.is_some_and(|lag| lag.possible >= 1.0);
        !possible
    }

    /// The workers run and do nothing although records wait and arrive, and none of them says that it works.
    fn stalled(&self) -> bool {
        const STALL: f64 = 30.0;
        let memory = self.memory;
        let longest =
            STALL.max(3.0 * memory.commit_interval.upper().unwrap_or(0.0)).max(3.0 * memory.progress.usual_gap());
        self.snapshot.waits
            && self.snapshot.rates.is_some_and(|r| r.half_minute > 0.0)
            && memory.progress.still_since.is_some_and(|since| memory.clock.now - since >= longest)
    }

    /// More were wanted than the partitions can feed.
    pub(crate) fn partition_limit(&self) -> Option<(Limit, u32)> {
        let (need, useful) = (self.need, self.need.stairs.useful()?);
        if !need.unmet {
            return None;
        }
        let wanted = need.wanted.unwrap_or(useful).max(useful.saturating_add(1));
        // All partitions alike would share the load at 1/P each.
        let even = need.stairs.partitions().map_or(0.0, |p| 1.0 / f64::from(p));
        let hot = need.stairs.top() > 2.0 * even && need.stairs.top() * need.demand.level > need.mu.unwrap_or(f64::MAX);
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
