//! After the decision: what this look taught. It is used from the next look on.

use super::bottleneck;
use super::capacity::Stint;
use super::down;
use super::flight::Flight;
use super::forecast::BIN;
use super::look::View;
use super::memory::Memory;
use super::num;
use super::observation::Observation;
use super::pieces::Piece;
use super::plan::Plan;
use super::settings::Settings;
use super::workers::{self, Shift};

/// A change whose partitions still stand after so long is over, and they are stuck; seconds.
const LONGEST_PAUSE: f64 = 120.0;
/// A roll-out of another template that takes longer is stuck, and what waits is no longer its own doing; seconds.
const LONGEST_ROLLOUT: f64 = 600.0;
/// Workers that have done nothing for so long agree with a source that has nothing; seconds.
const UNTOLD: f64 = 30.0;
/// Weights of partitions follow their rates within about ten minutes.
const WEIGHT_SECONDS: f64 = 600.0;

/// Before the decision: has the number of workers changed, and has the change landed?
pub(crate) fn meet_replicas(memory: &mut Memory, observation: &Observation) {
    let now = memory.now;
    let replicas = observation.replicas;
    let Some(desired) = replicas.desired else { return };
    memory.waking |= desired == 0;
    match memory.desired.replace(desired) {
        Some(before) if before != desired => {
            land(memory);
            begin(memory, before, desired);
        }
        // Seen for the first time in the middle of a change.
        None => {
            if let Some(ready) = replicas.ready.filter(|ready| *ready < desired) {
                // The demand that it was decided for is not known: growth is not to be silenced by a restart.
                memory.flight = Some(Flight::new(now, ready, desired, 0.0));
            }
        }
        Some(_) => {}
    }
    memory.rolling_since = if workers::rolling(observation) { memory.rolling_since.or(Some(now)) } else { None };
    if memory.rolling_since.is_some_and(|since| now - since < LONGEST_ROLLOUT) {
        let upper = memory.upper;
        memory.flight.get_or_insert_with(|| Flight::new(now, desired, desired, upper)).rolls(now);
    }
    memory.starting = workers::starting(observation, memory.watching_since);
    let (start_up, handover) = (memory.start_up(), memory.handover.p90());
    // Nobody moves yet: the change is not over, whatever a handover took before.
    let pausing = memory.still_since.is_some()
        && memory.flight.is_some_and(|f| f.settled.is_none_or(|at| now - at < LONGEST_PAUSE));
    let over =
        memory.flight.as_mut().is_some_and(|flight| flight.landed(now, replicas, start_up, handover) && !pausing);
    if over && land(memory) {
        memory.pauses_until = now + 30.0;
    }
}

/// What a change that has ended taught about handovers. `false`: nothing, and nothing that comes after it will: where
/// nobody was, or nobody stays, partitions stand still for as long as nobody is there, and nobody hands them over.
fn land(memory: &mut Memory) -> bool {
    let Some(flight) = memory.flight.take() else { return false };
    if flight.from == 0 || flight.to == 0 {
        return false;
    }
    let Some(pause) = flight.pause else { return true };
    memory.handover.observe(pause);
    // A pause shorter than three looks does not tell who paused.
    if pause > 3.0 * memory.interval {
        let all = if flight.still > 0.5 * pause { 1.0 } else { 0.0 };
        memory.all_stop = Some(memory.all_stop.map_or(all, |before| before + 0.5 * (all - before)));
    }
    true
}

fn begin(memory: &mut Memory, before: u32, desired: u32) {
    let now = memory.now;
    memory.note_rescale(now);
    // More that was just asked for is needed for a full window, whoever asked for it.
    if desired > before {
        memory.needs.note(now, desired, down::down_window(memory));
    }
    let demand = memory.decided_demand;
    memory.flight = Some(Flight::new(now, before, desired, demand));
    if memory.off.spares(Piece::MISTAKES) {
        let noise = memory.level_noise();
        memory.mistakes.note(now, before, desired, (memory.level, noise));
    }
}

