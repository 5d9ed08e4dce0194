//! Adds workers, unless one of the limits below prevents it.

use super::super::contract::decision::{BoundBy, Confidence, Limit, Reason};
use super::{Case, Proposal, step_size};

/// Demand above this multiple of what a change under way was planned for is more than noise.
const BEYOND_PLAN: f64 = 1.08;
/// Most growth by one decision until capacity is known well, as a multiple of the present workers.
const MOST_GROWTH: u32 = 4;

/// A scale-up that the signals ask for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    workers: u32,
    reason: Reason,
}

/// Checks one reason not to add workers. Returns the proposal that holds the present number if the reason applies.
type Obstacle = fn(&Case<'_>, Wanted) -> Option<Proposal>;

/// The obstacles to any scale-up, in the order in which they are checked: the first that applies is reported.
const OBSTACLES: [Obstacle; 5] = [crash_looping, pods_failing, unschedulable, pods_not_ready, rescale_budget_used_up];

impl Case<'_> {
    /// Adds workers, or explains what prevents it. Returns `None` if no more are needed.
    pub(crate) fn scale_up(&self) -> Option<Proposal> {
        let (memory, need, current) = (self.memory, self.need, self.current);
        let workers = need.need?;
        if (workers > current || need.unmet)
            && let Some(held) = self.external_bottleneck(need.wanted.unwrap_or(workers))
        {
            return Some(held);
        }
        if workers <= current {
            return None;
        }
        // While records wait for nearly all workers, the effect of the last scale-up is measured before the next one.
        if memory.bottleneck.pending(memory.clock.now) && self.snapshot.nearly_all_queued() {
            return Some(Proposal::new(current, Reason::InFlight, BoundBy::Objective));
        }
        // A change that is taking effect causes a backlog itself, so only demand beyond its plan counts.
        if let Some(flight) = memory.in_flight() {
            let more = need.demand.upper > BEYOND_PLAN * flight.demand && !need.catch_up;
            // A rollout takes long; it must not make records late.
            let late_rollout = flight.rolling && need.delay > need.latency;
            if !(more || late_rollout) {
                return None;
            }
        }
        let limit = self.partition_limit();
        let reason = if need.catch_up { Reason::CatchUp } else { Reason::Growth };
        let bound_by = if limit.is_some() { BoundBy::Partitions } else { BoundBy::Objective };
        let up = Proposal { desired: workers, reason, bound_by, limit, because: None };
        let wanted = Wanted { workers, reason };
        let held = OBSTACLES.iter().find_map(|obstacle| obstacle(self, wanted));
        Some(held.unwrap_or_else(|| self.limit_step(up)))
    }

    /// Adds no worker if something that all workers share is the bottleneck; the ones that gave nothing are removed
    /// again.
    fn external_bottleneck(&self, wanted: u32) -> Option<Proposal> {
        let (memory, current) = (self.memory, self.current);
        let found = memory.bottleneck.found(memory.clock.now)?;
        let mut held = Proposal::new(current, Reason::ExternalBottleneck, BoundBy::Objective)
            .with_limit(Some((Limit::ExternalBottleneck, wanted.max(current))));
        if current > found.workers && memory.in_flight().is_none() && self.snapshot.gap.is_none() {
            held.desired = found.workers;
        }
        Some(held)
    }

    /// Applies the step limits, of which the lowest counts.
    fn limit_step(&self, mut up: Proposal) -> Proposal {
        let wanted = up.desired;
        let (memory, need, current) = (self.memory, self.need, self.current);
        let unknown_capacity =
            (memory.capacity.confidence() < Confidence::Medium).then(|| current.saturating_mul(MOST_GROWTH));
        let after_bottleneck = memory.bottleneck.most_to_try().map(|most| most.max(current));
        let max_step_up = self
            .settings
            .max_step_up
            .filter(|_| !need.urgent)
            .map(|step| current.saturating_add(step_size(step, current)));
        let limits = [unknown_capacity, after_bottleneck, max_step_up];
        if let Some(most) = limits.into_iter().flatten().min().filter(|most| *most < wanted) {
            // A step must reach a number of workers that can do more than the present one.
            up.desired = need.stairs.snap(most);
            if up.desired <= current {
                up.desired = need.stairs.above(current).unwrap_or(most).min(wanted);
            }
            up.bound_by = BoundBy::StepLimit;
            up.limit = Some((Limit::StepLimit, wanted));
        }
        up
    }

    /// Returns whether this many pods are at least a quarter of all.
    fn is_many(&self, count: Option<u32>) -> bool {
        let pods = self.observation.replicas.existing.unwrap_or(self.current);
        count.is_some_and(|n| n > 0 && n >= (pods / 4).max(1))
    }

    fn hold(&self, reason: Reason, bound_by: BoundBy, limit: Limit, wanted: Wanted) -> Proposal {
        Proposal::new(self.current, reason, bound_by).with_limit(Some((limit, wanted.workers)))
    }
}

fn crash_looping(case: &Case<'_>, wanted: Wanted) -> Option<Proposal> {
    case.is_many(case.observation.limits.crash_looping)
        .then(|| case.hold(Reason::CrashLooping, BoundBy::Objective, Limit::CrashLooping, wanted))
}

fn pods_failing(case: &Case<'_>, wanted: Wanted) -> Option<Proposal> {
    case.is_many(case.observation.limits.failing)
        .then(|| case.hold(wanted.reason, BoundBy::Granted, Limit::PodsFailing, wanted))
}

fn unschedulable(case: &Case<'_>, wanted: Wanted) -> Option<Proposal> {
    let waiting = case.observation.limits.unschedulable.is_some_and(|n| n > 0);
    waiting.then(|| case.hold(wanted.reason, BoundBy::Granted, Limit::Unschedulable, wanted))
}

/// The workers of an earlier scale-up never became ready: asking for even more does not help.
fn pods_not_ready(case: &Case<'_>, wanted: Wanted) -> Option<Proposal> {
    let memory = case.memory;
    let missing = case.observation.replicas.ready.map(|ready| case.current.saturating_sub(ready));
    let patience = 3.0 * memory.durations.start_up() + memory.durations.handover();
    let long = memory.changes.unready_since.is_some_and(|since| memory.clock.now - since > patience.max(60.0));
    (long && case.is_many(missing)).then(|| case.hold(wanted.reason, BoundBy::Granted, Limit::PodsNotReady, wanted))
}

fn rescale_budget_used_up(case: &Case<'_>, wanted: Wanted) -> Option<Proposal> {
    let used = case.memory.changes.rescales_last_hour(case.memory.clock.now);
    (used >= case.settings.max_rescales_per_hour && !case.need.urgent)
        .then(|| case.hold(wanted.reason, BoundBy::RescaleBudget, Limit::RescaleBudget, wanted))
}
