//! Updates the memory after a decision. What was learned is used from the next observation on.

mod replicas;

pub(crate) use replicas::track_replicas;

use super::contract::decision::{Action, BoundBy, Confidence, Decision};
use super::contract::observation::Observation;
use super::contract::settings::Settings;
use super::limit::scale_down::hold_seconds;
use super::model::bottleneck::Throughput;
use super::model::capacity::Stint;
use super::model::forecast::BIN;
use super::model::memory::Memory;
use super::model::queued_progress::Committed;
use super::model::workers::WorkDone;
use super::observe::snapshot::{NEARLY_ALL, Owner, Snapshot};
use super::plan::{Need, latency_floor};
use sluice_base::num;

/// Time within which the weights of partitions follow their arrival rates, seconds.
const WEIGHT_SECONDS: f64 = 600.0;
/// Waiting work from which on a worker counts as having a queue, seconds.
const QUEUED: f64 = 0.5;

/// Remembers the demand that a change of the replica count was decided for.
pub(crate) fn record_decision(memory: &mut Memory, decision: &Decision, need: &Need) {
    if decision.action == Action::Hold {
        return;
    }
    memory.changes.decided_demand = need.demand.upper;
    // The step was limited because too little is known, so the rest may follow as soon as more is known.
    let held_back = decision.bound_by == BoundBy::StepLimit && memory.capacity.confidence() < Confidence::High;
    if let (true, Some(mu), Some(to)) = (held_back, need.mu, decision.desired) {
        memory.changes.decided_demand = (mu / memory.stairs.share(to)).min(need.demand.upper);
    }
}

/// Learns from one observation.
pub(crate) fn learn(
    memory: &mut Memory,
    observation: &Observation,
    settings: &Settings,
    snapshot: &Snapshot,
    need: &Need,
    mut work_done: WorkDone,
) {
    let now = memory.clock.now;
    let settled = memory.changes.flight.is_none() && snapshot.pause.is_none();
    let work_was_done = work_done.processed.is_none_or(|processed| processed > 0.0);
    learn_pause(memory, snapshot);
    learn_template(memory, &work_done);
    learn_progress(memory, snapshot, &work_done);
    learn_capacity(memory, snapshot, need, &mut work_done, settled);
    learn_offsets_per_record(memory, snapshot, need, &work_done, settled);
    if settled && snapshot.gap.is_none() {
        let gaps: Vec<f64> = snapshot.commit_gaps.clone();
        memory.commit_interval.observe(&gaps);
    }
    if let Some(rates) = snapshot.rates {
        memory.forecast.observe_noise(rates.moment, rates.level);
    }
    // Arrivals that were not read are only estimated, and their errors are not errors of the forecast.
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
    // Workers that process nothing are stalled, which is not a bottleneck.
    let working = work_was_done && memory.progress.still_since.is_none();
    learn_bottleneck(memory, snapshot, need, settled && working);
    if snapshot.unsettled {
        memory.changes.unsettled_at = now;
    }
    track_fewer(memory, observation, need);
}

/// Tracks since when fewer workers would have been enough, and the largest number that would have been needed since.
fn track_fewer(memory: &mut Memory, observation: &Observation, need: &Need) {
    let now = memory.clock.now;
    let current = observation.replicas.desired;
    let Some(keep) = need.keep.filter(|keep| Some(*keep) < current) else {
        memory.changes.fewer_since = None;
        return;
    };
    let hold = hold_seconds(memory, need);
    memory.changes.fewer_since = Some(match memory.changes.fewer_since {
        // After twice the holding time the largest number may be forgotten: the window moves on.
        Some((since, highest)) if now - since < 2.0 * hold => (since, highest.max(keep)),
        Some(_) => (now - hold, keep),
        None => (now, keep),
    });
}

fn learn_pause(memory: &mut Memory, snapshot: &Snapshot) {
    let Some(pause) = snapshot.pause else { return };
    // The pause began and ended somewhere between two samples.
    let pause = (pause - memory.clock.interval).max(0.0);
    if let Some(flight) = &mut memory.changes.flight {
        flight.pause = Some(flight.pause.unwrap_or(0.0).max(pause));
    } else if memory.clock.now < memory.changes.pauses_until {
        memory.durations.handover.observe(pause);
    }
}

fn learn_template(memory: &mut Memory, work_done: &WorkDone) {
    for seconds in &work_done.start_ups {
        memory.durations.start_up.observe(*seconds);
    }
    if work_done.template.is_some() && work_done.template != memory.template {
        // The first template that is seen is not a change, unless another one is known from before.
        if memory.template.is_some() {
            memory.capacity.start_over();
            memory.commit_interval.start_over();
            memory.bottleneck.forget();
            memory.trial.forget();
        }
        memory.template.clone_from(&work_done.template);
    }
}

fn learn_progress(memory: &mut Memory, snapshot: &Snapshot, work_done: &WorkDone) {
    let now = memory.clock.now;
    let left = (snapshot.fresh && !snapshot.still).then(|| snapshot.lag.map_or(f64::INFINITY, |lag| lag.possible));
    let offsets = memory.offsets_per_record.value();
    memory.progress.compare(now, left, work_done.processed.map(|p| p * offsets));
    memory.progress.compare_counters(now, work_done.processed, snapshot.progress);
    let moved = snapshot.progress > 0.0 || work_done.processed.is_some_and(|p| p > 0.0);
    let still = snapshot.waits_for_sure && !moved && !work_done.busy && work_done.processed == Some(0.0);
    if moved {
        memory.progress.finished(now);
    } else if !snapshot.waits || memory.changes.desired == Some(0) || memory.in_flight().is_some() {
        memory.progress.nothing_to_finish(now);
    }
    if moved || work_done.busy || !snapshot.waits {
        memory.progress.still_since = None;
    } else if still && memory.progress.still_since.is_none() {
        memory.progress.still_since = Some(now);
    }
    if still && let Some(flight) = memory.changes.flight.as_mut() {
        flight.still += memory.clock.since_last_observation;
    }
    if snapshot.progress > 0.0 {
        memory.progress.moved_at = now;
    }
    if snapshot.fresh {
        // By the workers' counters, or else by the log.
        let trusted = work_done.processed.filter(|_| !memory.progress.counters_stand_still(now));
        memory.progress.counted = trusted.is_some();
        memory.progress.record(now, trusted.unwrap_or(snapshot.progress));
    }
}