/// After the decision.
pub(crate) fn learn(memory: &mut Memory, observation: &Observation, settings: &Settings, view: &View, plan: &Plan) {
    let now = memory.now;
    let settled = memory.flight.is_none() && view.pause.is_none();
    learn_pause(memory, view);
    // In a roll-out too: what the new template can do must not wait for its end.
    let tells = settled || memory.in_flight().is_some_and(|f| f.rolling) && view.pause.is_none();
    let shift = workers::shift(memory, observation, view, tells);
    note_untold(memory, view, shift.processed);
    let still = view.waiting && view.progress <= 0.0 && shift.processed.is_none_or(|p| p <= 0.0);
    let since_look = memory.since_look;
    if let Some(flight) = memory.flight.as_mut().filter(|_| still) {
        flight.still += since_look;
    }
    for seconds in &shift.start_ups {
        memory.start_up.observe(*seconds);
    }
    if shift.template.is_some() && shift.template != memory.template {
        // The first template seen is not a change, if nothing is known of another.
        if memory.template.is_some() {
            memory.capacity.reset();
            memory.bottleneck.forget();
        }
        memory.template.clone_from(&shift.template);
    }
    learn_capacity(memory, observation, view, &shift, settled);
    if let Some(rates) = view.rates {
        memory.forecast.observe_noise(rates.moment, rates.half_minute);
        memory.level = rates.half_minute;
        memory.upper = plan.demand.upper;
    }
    if let Some(latest) = memory.arrivals.latest().filter(|_| view.fresh) {
        let budget = memory.attainment.budget(settings.percentile).map(|b| b.1);
        if memory.forecast.observe(latest, budget) {
            learn_weights(memory);
        }
    }
    if settled && view.gap.is_none() {
        learn_hot(memory, view, plan);
    }
    learn_floor(memory, settings, view, plan, settled);
    if view.unsettled {
        memory.unsettled_at = now;
    }
    if view.progress > 0.0 {
        memory.moved_on = now;
    }
    bottleneck::learn(memory, view);
    memory.dear = plan.dear;
    let keep = match (plan.keep, plan.need) {
        (Some(keep), Some(need)) => Some(keep.max(if plan.trial { 0 } else { need })),
        _ => observation.replicas.desired,
    };
    if let Some(keep) = keep {
        let window = down::down_window(memory) * if plan.trial { 2.0 } else { 1.0 };
        memory.needs.note(now, keep, window);
    }
}

/// Keeps account of what the workers may have to process: a source that answers the same offsets for ever, or zeros, has
/// nothing left to be processed soon, and yet they go on.
fn note_untold(memory: &mut Memory, view: &View, processed: Option<f64>) {
    if view.fresh && !view.still {
        memory.untold = view.lag.unwrap_or(f64::INFINITY);
    }
    let Some(processed) = processed else { return };
    if processed > 0.0 {
        memory.worked_at = memory.now;
    }
    if view.still {
        memory.untold -= processed;
    }
}

/// Whether the workers process what the source does not tell of. Their counters are read at other times than the log, and what was
/// handed over is processed twice: this much is no contradiction.
pub(crate) fn untold(memory: &Memory) -> bool {
    let slack = 100.0 + 1.5 * memory.interval * processing_rate(memory).unwrap_or(0.0);
    memory.untold < -slack && memory.now - memory.worked_at < UNTOLD
}

/// Whether they may be about to: nobody leaves on the word of a log that has just come to rest.
pub(crate) fn unrested(memory: &Memory) -> bool {
    memory.untold < 0.0 && memory.now - memory.worked_at < (3.0 * memory.interval).max(10.0)
}

fn learn_pause(memory: &mut Memory, view: &View) {
    let Some(pause) = view.pause else { return };
    // It began and ended somewhere between two samples.
    let pause = (pause - memory.interval).max(0.0);
    if let Some(flight) = &mut memory.flight {
        flight.pause = Some(flight.pause.unwrap_or(0.0).max(pause));
    } else if memory.now < memory.pauses_until {
        memory.handover.observe(pause);
    }
}

