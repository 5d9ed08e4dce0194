//! Why no worker may leave although a source answers: what is missing, or cannot be so. And why the objective cannot be
//! verified with these signals.

use std::collections::HashSet;

use super::super::contract::observation::Observation;
use super::super::contract::settings::Settings;
use super::super::model::memory::Memory;
use super::super::model::partition::owner_hash;
use super::super::model::reading::Reading;
use super::snapshot::{FRESH, Snapshot};
use sluice_base::num;

/// An optional signal that was last there this long ago is taken as not offered, seconds.
const OFFER: f64 = 120.0;

/// What one partition says against itself.
pub(crate) fn partition(snapshot: &mut Snapshot, reading: &Reading, id: &str) {
    if let Some(ahead) = reading.ahead.filter(|_| !reading.restarted) {
        let words = || format!("{id} is said to be processed {ahead:.0} records beyond its end");
        snapshot.contradiction.get_or_insert_with(words);
    }
    if reading.restarted {
        snapshot.gap.get_or_insert_with(|| format!("the log of {id} has started over"));
    }
    if let Some(hidden) = reading.hidden {
        let words = || format!("an open transaction hides {hidden:.0} records of {id}");
        snapshot.gap.get_or_insert_with(words);
    }
}

/// Sources of the spec that were not read, or of which no position is known.
pub(crate) fn sources(memory: &Memory, observation: &Observation, seen: &[u16], snapshot: &mut Snapshot) {
    for source in &observation.sources {
        let name = source.name.as_deref().unwrap_or_default();
        let index = memory.sources.iter().position(|s| &**s == name).and_then(|i| u16::try_from(i).ok());
        let in_sample = index.is_some_and(|index| seen.contains(&index));
        if !in_sample || source.read == Some(false) {
            let of = if name.is_empty() { "the source".to_owned() } else { format!("source {name}") };
            snapshot.gap.get_or_insert_with(|| format!("{of} has not been read"));
        }
    }
    let all = num::u32_of(memory.partitions.len());
    if snapshot.without_position > 0 && snapshot.without_position >= all {
        snapshot.gap.get_or_insert_with(|| "the group has no commit; where it stands is not known".to_owned());
        let words = || {
            "the group has never committed an offset and no worker reports a position: backlog and latency are not known; \
             commit offsets, or let the workers report sluice_worker_next_offset"
        };
        snapshot.unverifiable.get_or_insert_with(|| words().to_owned());
    }
}

/// What the groups say of their members.
pub(crate) fn members(observation: &Observation, snapshot: &mut Snapshot) {
    let sum = |count: fn(&super::super::Group) -> Option<u32>| {
        let counts: Option<Vec<u32>> = observation.groups.iter().map(count).collect();
        counts.filter(|c| !c.is_empty())
    };
    snapshot.strangers = sum(|g| g.strangers).map_or(0, |counts| counts.iter().sum());
    // Each group deals its partitions to all workers: one that works in any of them works.
    let working = sum(|g| Some(g.members?.saturating_sub(g.idle_members?)));
    snapshot.working = working.and_then(|counts| counts.into_iter().max());
    if snapshot.working.is_none() && snapshot.owners_known && snapshot.strangers == 0 {
        let ours: HashSet<u64> = observation.workers.iter().map(|w| owner_hash(&w.id)).collect();
        if snapshot.owners.iter().all(|o| ours.contains(&o.hash)) {
            snapshot.working = Some(num::u32_of(snapshot.owners.len()));
        }
    }
}

/// What the workers say against the source.
pub(crate) fn workers(memory: &Memory, snapshot: &mut Snapshot) {
    let (now, interval) = (memory.clock.now, memory.clock.interval);
    if memory.progress.exceeds_source(now, interval) {
        let words = "the workers process more than the source says there is; its offsets are old or wrong";
        snapshot.contradiction.get_or_insert_with(|| words.to_owned());
    } else if memory.progress.not_at_rest(now, interval) {
        let words = "the source says that nothing is left, and the workers have processed records until now";
        snapshot.gap.get_or_insert_with(|| words.to_owned());
    }
    if memory.workers.went_back(now) {
        snapshot.gap.get_or_insert_with(|| "the counters of a worker go back".to_owned());
    }
    if memory.progress.counters_stand_still(memory.clock.now) {
        snapshot.gap.get_or_insert_with(|| "the workers' counters stand still while records are processed".to_owned());
    }
    if let Some(contradiction) = &snapshot.contradiction {
        snapshot.gap = Some(contradiction.clone());
    }
}

/// Optional signals that were there and are not.
pub(crate) fn offers(memory: &mut Memory, observation: &Observation, of_log: [u32; 3], snapshot: &mut Snapshot) {
    let now = memory.clock.now;
    let fresh = |at: Option<sluice_base::units::Seconds>| at.is_some_and(|at| (-5.0..=FRESH).contains(&(now - at.0)));
    let working = observation.workers.iter().filter(|w| w.terminating != Some(true));
    let counters = num::u32_of(working.clone().filter(|w| w.processed.is_some() && fresh(w.at)).count());
    let clocks = num::u32_of(working.filter(|w| w.busy_seconds.is_some() && fresh(w.at)).count());
    let ready = observation.replicas.ready;
    // Fewer workers have fewer counters: what counts is whether all that are ready say something.
    let all = |count: u32| u32::from(count > 0 && ready.is_some_and(|ready| count >= ready));
    let [positions, due_ends, owners] = of_log;
    let counts = [
        ("positions", positions),
        ("due offsets", due_ends),
        ("owners", owners),
        ("workers' counters", all(counters)),
        ("workers' busy clocks", all(clocks)),
        ("ready workers", u32::from(ready.is_some())),
        ("existing workers", u32::from(observation.replicas.existing.is_some())),
        ("group states", num::u32_of(observation.groups.iter().filter(|g| g.state.is_some()).count())),
    ];
    for (offer, (name, count)) in memory.offered.kinds.iter_mut().zip(counts) {
        if count >= offer.0 || now - offer.1 > OFFER {
            *offer = (count, now);
        } else {
            snapshot.gap.get_or_insert_with(|| format!("some {name} are missing"));
        }
    }
    // Empty and Dead are groups without members: nothing is being rebalanced.
    let settled = |state: &str| ["stable", "empty", "dead"].iter().any(|s| state.eq_ignore_ascii_case(s));
    if observation.groups.iter().filter_map(|g| g.state.as_deref()).any(|state| !settled(state)) {
        snapshot.gap.get_or_insert_with(|| "the group is rebalancing".to_owned());
        snapshot.unsettled = true;
    }
    snapshot.unsettled |= ready.zip(observation.replicas.desired).is_some_and(|(ready, desired)| ready < desired);
}

/// Whether the objective can be verified: a record's latency is known to one commit interval, or better by positions.
pub(crate) fn verifiable(memory: &Memory, settings: &Settings, snapshot: &mut Snapshot) {
    let Some(interval) = memory.commit_interval.upper().filter(|_| snapshot.fresh && !snapshot.positioned) else {
        return;
    };
    let (latency, interval) = (settings.latency.0, interval.max(0.1));
    if interval > 0.9 * latency {
        let words = || {
            format!(
                "the group commits every {interval:.0} s and the objective is {latency} s: latency cannot be verified; \
                 commit more often, or let the workers report sluice_worker_next_offset"
            )
        };
        snapshot.unverifiable.get_or_insert_with(words);
    }
}
