//! Table of contents of a decision.

use super::decision::{Action, BoundBy, Confidence, Decision, Limit};
use super::guard::{self, Case, Verdict};
use super::memory::Memory;
use super::observation::Observation;
use super::settings::Settings;
use super::units::Seconds;
use super::{bottleneck, explain, learning, look, message, plan};

/// Decides how many workers a job should have.
///
/// Pure: the same memory, observation and settings give the same decision, byte for byte. `memory` carries what was
/// learned; nothing else survives between calls. Never panics, whatever the numbers.
pub fn decide(memory: &mut Memory, observation: &Observation, settings: &Settings) -> Decision {
    // What is the case?
    let now = memory.meet(observation.at.0);
    let schedule = memory.calendar.bounds(&settings.schedules, now);
    learning::meet_replicas(memory, observation);
    let view = look::look(memory, observation, settings);

    // What is needed, and what is allowed?
    let plan = plan::plan(memory, &view, settings, observation.replicas.desired);
    let range = guard::range(settings, observation, &schedule);
    let case = observation.replicas.desired.map(|current| Case {
        memory,
        observation,
        settings,
        view: &view,
        plan: &plan,
        range,
        current,
    });
    let mut decision = match &case {
        Some(case) => answer(case),
        None => unknown(),
    };
    decision.at = Seconds(now);
    decision.within_target = explain::within_target(memory, &view, &plan, settings);
    decision.explain = explain::explain(memory, &view, &plan, range, settings);

    // What did it teach?
    if decision.action == Action::Up
        && let (Some(from), Some(to)) = (observation.replicas.desired, decision.desired)
    {
        bottleneck::watch(memory, &view, from, to);
    }
    if decision.action != Action::Hold {
        memory.decided_demand = plan.demand.upper;
        // Held back for want of knowledge: the rest may follow as soon as there is more of it.
        let leap = decision.bound_by == BoundBy::StepLimit && memory.capacity.confidence() < Confidence::High;
        if let (true, Some(mu), Some(to)) = (leap, plan.mu, decision.desired) {
            memory.decided_demand = plan.stairs.capacity(to, mu).min(plan.demand.upper);
        }
    }
    learning::learn(memory, observation, settings, &view, &plan);
    decision
}

fn answer(case: &Case<'_>) -> Decision {
    let free = case.free();
    let held = case.held(&free);
    let Verdict { desired, reason, bound_by, limit, .. } = held;
    Decision {
        desired: Some(desired),
        recommended: Some(free.desired),
        action: guard::direction(desired, case.current),
        reason,
        bound_by,
        message: message::sentence(case, &held),
        limited: limit.or_else(|| stuck(case, desired)).map(|(by, wanted)| message::limited(case, by, wanted, desired)),
        ..Decision::default()
    }
}

/// A partition that stands still is said even when nobody else is wanted: no number of workers helps it.
fn stuck(case: &Case<'_>, desired: u32) -> Option<(Limit, u32)> {
    (!case.view.stuck.is_empty()).then_some((Limit::PartitionStuck, desired))
}

/// How many workers the workload asks for is not known: nothing is written (law 9).
fn unknown() -> Decision {
    Decision { message: "how many workers the workload asks for is not known".to_owned(), ..Decision::default() }
}
