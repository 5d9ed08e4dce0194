//! Reasons to doubt the signals: what is missing or impossible, so that no worker may be removed, and why the objective
//! cannot be verified with these signals.

use std::collections::HashSet;

use super::super::contract::observation::{Group, Observation};
use super::super::contract::settings::Settings;
use super::super::model::memory::Memory;
use super::super::model::partition::owner_hash;
use super::super::model::reading::Reading;
use super::snapshot::{FRESH, Snapshot};
use sluice_base::num;
use sluice_base::units::Seconds;
use sluice_base::words;

/// Time after which an optional signal that is absent is taken as not offered, seconds.
const OFFER: f64 = 120.0;

/// How many partitions carried each optional signal of the log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogSignals {
    pub(crate) positions: u32,
    pub(crate) due_ends: u32,
    pub(crate) owners: u32,
}

/// Checks one partition for contradictions and for records that cannot be seen.
pub(crate) fn check_partition(snapshot: &mut Snapshot, reading: &Reading, id: &str) {
    if let Some(ahead) = reading.ahead.filter(|_| !reading.restarted) {
        let message = || format!("{id}: the committed offset is {ahead:.0} records past the end of the log");
        snapshot.contradiction.get_or_insert_with(message);
    }
    if reading.restarted {
        snapshot.gap.get_or_insert_with(|| format!("{id}: the offsets of the log started over"));
    }
    if let Some(hidden) = reading.hidden {
        let message = || format!("{id}: an open transaction hides {hidden:.0} records");
        snapshot.gap.get_or_insert_with(message);
    }
}

/// Checks for sources of the spec that were not read, and for groups without any position.
pub(crate) fn check_sources(memory: &Memory, observation: &Observation, seen: &[u16], snapshot: &mut Snapshot) {
    for source in &observation.sources {
        let name = source.name.as_deref().unwrap_or_default();
        let index = memory.sources.iter().position(|s| &**s == name).and_then(|i| u16::try_from(i).ok());
        let in_sample = index.is_some_and(|index| seen.contains(&index));
        if !in_sample || source.read == Some(false) {
            let subject = if name.is_empty() { "the source".to_owned() } else { format!("source {name}") };
            snapshot.gap.get_or_insert_with(|| format!("{subject} was not read"));
        }
    }
    let all = num::u32_of(memory.partitions.len());
    if snapshot.without_position > 0 && snapshot.without_position >= all {
        snapshot.gap.get_or_insert_with(|| "the group has no commit, so its position is not known".to_owned());
        let message = || {
            "the group has never committed an offset and no worker reports a position: backlog and latency are not known; \
             commit offsets, or let the workers report sluice_worker_next_offset"
        };
        snapshot.unverifiable.get_or_insert_with(|| message().to_owned());
    }
}

/// Reads from the groups how many workers own partitions, and how many members are not workers of the job.
pub(crate) fn read_members(observation: &Observation, snapshot: &mut Snapshot) {
    let all_counts = |count: fn(&Group) -> Option<u32>| {
        let counts: Option<Vec<u32>> = observation.groups.iter().map(count).collect();
        counts.filter(|c| !c.is_empty())
    };
    snapshot.strangers = all_counts(|g| g.strangers).map_or(0, |counts| counts.iter().sum());
    // Each group assigns its partitions to all workers: a worker that owns one in any of them is working.
    let working = all_counts(|g| Some(g.members?.saturating_sub(g.idle_members?)));
    snapshot.working = working.and_then(|counts| counts.into_iter().max());
    if snapshot.working.is_none() && snapshot.owners_known && snapshot.strangers == 0 {
        let ours: HashSet<u64> = observation.workers.iter().map(|w| owner_hash(&w.id)).collect();
        if snapshot.owners.iter().all(|o| ours.contains(&o.hash)) {
            snapshot.working = Some(num::u32_of(snapshot.owners.len()));
        }
    }
}

