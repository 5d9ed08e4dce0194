//! After the decision: what this look taught. It is used from the next look on.

mod replicas;

pub(crate) use replicas::meet_replicas;

use super::contract::observation::Observation;
use super::contract::settings::Settings;
use super::limit::scale_down::hold_seconds;
use super::model::bottleneck::Throughput;
use super::model::capacity::Stint;
use super::model::forecast::BIN;
use super::model::memory::Memory;
use super::model::queued_progress::Committed;
use super::model::workers::Shift;
use super::observe::snapshot::{NEARLY_ALL, Owner, Snapshot};
use super::plan::{Need, latency_floor};
use sluice_base::num;

/// Weights of partitions follow their rates within about ten minutes.
const WEIGHT_SECONDS: f64 = 600.0;
/// Work that waits for a worker with a queue, seconds.
const QUEUED: f64 = 0.5;

/// Takes in what a look taught.
pub(crate) fn learn(
    memory: &mut Memory,
    observation: &Observation,
    settings: &Settings,
    snapshot: &Snapshot,
    need: &Need,
    mut shift: Shift,
) {
    let now = memory.clock.now;
    let settled = memory.changes.flight.is_none() && snapshot.pause.is_none();
    let shift_worked = shift.processed.is_none_or(|processed| processed > 0.0);
    learn_pause(memory, snapshot);
    learn_template(memory, &shift);
    learn_progress(memory, snapshot, &shift);
    learn_capacity(memory, snapshot, need, &mut shift, settled);
    learn_offsets_per_record(memory, snapshot, need, &shift, settled);
    if settled && snapshot.gap.is_none() {
        let gaps: Vec<f64> = snapshot.commit_gaps.clone();
        memory.commit_interval.observe(&gaps);
    }
    if let Some(rates) = snapshot.rates {
        memory.forecast.observe_noise(rates.moment, rates.level);
    }
    // What was not read is only estimated: its errors are no errors of the forecast.
    if let Some(latest) = memory.arrivals.latest().filter(|_| snapshot.fresh && snapshot.all_read)
        && memory.forecast.observe(latest, memory.reaction().max(BIN))
    {
        let budget = memory.attainment.budget(settings.percentile);
        let burn = memory.attainment.burn_rate(settings.percentile);
        memory.caution.steer(budget, burn, settings.percentile);
        learn_weights(memory);
    }
    if settled && snapshot.gap.is_none() {
        learn_hot(memory, snapshot, need);
    }
    learn_floor(memory, settings, snapshot, need, settled);
    // Workers that do nothing are stalled, whatever they share.
    let working = shift_worked && memory.progress.still_since.is_none();
    learn_bottleneck(memory, snapshot, need, settled && working);
    if snapshot.unsettled {
        memory.changes.unsettled_at = now;
    }
    note_fewer(memory, observation, need);
}

/// Since when fewer workers would have been enough, and the most of them that would have been needed since.
fn note_fewer(memory: &mut Memory, observation: &Observation, need: &Need) {
    let now = memory.clock.now;
    let current = observation.replicas.desired;
    let Some(keep) = need.keep.filter(|keep| Some(*keep) < current) else {
        memory.changes.fewer_since = None;
        return;
    };
    let hold = hold_seconds(memory, need);
    memory.changes.fewer_since = Some(match memory.changes.fewer_since {
        // After a while the highest may be forgotten: the window moves on.
        Some((since, highest)) if now - since < 2.0 * hold => (since, highest.max(keep)),
        Some(_) => (now - hold, keep),
        None => (now, keep),
    });
}

fn learn_pause(memory: &mut Memory, snapshot: &Snapshot) {
    let Some(pause) = snapshot.pause else { return };
    // It began and ended somewhere between two samples.
    let pause = (pause - memory.clock.interval).max(0.0);
    if let Some(flight) = &mut memory.changes.flight {
        flight.pause = Some(flight.pause.unwrap_or(0.0).max(pause));
    } else if memory.clock.now < memory.changes.pauses_until {
        memory.durations.handover.observe(pause);
    }
}

fn learn_template(memory: &mut Memory, shift: &Shift) {
    for seconds in &shift.start_ups {
        memory.durations.start_up.observe(*seconds);
    }
    if shift.template.is_some() && shift.template != memory.template {
        // The first template seen is not a change, if nothing is known of another.
        if memory.template.is_some() {
            memory.capacity.begin_anew();
            memory.commit_interval.begin_anew();
            memory.bottleneck.forget();
            memory.trial.forget();
        }
        memory.template.clone_from(&shift.template);
    }
}

