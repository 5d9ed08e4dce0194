//! Tracks the replica count before a decision: whether it has changed, and whether the change has taken effect.

use super::super::contract::observation::Observation;
use super::super::model::flight::{Arrival, Flight};
use super::super::model::memory::Memory;
use super::super::model::workers;
use super::super::observe::snapshot::Snapshot;

/// Time after which a change whose partitions still make no progress counts as over, and they as stuck; seconds.
const LONGEST_PAUSE: f64 = 120.0;
/// Time after which a rollout of another template counts as stuck, and the backlog no longer as its effect; seconds.
const LONGEST_ROLLOUT: f64 = 600.0;

/// Updates the memory with the requested and the present workers.
pub(crate) fn track_replicas(memory: &mut Memory, observation: &Observation, snapshot: &Snapshot) {
    let now = memory.clock.now;
    let replicas = observation.replicas;
    let Some(desired) = replicas.desired else { return };
    memory.changes.waking |= desired == 0;
    match memory.changes.desired.replace(desired) {
        Some(before) if before != desired => {
            end_change(memory);
            begin_change(memory, before, desired);
        }
        // The first observation falls into the middle of a change.
        None => {
            if let Some(ready) = replicas.ready.filter(|ready| *ready < desired) {
                // The demand that the change was decided for is not known, and a restart must not hide growth.
                memory.changes.flight = Some(Flight::new(now, ready, desired, 0.0));
            }
        }
        Some(_) => {}
    }
    let unready = replicas.ready.is_some_and(|ready| ready < desired);
    memory.changes.unready_since = if unready { memory.changes.unready_since.or(Some(now)) } else { None };
    let rolling = workers::rolling(observation);
    memory.changes.rolling_since = if rolling { memory.changes.rolling_since.or(Some(now)) } else { None };
    if memory.changes.rolling_since.is_some_and(|since| now - since < LONGEST_ROLLOUT) {
        let demand = memory.changes.decided_demand;
        memory.changes.flight.get_or_insert_with(|| Flight::new(now, desired, desired, demand)).continue_rollout(now);
    }
    memory.durations.starting = workers::starting(observation, memory.clock.watching_since);
    let (start_up, handover) = (memory.durations.start_up(), memory.durations.handover());
    // No partition progresses yet, so the change is not over, however long an earlier handover took.
    let pausing = memory.progress.still_since.is_some()
        && memory.changes.flight.is_some_and(|f| f.settled.is_none_or(|at| now - at < LONGEST_PAUSE));
    let arrival = Arrival { replicas, working: snapshot.working, useful: memory.stairs.steps.useful() };
    let over = memory
        .changes
        .flight
        .as_mut()
        .is_some_and(|flight| flight.has_landed(now, &arrival, start_up, handover) && !pausing);
    let added = memory.changes.flight.is_some_and(|flight| flight.to > flight.from);
    if over && added {
        let window = memory.rate_window();
        memory.bottleneck.workers_added(now, 2.5 * window);
    }
    if over && end_change(memory) {
        memory.changes.pauses_until = now + 30.0;
    }
}

/// Ends a change and learns its handover time. Returns false if this change cannot teach one: scaling from or to zero
/// involves no handover, and its partitions stop for as long as no worker is there.
fn end_change(memory: &mut Memory) -> bool {
    let Some(flight) = memory.changes.flight.take() else { return false };
    memory.changes.landed_at = memory.clock.now;
    if flight.from == 0 || flight.to == 0 {
        return false;
    }
    let Some(pause) = flight.pause else { return true };
    memory.durations.handover.observe(pause);
    // A pause shorter than three observations does not show which partitions stopped.
    if pause > 3.0 * memory.clock.interval {
        let all = if flight.still > 0.5 * pause { 1.0 } else { 0.0 };
        let before = memory.durations.all_stop;
        memory.durations.all_stop = Some(before.map_or(all, |before| before + 0.5 * (all - before)));
    }
    true
}

fn begin_change(memory: &mut Memory, before: u32, desired: u32) {
    let now = memory.clock.now;
    memory.changes.record_rescale(now);
    memory.changes.fewer_since = None;
    memory.bottleneck.begin_change();
    memory.offsets_per_record.interrupt();
    let demand = memory.changes.decided_demand;
    memory.changes.flight = Some(Flight::new(now, before, desired, demand));
    let level = memory.forecast.latest(now).map_or(0.0, |latest| latest.0);
    memory.trial.record_change(now, before, desired, level);
}