/// Compares the workers' counters with the source.
pub(crate) fn check_workers(memory: &Memory, snapshot: &mut Snapshot) {
    let (now, interval) = (memory.clock.now, memory.clock.interval);
    if memory.progress.exceeds_source(now, interval) {
        let message = "the workers process more records than the source reports; its offsets are stale or wrong";
        snapshot.contradiction.get_or_insert_with(|| message.to_owned());
    } else if memory.progress.not_at_rest(now, interval) {
        let message = "the source reports no backlog, but the workers processed records until just now";
        snapshot.gap.get_or_insert_with(|| message.to_owned());
    }
    if memory.workers.went_back(now) {
        snapshot.gap.get_or_insert_with(|| "a worker's counter decreased without a restart".to_owned());
    }
    if memory.progress.counters_stand_still(memory.clock.now) {
        let message = "the workers' counters do not increase although records are processed";
        snapshot.gap.get_or_insert_with(|| message.to_owned());
    }
    if let Some(contradiction) = &snapshot.contradiction {
        snapshot.gap = Some(contradiction.clone());
    }
}

/// Checks for optional signals that were there until recently and are missing now.
pub(crate) fn check_optional_signals(
    memory: &mut Memory,
    observation: &Observation,
    log: LogSignals,
    snapshot: &mut Snapshot,
) {
    let now = memory.clock.now;
    let fresh = |at: Option<Seconds>| at.is_some_and(|at| (-5.0..=FRESH).contains(&(now - at.0)));
    let working = observation.workers.iter().filter(|w| w.terminating != Some(true));
    let counters = num::u32_of(working.clone().filter(|w| w.processed.is_some() && fresh(w.at)).count());
    let clocks = num::u32_of(working.filter(|w| w.busy_seconds.is_some() && fresh(w.at)).count());
    let ready = observation.replicas.ready;
    // Fewer workers have fewer counters, so what counts is whether every ready worker reports.
    let from_all = |count: u32| u32::from(count > 0 && ready.is_some_and(|ready| count >= ready));
    let counts = [
        ("positions", log.positions),
        ("due offsets", log.due_ends),
        ("owners", log.owners),
        ("workers' counters", from_all(counters)),
        ("workers' busy clocks", from_all(clocks)),
        ("ready workers", u32::from(ready.is_some())),
        ("existing workers", u32::from(observation.replicas.existing.is_some())),
        ("group states", num::u32_of(observation.groups.iter().filter(|g| g.state.is_some()).count())),
    ];
    for (offer, (name, count)) in memory.offered.signals.iter_mut().zip(counts) {
        if count >= offer.count || now - offer.at > OFFER {
            (offer.count, offer.at) = (count, now);
        } else {
            snapshot.gap.get_or_insert_with(|| format!("some {name} are missing"));
        }
    }
    // Groups in the states Empty and Dead have no members, so nothing is being rebalanced.
    let settled = |state: &str| ["stable", "empty", "dead"].iter().any(|s| state.eq_ignore_ascii_case(s));
    if observation.groups.iter().filter_map(|g| g.state.as_deref()).any(|state| !settled(state)) {
        snapshot.gap.get_or_insert_with(|| "the group is rebalancing".to_owned());
        snapshot.unsettled = true;
    }
    snapshot.unsettled |= ready.zip(observation.replicas.desired).is_some_and(|(ready, desired)| ready < desired);
}

/// Checks whether the objective can be verified. Without positions, a record's latency is known to one commit interval.
pub(crate) fn check_verifiable(memory: &Memory, settings: &Settings, snapshot: &mut Snapshot) {
    let Some(interval) = memory.commit_interval.upper().filter(|_| snapshot.fresh && !snapshot.positioned) else {
        return;
    };
    let (latency, interval) = (settings.latency.0, interval.max(0.1));
    if interval > 0.9 * latency {
        let message = || {
            format!(
                "the group commits within {} and the objective is {}: latency cannot be verified; commit more often, or let \
                 the workers report sluice_worker_next_offset",
                words::seconds(interval),
                words::seconds(latency)
            )
        };
        snapshot.unverifiable.get_or_insert_with(message);
    }
}