fn learn_progress(memory: &mut Memory, snapshot: &Snapshot, shift: &Shift) {
    let now = memory.clock.now;
    let left = (snapshot.fresh && !snapshot.still).then(|| snapshot.lag.map_or(f64::INFINITY, |lag| lag.possible));
    let offsets = memory.offsets_per_record.value();
    memory.progress.compare(now, left, shift.processed.map(|p| p * offsets));
    memory.progress.compare_counters(now, shift.processed, snapshot.progress);
    let moved = snapshot.progress > 0.0 || shift.processed.is_some_and(|p| p > 0.0);
    let still = snapshot.waits_for_sure && !moved && !shift.busy && shift.processed == Some(0.0);
    if moved {
        memory.progress.finished(now);
    } else if !snapshot.waits || memory.changes.desired == Some(0) || memory.in_flight().is_some() {
        memory.progress.nothing_to_finish(now);
    }
    if moved || shift.busy || !snapshot.waits {
        memory.progress.still_since = None;
    } else if still && memory.progress.still_since.is_none() {
        memory.progress.still_since = Some(now);
    }
    if still && let Some(flight) = memory.changes.flight.as_mut() {
        flight.still += memory.clock.since_look;
    }
    if snapshot.progress > 0.0 {
        memory.progress.moved_at = now;
    }
    if snapshot.fresh {
        // From the workers' counters or else from the log.
        let trusted = shift.processed.filter(|_| !memory.progress.counters_stand_still(now));
        memory.progress.counted = trusted.is_some();
        memory.progress.note(now, trusted.unwrap_or(snapshot.progress));
    }
}

fn learn_capacity(memory: &mut Memory, snapshot: &Snapshot, need: &Need, shift: &mut Shift, settled: bool) {
    let now = memory.clock.now;
    let mu = need.mu.unwrap_or(f64::INFINITY);
    let all_queued = snapshot.nearly_all_queued();
    let queued = |hash: u64| {
        if snapshot.owners_known {
            let queued =
                |o: &Owner| o.queue.certain >= 2.0 && (o.queue.certain > QUEUED * mu || o.age.certain > 2.0 * QUEUED);
            return snapshot.owner(hash).is_some_and(queued);
        }
        // Whose records wait is not known: only if they wait in nearly all partitions can every worker have a queue.
        all_queued
    };
    memory.workers.mark_queued(shift, queued);
    // Where a shared limit holds the workers up, what they do is not what they can do.
    if memory.bottleneck.holds(now).is_some() || memory.progress.counters_stand_still(now) {
        return;
    }
    // A partition that stands still in a change looks like a queue that a worker cannot keep up with.
    let mut stints = std::mem::take(&mut shift.stints);
    stints.retain(|s| s.busy.is_some() || settled);
    if shift.processed.is_none() && (settled || snapshot.owners_known) && snapshot.gap.is_none() {
        stints.extend(by_commits(memory, snapshot, need));
    } else {
        memory.queued_progress.interrupt();
    }
    memory.capacity.learn(&stints, now);
    let calm = settled && snapshot.gap.is_none() && need.delay < 0.2 * need.latency && snapshot.lag.is_some();
    let commits = memory.commit_interval.upper().unwrap_or(5.0);
    if calm && now - memory.changes.landed_at > 30.0 + 2.0 * commits && memory.clock.watched() > 60.0 {
        let share = memory.stairs.share(need.working.max(1));
        let offsets = memory.offsets_per_record.value();
        // What arrives and what is done: a step that has just come is not done yet.
        let done = memory.processing_rate().map_or(0.0, |done| done.min(need.demand.level / offsets));
        memory.capacity.did(0.95 * done * share, now);
    }
}

/// No counters: what owners committed while records waited for them all the time.
fn by_commits(memory: &mut Memory, snapshot: &Snapshot, need: &Need) -> Vec<Stint> {
    let now = memory.clock.now;
    let queued = |o: &Owner| !o.moving && o.queued_weight > 0.0 && o.queued_weight >= 0.5 * o.weight;
    let seen: Vec<Committed> = if snapshot.owners_known {
        let of = |o: &Owner| Committed { owner: o.hash, progress: o.progress, queued: queued(o) };
        snapshot.owners.iter().map(of).collect()
    } else {
        let mut all = Owner::default();
        for owner in &snapshot.owners {
            all.weight += owner.weight;
            all.moving |= owner.moving;
            all.queued_weight += owner.queued_weight;
            (all.queue, all.age) = (all.queue.plus(owner.queue), all.age.max(owner.age));
        }
        vec![Committed { owner: 0, progress: snapshot.progress, queued: queued(&all) }]
    };
    let interval = memory.commit_interval.upper().unwrap_or(5.0) + memory.clock.interval;
    let workers = if snapshot.owners_known { 1.0 } else { f64::from(need.working.max(1)) };
    let offsets = memory.offsets_per_record.value();
    memory
        .queued_progress
        .observe(now, &seen, interval)
        .into_iter()
        .map(|(worker, progress, seconds)| {
            let records = progress / offsets / workers;
            Stint { worker, records, seconds, busy: None, queued: true, lanes: None }
        })
        .collect()
}