fn learn_capacity(memory: &mut Memory, observation: &Observation, view: &View, shift: &Shift, settled: bool) {
    if !shift.stints.is_empty() {
        memory.capacity.learn(&shift.stints);
    }
    let behind = view.settled_age > 1.0 + 0.5 * memory.commit_interval && view.lag > processing_rate(memory);
    memory.backlog_since = if behind && settled { memory.backlog_since.or(Some(memory.now)) } else { None };
    // Progress of all, from the workers' counters or else from the log.
    let total = memory.progress.back().map_or(0.0, |p| p.1) + shift.processed.unwrap_or(view.progress);
    if view.fresh && memory.progress.back().is_none_or(|p| memory.now - p.0 >= 1.0) {
        if memory.progress.len() >= 64 {
            memory.progress.pop_front();
        }
        memory.progress.push_back((memory.now, total));
    } else if let Some(last) = memory.progress.back_mut() {
        last.1 = total;
    }
    if !shift.stints.is_empty() || !settled || shift.processed.is_some() {
        return;
    }
    // No counters: what the group commits, over a few commits, if every partition has a backlog.
    let rate = processing_rate(memory);
    let ready = observation.replicas.ready.filter(|n| *n > 0).or(observation.replicas.desired).filter(|n| *n > 0);
    if let (Some(rate), Some(ready)) = (rate, ready) {
        let useful = memory.stairs.useful().unwrap_or(ready).min(ready).max(1);
        let saturated = memory.backlog_since.is_some_and(|since| memory.now - since >= rate_window(memory));
        let stint = Stint { rate: rate / f64::from(useful), busy: None, saturated };
        memory.capacity.learn(&[stint]);
    }
}

/// Records processed per second over the last ten seconds or three commits.
pub(crate) fn processing_rate(memory: &Memory) -> Option<f64> {
    let (last, total) = *memory.progress.back()?;
    let window = rate_window(memory);
    let (since, before) = *memory.progress.iter().find(|p| last - p.0 <= window)?;
    (last - since >= 2.0).then(|| (total - before).max(0.0) / (last - since))
}

pub(crate) fn rate_window(memory: &Memory) -> f64 {
    (2.0 * memory.commit_interval).clamp(10.0, 60.0)
}

fn learn_weights(memory: &mut Memory) {
    let gain = BIN / WEIGHT_SECONDS;
    let watched = memory.now - memory.watching_since;
    if watched < 20.0 {
        return;
    }
    // Weights move slowly: the staircase follows them twice a minute, and at once in the beginning.
    if watched < 120.0 || memory.now - memory.weighed_at >= 30.0 {
        memory.weighed_at = memory.now;
        memory.weighed = memory.weighed.wrapping_add(1);
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

/// How much hotter the hottest worker is than the staircase says.
fn learn_hot(memory: &mut Memory, view: &View, plan: &Plan) {
    if !view.owners_known || view.by_owner.iter().any(|o| o.weight <= 0.0) {
        return;
    }
    let total: f64 = view.by_owner.iter().map(|o| o.weight).sum();
    let hottest = view.by_owner.iter().map(|o| o.weight).fold(0.0, f64::max);
    let owners = num::u32_of(view.by_owner.len());
    let said = plan.stairs.share(owners) / memory.hot;
    let ratio = hottest / total / said;
    if owners > 1 && ratio.is_finite() {
        memory.hot += 0.05 * (ratio.clamp(1.0, 1.6) - memory.hot);
    }
}

/// Latency of a healthy job at low load (algorithms.md C4, L0).
fn learn_floor(memory: &mut Memory, settings: &Settings, view: &View, plan: &Plan, settled: bool) {
    // What is old because nobody is there, or too few, or nobody was, says nothing of how long processing takes.
    let Some(rate) = processing_rate(memory).filter(|_| view.fresh) else { return };
    let level = plan.demand.level;
    memory.even_since =
        if (0.95 * level..=1.15 * level).contains(&rate) { memory.even_since.or(Some(memory.now)) } else { None };
    // Somebody who begins to catch up passes that rate, too.
    memory.waking &= memory.even_since.is_none_or(|since| memory.now - since < rate_window(memory));
    if memory.waking || rate < 0.95 * level {
        return;
    }
    let calm = plan.capacity.is_some_and(|capacity| plan.demand.level > 0.0 && plan.demand.level < 0.7 * capacity);
    let age = view.age.filter(|_| calm && settled && view.gap.is_none());
    let batch = settings.batch_interval.map_or(0.0, |b| b.0);
    if let Some(age) = age.map(|age| (age - batch).max(0.0)) {
        let before = memory.latency_floor.unwrap_or(age);
        memory.latency_floor = Some(before + 0.02 * (age - before));
    }
}
