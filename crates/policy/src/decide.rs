//! The phases of a decision, in order: observe, plan, limit, explain, learn.

use super::contract::decision::{Decision, Limit};
use super::contract::observation::Observation;
use super::contract::settings::Settings;
use super::limit::{self, Case};
use super::model::memory::Memory;
use super::model::workers::ReadContext;
use super::observe::snapshot::{self, Snapshot};
use super::{explain, learn, plan};
use sluice_base::units::Seconds;

/// Decides how many workers a job should have.
///
/// Pure: the same memory, observation and settings give the same decision, byte for byte. `memory` carries everything
/// that was learned; nothing else survives between calls. Never panics, whatever the numbers are.
pub fn decide(memory: &mut Memory, observation: &Observation, settings: &Settings) -> Decision {
    // Observe.
    let now = memory.advance_to(observation.at.0);
    memory.apply_settings(settings);
    let schedule = memory.calendar.bounds(&settings.schedules, now);
    let work_done = {
        let (clock, partitions) = (memory.clock, &memory.partitions);
        let mut owners: Vec<u64> = partitions.iter().map(|(_, track)| track.owner).filter(|o| *o != 0).collect();
        owners.sort_unstable();
        let owns = |hash: u64| (!owners.is_empty()).then(|| owners.binary_search(&hash).is_ok());
        let times = ReadContext { observation: clock.observations, now, watching_since: clock.watching_since };
        memory.workers.read_counters(observation, times, settings.concurrency, owns)
    };
    let snapshot = snapshot::build_snapshot(memory, observation, settings, &work_done);
    learn::track_replicas(memory, observation, &snapshot);

    // Plan, then limit.
    let desired = observation.replicas.desired;
    let need = plan::need(memory, &snapshot, settings, desired, working(memory, observation, &snapshot));
    let range = limit::range(settings, observation, &schedule);
    let case =
        desired.map(|current| Case { memory, observation, settings, snapshot: &snapshot, need: &need, range, current });
    let mut decision = case.as_ref().map_or_else(undecided, decide_case);

    // Explain.
    decision.at = Seconds(now);
    decision.within_target =
        explain::numbers::within_target(memory, &snapshot, observation.replicas.ready, &need, settings);
    decision.explain = explain::numbers::explain(memory, &snapshot, &need, range, settings);

    // Learn.
    learn::record_decision(memory, &decision, &need);
    learn::learn(memory, observation, settings, &snapshot, &need, work_done);
    decision
}

/// Returns how many workers are processing now: those that the group or the readiness probes report. While neither is
/// known, and while a change takes effect, it is the requested replica count: the change was planned with all of them.
fn working(memory: &Memory, observation: &Observation, snapshot: &Snapshot) -> u32 {
    let desired = observation.replicas.desired.unwrap_or(0);
    if memory.in_flight().is_some() {
        return desired;
    }
    let useful = memory.stairs.steps.useful().unwrap_or(u32::MAX);
    let there = snapshot.working.filter(|w| *w > 0).or(observation.replicas.ready).unwrap_or(desired);
    // Ready workers beyond the number of partitions have nothing to do, and do not justify adding more.
    if there >= desired.min(useful) { desired } else { there }
}

fn decide_case(case: &Case<'_>) -> Decision {
    let recommendation = case.recommendation();
    let proposal = case.apply_overrides(&recommendation);
    let limit::Proposal { desired, reason, bound_by, limit, .. } = proposal;
    Decision {
        desired: Some(desired),
        recommended: Some(recommendation.desired),
        action: limit::direction(desired, case.current),
        reason,
        bound_by,
        message: explain::message::sentence(case, &proposal),
        limited: limit
            .or_else(|| stuck_limit(case, desired))
            .map(|(by, wanted)| explain::message::limited(case, by, wanted, desired)),
        ..Decision::default()
    }
}

/// Reports a stuck partition even when no more workers are wanted, because no replica count fixes it.
fn stuck_limit(case: &Case<'_>, desired: u32) -> Option<(Limit, u32)> {
    (!case.snapshot.stuck.is_empty()).then_some((Limit::PartitionStuck, desired))
}

/// Returns the decision for a workload whose replica count is not known: write nothing.
fn undecided() -> Decision {
    Decision { message: "the replica count of the workload is not known".to_owned(), ..Decision::default() }
}