fn learn_capacity(memory: &mut Memory, snapshot: &Snapshot, need: &Need, work_done: &mut WorkDone, settled: bool) {
    let now = memory.clock.now;
    let mu = need.mu.unwrap_or(f64::INFINITY);
    let all_queued = snapshot.nearly_all_queued();
    let queued = |hash: u64| {
        if snapshot.owners_known {
            let queued =
                |o: &Owner| o.queue.certain >= 2.0 && (o.queue.certain > QUEUED * mu || o.age.certain > 2.0 * QUEUED);
            return snapshot.owner(hash).is_some_and(queued);
        }
        // Without known owners, every worker can only have a queue if records wait in nearly all partitions.
        all_queued
    };
    memory.workers.mark_queued(work_done, queued);
    // Where a shared limit holds the workers up, their rate is not their capacity.
    if memory.bottleneck.found(now).is_some() || memory.progress.counters_stand_still(now) {
        return;
    }
    // A partition that stops during a change looks like a queue that its worker cannot keep up with.
    let mut stints = std::mem::take(&mut work_done.stints);
    stints.retain(|s| s.busy.is_some() || settled);
    if work_done.processed.is_none() && (settled || snapshot.owners_known) && snapshot.gap.is_none() {
        stints.extend(stints_from_commits(memory, snapshot, need));
    } else {
        memory.queued_progress.interrupt();
    }
    memory.capacity.learn(&stints, now);
    let calm = settled && snapshot.gap.is_none() && need.delay < 0.2 * need.latency && snapshot.lag.is_some();
    let commits = memory.commit_interval.upper().unwrap_or(5.0);
    if calm && now - memory.changes.landed_at > 30.0 + 2.0 * commits && memory.clock.watched() > 60.0 {
        let share = memory.stairs.share(need.working.max(1));
        let offsets = memory.offsets_per_record.value();
        // The lower of arrivals and processing: a step that has just arrived is not processed yet.
        let done = memory.processing_rate().map_or(0.0, |done| done.min(need.demand.level / offsets));
        memory.capacity.record_least(0.95 * done * share, now);
    }
}

/// Without counters: measures the capacity by what owners committed while records waited for them all the time.
fn stints_from_commits(memory: &mut Memory, snapshot: &Snapshot, need: &Need) -> Vec<Stint> {
    let now = memory.clock.now;
    let queued = |o: &Owner| !o.moving && o.queued_weight > 0.0 && o.queued_weight >= 0.5 * o.weight;
    let seen: Vec<Committed> = if snapshot.owners_known {
        let commits_of = |o: &Owner| Committed { owner: o.hash, progress: o.progress, queued: queued(o) };
        snapshot.owners.iter().map(commits_of).collect()
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
        .map(|stretch| {
            let worker = stretch.owner;
            let (records, seconds) = (stretch.offsets / offsets / workers, stretch.seconds);
            Stint { worker, records, seconds, busy: None, queued: true, lanes: None }
        })
        .collect()
}

fn learn_offsets_per_record(
    memory: &mut Memory,
    snapshot: &Snapshot,
    need: &Need,
    work_done: &WorkDone,
    settled: bool,
) {
    // Offsets that workers leave although they have long had the time to process them are not records.
    if settled && snapshot.markers > 0 && need.working > 0 && !work_done.busy && memory.clock.watched() > 90.0 {
        memory.offsets_per_record.markers_seen();
    }
    match work_done.processed.filter(|_| settled && snapshot.gap.is_none() && snapshot.without_position == 0) {
        Some(processed) => {
            let behind = if snapshot.positioned { 0.0 } else { memory.commit_interval.upper().unwrap_or(5.0) };
            memory.offsets_per_record.observe(
                memory.clock.since_last_observation,
                snapshot.progress,
                processed,
                behind,
            );
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
    // Weights change slowly: the staircase is rebuilt twice a minute, and more often in the beginning.
    let now = memory.clock.now;
    if watched < 120.0 || now - memory.stairs.weighed_at >= 30.0 {
        memory.stairs.weighed_at = now;
        memory.stairs.weights_version = memory.stairs.weights_version.wrapping_add(1);
    }
    for track in memory.partitions.tracks_mut() {
        if let Some(rate) = track.rate(60.0) {
            let weight = f64::from(track.weight);
            // The first minutes are averaged, so that one exceptional minute does not last for ten.
            let gain = gain.max(BIN / watched.max(BIN)).min(1.0);
            track.weight = num::f32_of(if weight > 0.0 { weight + gain * (rate - weight) } else { rate });
        }
    }
}

/// Learns how much hotter the hottest worker is than the staircase predicts.
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

/// Learns the latency of a healthy job at low load.
fn learn_floor(memory: &mut Memory, settings: &Settings, snapshot: &Snapshot, need: &Need, settled: bool) {
    // An age that comes from missing or too few workers does not show how long processing takes.
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
    // A queue that is worked off within seconds is not the queue of a bottleneck.
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
