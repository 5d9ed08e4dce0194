//! Before the decision: has the number of workers changed, and has the change landed?

use super::super::contract::observation::Observation;
use super::super::model::flight::{Arrival, Flight};
use super::super::model::memory::Memory;
use super::super::model::workers;
use super::super::observe::snapshot::Snapshot;

/// A change whose partitions still stand after this long is over, and they are stuck; seconds.
const LONGEST_PAUSE: f64 = 120.0;
/// A roll-out of another template that takes longer is stuck, and what waits is no longer its own doing; seconds.
const LONGEST_ROLLOUT: f64 = 600.0;

/// Takes in what the workload asks for and what there is.
pub(crate) fn meet_replicas(memory: &mut Memory, observation: &Observation, snapshot: &Snapshot) {
    let now = memory.clock.now;
    let replicas = observation.replicas;
    let Some(desired) = replicas.desired else { return };
    memory.changes.waking |= desired == 0;
    match memory.changes.desired.replace(desired) {
        Some(before) if before != desired => {
            land(memory);
            begin(memory, before, desired);
        }
        // Seen for the first time in the middle of a change.
        None => {
            if let Some(ready) = replicas.ready.filter(|ready| *ready < desired) {
                // The demand that it was decided for is not known: growth is not to be silenced by a restart.
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
        memory.changes.flight.get_or_insert_with(|| Flight::new(now, desired, desired, demand)).rolls(now);
    }
    memory.durations.starting = workers::starting(observation, memory.clock.watching_since);
    let (start_up, handover) = (memory.durations.start_up(), memory.durations.handover());
    // No partition moves yet: the change is not over, whatever a handover took before.
    let pausing = memory.progress.still_since.is_some()
        && memory.changes.flight.is_some_and(|f| f.settled.is_none_or(|at| now - at < LONGEST_PAUSE));
    let arrival = Arrival { replicas, working: snapshot.working, useful: memory.stairs.steps.useful() };
    let over = memory
        .changes
        .flight
        .as_mut()
        .is_some_and(|flight| flight.landed(now, &arrival, start_up, handover) && !pausing);
    let added = memory.changes.flight.is_some_and(|flight| flight.to > flight.from);
    if over && added {
        let window = memory.rate_window();
        memory.bottleneck.added(now, 2.5 * window);
    }
    if over && land(memory) {
        memory.changes.pauses_until = now + 30.0;
    }
}

/// What a change that has ended taught about handovers. `false`: nothing, and nothing that comes after it will: where
/// no worker was, or none stays, partitions stand still for as long as none is there, and none hands them over.
fn land(memory: &mut Memory) -> bool {
    let Some(flight) = memory.changes.flight.take() else { return false };
    memory.changes.landed_at = memory.clock.now;
    if flight.from == 0 || flight.to == 0 {
        return false;
    }
    let Some(pause) = flight.pause else { return true };
    memory.durations.handover.observe(pause);
    // A pause shorter than three looks does not tell who paused.
    if pause > 3.0 * memory.clock.interval {
        let all = if flight.still > 0.5 * pause { 1.0 } else { 0.0 };
        let before = memory.durations.all_stop;
        memory.durations.all_stop = Some(before.map_or(all, |before| before + 0.5 * (all - before)));
    }
    true
}

fn begin(memory: &mut Memory, before: u32, desired: u32) {
    let now = memory.clock.now;
    memory.changes.note_rescale(now);
    memory.changes.fewer_since = None;
    memory.bottleneck.begin_change();
    memory.offsets_per_record.interrupt();
    let demand = memory.changes.decided_demand;
    memory.changes.flight = Some(Flight::new(now, before, desired, demand));
    let level = memory.forecast.latest(now).map_or(0.0, |latest| latest.0);
    memory.trial.note_change(now, before, desired, level);
}
