//! More workers: what stands in the way, in order.

use super::super::contract::decision::{BoundBy, Confidence, Limit, Reason};
use super::{Case, Limited, size};

/// Demand so much above what a change under way was made for is more than noise.
const BEYOND: f64 = 1.08;
/// Most growth by one decision until capacity is known well.
const LEAP: u32 = 4;

impl Case<'_> {
    /// More workers, or what keeps them from being added. `None`: no more are needed.
    pub(crate) fn up(&self) -> Option<Limited> {
        let (memory, need, current) = (self.memory, self.need, self.current);
        let wanted = need.need?;
        if (wanted > current || need.unmet)
            && let Some(held) = self.bottleneck(need.wanted.unwrap_or(wanted))
        {
            return Some(held);
        }
        if wanted <= current {
            return None;
        }
        // While a change takes effect its backlog is its own doing: only demand beyond what it was made for counts.
        // What the last Up gave is seen first, if records waited for all then.
        if memory.bottleneck.pending(memory.clock.now) && self.snapshot.nearly_all_queued() {
            return Some(Limited::hold(current, Reason::InFlight, BoundBy::Objective));
        }
        if let Some(flight) = memory.in_flight() {
            let more = need.demand.upper > BEYOND * flight.demand && !need.catch_up;
            // A roll-out takes its time: not if it makes records late.
            let late_roll = flight.rolling && need.delay > need.latency;
            if !(more || late_roll) {
                return None;
            }
        }
        let limit = self.partition_limit();
        let reason = if need.catch_up { Reason::CatchUp } else { Reason::Growth };
        let bound_by = if limit.is_some() { BoundBy::Partitions } else { BoundBy::Objective };
        let up = Limited { desired: wanted, reason, bound_by, limit, because: None };
        Some(self.prevented(wanted, reason).unwrap_or_else(|| self.stepped(up, wanted)))
    }

    /// Something that the workers share is the limit: no more of them, and those that gave nothing leave again.
    fn bottleneck(&self, wanted: u32) -> Option<Limited> {
        let (memory, current) = (self.memory, self.current);
        let found = memory.bottleneck.holds(memory.clock.now)?;
        let mut held = Limited::hold(current, Reason::ExternalBottleneck, BoundBy::Objective)
            .with_limit(Some((Limit::ExternalBottleneck, wanted.max(current))));
        if current > found.workers && memory.in_flight().is_none() && self.snapshot.gap.is_none() {
            held.desired = found.workers;
        }
        Some(held)
    }

    /// What keeps more workers from being added at all: the first that holds.
    fn prevented(&self, wanted: u32, reason: Reason) -> Option<Limited> {
        let (memory, need, current) = (self.memory, self.need, self.current);
        let now = memory.clock.now;
        let held =
            |reason, bound_by, limit| Some(Limited::hold(current, reason, bound_by).with_limit(Some((limit, wanted))));
        let pods = self.observation.replicas.existing.unwrap_or(current);
        let many = |count: Option<u32>| count.is_some_and(|n| n > 0 && n >= (pods / 4).max(1));
        let limits = self.observation.limits;
        if many(limits.crash_looping) {
            return held(Reason::CrashLooping, BoundBy::Objective, Limit::CrashLooping);
        }
        if many(limits.failing) {
            return held(reason, BoundBy::Granted, Limit::PodsFailing);
        }
        if limits.unschedulable.is_some_and(|n| n > 0) {
            return held(reason, BoundBy::Granted, Limit::Unschedulable);
        }
        // An Up that did not arrive is not repeated, larger.
        let missing = self.observation.replicas.ready.map(|ready| current.saturating_sub(ready));
        let patience = 3.0 * memory.durations.start_up() + memory.durations.handover();
        let long = memory.changes.unready_since.is_some_and(|since| now - since > patience.max(60.0));
        if long && many(missing) {
            return held(reason, BoundBy::Granted, Limit::PodsNotReady);
        }
        let budget = self.settings.max_rescales_per_hour;
        if memory.changes.rescales_last_hour(now) >= budget && !need.urgent {
            return held(reason, BoundBy::RescaleBudget, Limit::RescaleBudget);
        }
        None
    }

    /// The step limits.
    fn stepped(&self, mut up: Limited, wanted: u32) -> Limited {
        let (memory, need, current) = (self.memory, self.need, self.current);
        let leap = (memory.capacity.confidence() < Confidence::Medium).then(|| current.saturating_mul(LEAP));
        let probe = memory.bottleneck.probe().map(|most| most.max(current));
        let step =
            self.settings.max_step_up.filter(|_| !need.urgent).map(|step| current.saturating_add(size(step, current)));
        let most = leap.into_iter().chain(probe).chain(step).min().filter(|most| *most < wanted);
        if let Some(most) = most {
            // A step onto a stair that gives nothing is no step.
            up.desired = need.stairs.snap(most);
            if up.desired <= current {
                up.desired = need.stairs.above(current).unwrap_or(most).min(wanted);
            }
            up.bound_by = BoundBy::StepLimit;
            up.limit = Some((Limit::StepLimit, wanted));
        }
        up
    }
}