fn learn_offsets_per_record(memory: &mut Memory, snapshot: &Snapshot, need: &Need, shift: &Shift, settled: bool) {
    // Workers that have long had the time to process them leave them: they are no records.
    if settled && snapshot.markers > 0 && need.working > 0 && !shift.busy && memory.clock.watched() > 90.0 {
        memory.offsets_per_record.markers_seen();
    }
    match shift.processed.filter(|_| settled && snapshot.gap.is_none() && snapshot.without_position == 0) {
        Some(processed) => {
            let behind = if snapshot.positioned { 0.0 } else { memory.commit_interval.upper().unwrap_or(5.0) };
            memory.offsets_per_record.observe(memory.clock.since_look, snapshot.progress, processed, behind);
        }
        None => memory.offsets_per_record.interrupt(),
    }
}

fn learn_weights(memory: &mut Memory) {
    let gain = BIN / WEIGHT_SECONDS;
    let watched = memory.clock.watched();
    if watched < 20.0 {
        return;
    }
    // Weights move slowly: the stairs follow them twice a minute, and at once in the beginning.
    let now = memory.clock.now;
    if watched < 120.0 || now - memory.stairs.weighed_at >= 30.0 {
        memory.stairs.weighed_at = now;
        memory.stairs.weights_version = memory.stairs.weights_version.wrapping_add(1);
    }
    for track in memory.partitions.tracks_mut() {
        if let Some(rate) = track.rate(60.0) {
            let weight = f64::from(track.weight);
            // The first minutes average, so that one lucky minute does not stay for ten.
            let gain = gain.max(BIN / watched.max(BIN)).min(1.0);
            track.weight = num::f32_of(if weight > 0.0 { weight + gain * (rate - weight) } else { rate });
        }
    }
}

/// How much hotter the hottest worker is than the stairs say.
fn learn_hot(memory: &mut Memory, snapshot: &Snapshot, need: &Need) {
    let owners = num::u32_of(snapshot.owners.len());
    if !snapshot.owners_known || owners < 2 || owners != need.working {
        return;
    }
    let total: f64 = snapshot.owners.iter().map(|o| o.weight).sum();
    let heat = |o: &Owner| {
        let speed = memory.capacity.speed_of(o.hash).map_or(1.0, |speed| (1.0 + 0.5 * (speed - 1.0)).clamp(0.65, 1.3));
        o.weight / total / speed
    };
    let hottest = snapshot.owners.iter().map(heat).fold(0.0, f64::max);
    let ratio = hottest / need.stairs.share(owners);
    if ratio.is_finite() && total > 0.0 {
        let stairs = &mut memory.stairs;
        let before = if stairs.hot > 0.0 { stairs.hot } else { 1.0 };
        stairs.hot = before + 0.05 * (ratio.clamp(0.7, 1.6) - before);
    }
}

/// Latency of a healthy job at low load.
fn learn_floor(memory: &mut Memory, settings: &Settings, snapshot: &Snapshot, need: &Need, settled: bool) {
    // What is old because no worker is there, or too few, says nothing of how long processing takes.
    let Some(rate) = memory.processing_rate().filter(|_| snapshot.fresh) else { return };
    let level = need.demand.level;
    if memory.changes.waking {
        memory.changes.waking = !(rate >= 0.95 * level && rate > 0.0 && need.delay < 0.5 * need.latency);
        return;
    }
    let spare = need.capacity.is_some_and(|capacity| level > 0.0 && level < 0.7 * capacity);
    let calm = spare && settled && snapshot.gap.is_none() && snapshot.stuck.is_empty() && rate >= 0.95 * level;
    if calm {
        let certain =
            latency_floor(memory, settings) - memory.latency_floor.known().unwrap_or(0.0).min(0.5 * settings.latency.0);
        memory.latency_floor.observe(snapshot.settled_age.certain - certain);
    }
}

fn learn_bottleneck(memory: &mut Memory, snapshot: &Snapshot, need: &Need, settled: bool) {
    if !settled || snapshot.unsettled || snapshot.gap.is_some() {
        memory.bottleneck.interrupt();
        return;
    }
    let window = memory.rate_window();
    let Some(rate) = memory.processing_rate().filter(|rate| *rate > 0.0) else { return };
    // A queue that is worked off within seconds is no queue behind a bottleneck.
    let behind = |age: f64| age > (0.25 * need.latency).max(2.0);
    let queued = if snapshot.owners_known {
        let total: f64 = snapshot.owners.iter().map(|o| o.weight).sum();
        let late: f64 = snapshot.owners.iter().filter(|o| behind(o.age.certain)).map(|o| o.weight).sum();
        late > NEARLY_ALL * total
    } else {
        snapshot.waits_for_sure && behind(snapshot.settled_age.certain)
    };
    let seen = Throughput { now: memory.clock.now, workers: need.working, rate, queued, window };
    let stairs = memory.stairs.clone();
    memory.bottleneck.observe(seen, |workers| stairs.share(workers));
}
