//! Table of contents of a decision.

use super::contract::decision::{Action, BoundBy, Confidence, Decision, Limit};
use super::contract::observation::Observation;
use super::contract::settings::Settings;
use super::limit::{self, Case};
use super::model::memory::Memory;
use super::observe::snapshot::{self, Snapshot};
use super::{explain, learn, plan};
use sluice_base::units::Seconds;

/// Decides how many workers a job should have.
///
/// Pure: the same memory, observation and settings give the same decision, byte for byte. `memory` carries what was
/// learned; nothing else survives between calls. Never panics, whatever the numbers.
pub fn decide(memory: &mut Memory, observation: &Observation, settings: &Settings) -> Decision {
    // What is the case?
    let now = memory.meet(observation.at.0);
    memory.meet_settings(settings);
    let schedule = memory.calendar.bounds(&settings.schedules, now);
    let shift = {
        let (clock, partitions) = (memory.clock, &memory.partitions);
        let mut owners: Vec<u64> = partitions.iter().map(|(_, track)| track.owner).filter(|o| *o != 0).collect();
        owners.sort_unstable();
        let owns = |hash: u64| (!owners.is_empty()).then(|| owners.binary_search(&hash).is_ok());
        memory.workers.read(observation, (clock.looks, now, clock.watching_since), settings.concurrency, owns)
    };
    let snapshot = snapshot::look(memory, observation, settings, &shift);
    learn::meet_replicas(memory, observation, &snapshot);

    // What is needed, and what is allowed?
    let desired = observation.replicas.desired;
    let need = plan::need(memory, &snapshot, settings, desired, working(memory, observation, &snapshot));
    let range = limit::range(settings, observation, &schedule);
    let case =
        desired.map(|current| Case { memory, observation, settings, snapshot: &snapshot, need: &need, range, current });
    let mut decision = match &case {
        Some(case) => answer(case),
        None => unknown(),
    };
    decision.at = Seconds(now);
    decision.within_target =
        explain::numbers::within_target(memory, &snapshot, observation.replicas.ready, &need, settings);
    decision.explain = explain::numbers::explain(memory, &snapshot, &need, range, settings);

    // What did it teach?
    if decision.action != Action::Hold {
        memory.changes.decided_demand = need.demand.upper;
        // Held back because too little is known: the rest may follow as soon as more is.
        let leap = decision.bound_by == BoundBy::StepLimit && memory.capacity.confidence() < Confidence::High;
        if let (true, Some(mu), Some(to)) = (leap, need.mu, decision.desired) {
            memory.changes.decided_demand = (mu / memory.stairs.share(to)).min(need.demand.upper);
        }
    }
    learn::learn(memory, observation, settings, &snapshot, &need, shift);
    decision
}

/// Workers that work now: those of which the group says so, or that are ready; as many as are asked for while it is not
/// known, or while a change is under way, which was planned with all of them.
fn working(memory: &Memory, observation: &Observation, snapshot: &Snapshot) -> u32 {
    let desired = observation.replicas.desired.unwrap_or(0);
    if memory.in_flight().is_some() {
        return desired;
    }
    let useful = memory.stairs.steps.useful().unwrap_or(u32::MAX);
    let there = snapshot.working.filter(|w| *w > 0).or(observation.replicas.ready).unwrap_or(desired);
    // More ready ones than partitions: those without one do nothing, and are no reason for more.
    if there >= desired.min(useful) { desired } else { there }
}

fn answer(case: &Case<'_>) -> Decision {
    let free = case.free();
    let held = case.held(&free);
    let limit::Limited { desired, reason, bound_by, limit, .. } = held;
    Decision {
        desired: Some(desired),
        recommended: Some(free.desired),
        action: limit::direction(desired, case.current),
        reason,
        bound_by,
        message: explain::message::sentence(case, &held),
        limited: limit
            .or_else(|| stuck(case, desired))
            .map(|(by, wanted)| explain::message::limited(case, by, wanted, desired)),
        ..Decision::default()
    }
}

/// A partition that stands still is told even when no more workers are wanted: no number of workers helps it.
fn stuck(case: &Case<'_>, desired: u32) -> Option<(Limit, u32)> {
    (!case.snapshot.stuck.is_empty()).then_some((Limit::PartitionStuck, desired))
}

/// How many workers the workload asks for is not known: nothing is written.
fn unknown() -> Decision {
    Decision { message: "how many workers the workload asks for is not known".to_owned(), ..Decision::default() }
}
