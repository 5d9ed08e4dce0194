//! Limits the number of workers. The first of these wins: suspend > pinned > ceiling > floor > mode > scaling.
//!
//! Scaling itself (`scale_up`, `scale_down`) applies the useful numbers of workers, the step limits and the rescale
//! budget. No worker is removed while anything is unknown, and a scale-up needs a reason.

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

/// Most workers that are started from zero while capacity is not known well.
const MOST_FROM_ZERO: u32 = 4;

/// A proposed number of workers, and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposal {
    pub(crate) desired: u32,
    pub(crate) reason: Reason,
    pub(crate) bound_by: BoundBy,
    /// The limit that prevents more workers, and how many were wanted.
    pub(crate) limit: Option<(Limit, u32)>,
    /// Why the number is not a different one, for the message.
    pub(crate) because: Option<String>,
}

impl Proposal {
    pub(crate) fn new(desired: u32, reason: Reason, bound_by: BoundBy) -> Self {
        Self { desired, reason, bound_by, limit: None, because: None }
    }

    pub(crate) fn with_limit(self, limit: Option<(Limit, u32)>) -> Self {
        Self { limit, ..self }
    }

    pub(crate) fn because(self, why: impl Into<String>) -> Self {
        Self { because: Some(why.into()), ..self }
    }
}

/// Lowest and highest number of workers allowed now, and what sets them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) floor: u32,
    pub(crate) ceiling: u32,
    pub(crate) floor_by: BoundBy,
    pub(crate) ceiling_by: BoundBy,
}

/// Returns the allowed range; where floor and ceiling contradict each other, the ceiling wins.
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

/// Everything that the number of workers is chosen from.
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
    /// Returns the number that Sluice recommends: without `spec.suspend`, `spec.replicas` and `scaling.mode`.
    pub(crate) fn recommendation(&self) -> Proposal {
        let mut wish = self.by_signals();
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

    /// Applies `spec.suspend`, `spec.replicas` and `scaling.mode` to the recommendation.
    pub(crate) fn apply_overrides(&self, recommendation: &Proposal) -> Proposal {
        let (settings, current) = (self.settings, self.current);
        if settings.suspend {
            return Proposal::new(0, Reason::Suspended, BoundBy::Suspend);
        }
        if let Some(pinned) = settings.pinned {
            return Proposal::new(pinned, Reason::Pinned, BoundBy::Pinned).with_limit(recommendation.limit);
        }
        let blocked = match recommendation.desired.cmp(&current) {
            std::cmp::Ordering::Greater => !allows_up(settings.mode),
            std::cmp::Ordering::Less => !allows_down(settings.mode),
            std::cmp::Ordering::Equal => false,
        };
        if !blocked {
            return recommendation.clone();
        }
        // Floor and ceiling take precedence over the mode, except for Recommend, which changes nothing at all.
        let bound = current.clamp(self.range.floor, self.range.ceiling);
        if settings.mode != Mode::Recommend && bound != current {
            let (reason, bound_by) = if bound > current {
                (Reason::Floor, self.range.floor_by)
            } else {
                (Reason::Ceiling, self.range.ceiling_by)
            };
            return Proposal::new(bound, reason, bound_by).with_limit(recommendation.limit);
        }
        let limit = match settings.mode {
            Mode::OutOnly => Some((Limit::OutOnly, recommendation.desired)),
            Mode::InOnly => Some((Limit::InOnly, recommendation.desired)),
            Mode::Auto | Mode::Recommend => recommendation.limit,
        };
        Proposal { desired: current, bound_by: BoundBy::Mode, limit, ..recommendation.clone() }
    }

    fn ceiling_limit(&self) -> Limit {
        if self.range.ceiling_by == BoundBy::Granted { Limit::QuotaExceeded } else { Limit::AtMaxReplicas }
    }

    /// Returns the number that the signals ask for, before floor and ceiling.
    fn by_signals(&self) -> Proposal {
        if !self.snapshot.fresh {
            return self.without_signal();
        }
        if self.current == 0 {
            return self.at_zero_workers();
        }
        if self.stalled() {
            return Proposal::new(self.current, Reason::Stalled, BoundBy::Signal);
        }
        self.scale_up().unwrap_or_else(|| self.scale_down())
    }

    /// Without any signal: keeps the present workers, and after `fallbackAfter` at least the fallback replica count.
    fn without_signal(&self) -> Proposal {
        let clock = &self.memory.clock;
        let fallback =
            self.settings.fallback_replicas.filter(|_| clock.now - clock.seen_at >= self.settings.fallback_after.0);
        match fallback {
            Some(replicas) => Proposal::new(self.current.max(replicas), Reason::Fallback, BoundBy::Signal),
            None => Proposal::new(self.current, Reason::NoSignal, BoundBy::Signal),
        }
    }

    /// Without workers: starts some as soon as records wait.
    fn at_zero_workers(&self) -> Proposal {
        if !self.snapshot.waits || self.only_assumed() {
            return Proposal::new(0, Reason::Idle, BoundBy::Objective);
        }
        let most = if self.memory.trusts_capacity() { u32::MAX } else { MOST_FROM_ZERO };
        let need = self.need.need.unwrap_or(1).clamp(1, most);
        Proposal::new(need, Reason::WakeUp, BoundBy::Objective)
    }

    /// Returns whether no record is known to be able to wait, for example because the group has no commit and nothing has
    /// arrived since the watch began.
    fn only_assumed(&self) -> bool {
        !self.snapshot.lag.is_some_and(|lag| lag.possible >= 1.0)
    }

    /// Returns whether the workers do nothing although records wait and arrive, and none of them reports to be busy.
    fn stalled(&self) -> bool {
        const STALL: f64 = 30.0;
        let memory = self.memory;
        let longest =
            STALL.max(3.0 * memory.commit_interval.upper().unwrap_or(0.0)).max(3.0 * memory.progress.usual_gap());
        self.snapshot.waits
            && self.snapshot.rates.is_some_and(|r| r.half_minute > 0.0)
            && memory.progress.still_since.is_some_and(|since| memory.clock.now - since >= longest)
    }

    /// Returns the partition limit if more workers were wanted than the partitions can feed.
    pub(crate) fn partition_limit(&self) -> Option<(Limit, u32)> {
        let (need, useful) = (self.need, self.need.stairs.useful()?);
        if !need.unmet {
            return None;
        }
        let wanted = need.wanted.unwrap_or(useful).max(useful.saturating_add(1));
        // If all partitions were equal, each would receive 1/P of the load.
        let even = need.stairs.partitions().map_or(0.0, |p| 1.0 / f64::from(p));
        let hot = need.stairs.top() > 2.0 * even && need.stairs.top() * need.demand.level > need.mu.unwrap_or(f64::MAX);
        Some((if hot { Limit::Skewed } else { Limit::AtPartitionCount }, wanted))
    }
}

/// Returns the size of a step in workers; a percentage is rounded up, as the HPA does.
pub(crate) fn step_size(step: Step, current: u32) -> u32 {
    match step {
        Step::Workers(workers) => workers.max(1),
        Step::Percent(percent) => num::ceil_u32(f64::from(current) * f64::from(percent) / 100.0).max(1),
    }
}

/// Returns the direction of a change.
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
