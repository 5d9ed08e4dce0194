//! What the workers' own counters say: start-ups, what each did since the last look, and whether anything moves at all.

use super::capacity::Stint;
use super::look::View;
use super::memory::{Memory, WorkerTrack};
use super::observation::{Observation, Worker};
use super::track::owner_hash;

/// A worker younger than this is warming up, seconds (C11, pitfall 6).
const WARM_UP: f64 = 5.0;
/// A backlog of less than this much work may be an empty poll, seconds.
const BACKLOG: f64 = 0.5;
/// What one worker can do is smoothed over about ten minutes.
const SPEED_SECONDS: f64 = 600.0;
/// A worker that is busy for less than this share of the time waits for records.
const BUSY: f64 = 0.05;
/// Nothing processed for so long although records wait and arrive: a stall, seconds.
const STALL: f64 = 30.0;

/// What the workers did since the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shift {
    pub(crate) stints: Vec<Stint>,
    /// Records processed, all workers; `None` if not all of them say so.
    pub(crate) processed: Option<f64>,
    /// Start-ups that ended now, seconds.
    pub(crate) start_ups: Vec<f64>,
    /// The template that the newest working worker was made from.
    pub(crate) template: Option<String>,
}

/// Reads the counters. Called after the decision: what is learned now is used from the next look on.
pub(crate) fn shift(memory: &mut Memory, observation: &Observation, view: &View, settled: bool) -> Shift {
    let (look, now, first) = (memory.looks, memory.now, memory.watching_since);
    let mut shift = Shift { template: newest_template(observation), ..Shift::default() };
    let total_backlog = view.by_owner.iter().map(|o| o.lag).sum::<f64>();
    let (mut all, mut processed, mut busied) = (true, 0.0, false);
    for worker in &observation.workers {
        if worker.terminating == Some(true) {
            continue;
        }
        let track = memory.workers.entry(worker.id.as_str().into()).or_insert_with(|| WorkerTrack {
            look: 0,
            seen_at: now,
            started: f64::NAN,
            at: f64::NAN,
            processed: 0.0,
            busy: f64::NAN,
            backlog: false,
            started_up: false,
            hash: owner_hash(&worker.id),
            can: f64::NAN,
        });
        if track.look == look {
            continue;
        }
        track.look = look;
        track.seen_at = now;
        if let Some(seconds) = start_up(track, worker, now, first) {
            shift.start_ups.push(seconds);
        }
        let Some((at, count)) = counters(worker, now) else {
            all = false;
            track.backlog = false;
            continue;
        };
        let started = worker.started_at.map_or(0.0, |s| s.0);
        let same = track.started.to_bits() == started.to_bits() && count >= track.processed;
        let length = at - track.at;
        if same && length <= 0.0 {
            continue; // a cached answer is no rate of zero
        }
        let (rate, grown) =
            if same { ((count - track.processed) / length, count - track.processed) } else { (0.0, 0.0) };
        processed += grown;
        let owner = track.hash;
        let (lag, age) = if view.owners_known {
            view.by_owner.iter().find(|o| o.hash == owner).map_or((0.0, 0.0), |o| (o.lag, o.age))
        } else {
            // Whose records wait is not known: only if plenty wait can everybody be busy.
            let share = total_backlog / f64::from(observation.replicas.ready.unwrap_or(1).max(1));
            (share / 3.0, view.age.unwrap_or(0.0))
        };
        // Where only commits are known, what came since the last one may be done already.
        let slack = if view.certain { BACKLOG } else { BACKLOG + 1.5 * memory.commit_interval };
        let backlog = lag > slack * rate && lag >= 1.0 && age > slack;
        let busy = worker.busy_seconds.map(|b| (b - track.busy) / length).filter(|b| b.is_finite() && *b >= 0.0);
        busied |= same && busy >= Some(BUSY);
        let young = now - started < WARM_UP && worker.started_at.is_some();
        if same && length >= 0.4 && settled && !young && shift.template == worker.template {
            // A worker that idles a tenth of the time waits for something, whatever its log says.
            let saturated = backlog && track.backlog && busy.is_none_or(|b| b >= 0.9);
            shift.stints.push(Stint { rate, busy, saturated });
            // What it can do itself: by its busy clock, and by what it does when it never waits.
            let can = if saturated { Some(rate) } else { busy.filter(|b| *b >= 0.2).map(|b| rate / b) };
            if let Some(can) = can.filter(|c| *c > 0.0) {
                let gain = (length / SPEED_SECONDS).clamp(0.0, 1.0);
                track.can = if track.can.is_finite() { track.can + gain * (can - track.can) } else { can };
            }
        }
        *track = WorkerTrack {
            at,
            started,
            processed: count,
            backlog,
            busy: worker.busy_seconds.unwrap_or(f64::NAN),
            ..*track
        };
    }
    memory.workers.retain(|_, w| now - w.seen_at <= 60.0);
    if busied {
        memory.busy_at = now;
    }
    shift.processed = (all && !observation.workers.is_empty()).then_some(processed);
    note_stall(memory, view, &shift);
    shift
}

/// Whether the workers run and do nothing although records wait and arrive (law 4).
pub(crate) fn stalled(memory: &Memory, view: &View) -> bool {
    view.waiting
        && view.rates.is_some_and(|r| r.half_minute > 0.0)
        && memory.still_since.is_some_and(|since| memory.now - since >= STALL)
}

fn note_stall(memory: &mut Memory, view: &View, shift: &Shift) {
    let still = shift.processed == Some(0.0) && view.progress <= 0.0 && view.waiting;
    let moved = view.progress > 0.0 || shift.processed.is_some_and(|p| p > 0.0) || !view.waiting;
    if moved {
        memory.still_since = None;
    } else if still && memory.still_since.is_none() {
        memory.still_since = Some(memory.now);
    }
}

fn counters(worker: &Worker, now: f64) -> Option<(f64, f64)> {
    let at = worker.at.map_or(now, |a| a.0).min(now);
    let count = worker.processed.filter(|p| p.is_finite() && *p >= 0.0)?;
    (now - at <= 15.0).then_some((at, count))
}

/// Pod created -> ready or first record processed, what comes first: the handover is counted by itself. Only of workers
/// that came while we watched: when an older one began is not known.
fn start_up(track: &mut WorkerTrack, worker: &Worker, now: f64, first: f64) -> Option<f64> {
    let up = worker.ready == Some(true) || worker.processed > Some(0.0);
    if track.started_up || !up {
        return None;
    }
    track.started_up = true;
    let created = worker.created_at?.0;
    (created >= first).then_some(now - created).filter(|s| *s >= 0.0)
}

/// Start-ups that take longer are failures, seconds.
const LONGEST_START: f64 = 300.0;

/// For how long the oldest worker that is not ready has been starting; of those that came while we watched.
pub(crate) fn starting(observation: &Observation, first: f64) -> f64 {
    let starts =
        |w: &&Worker| w.terminating != Some(true) && w.ready == Some(false) && w.processed.is_none_or(|p| p <= 0.0);
    let since = |w: &Worker| w.created_at.map(|c| c.0).filter(|c| *c >= first).map(|c| observation.at.0 - c);
    observation.workers.iter().filter(starts).filter_map(since).fold(0.0, f64::max).min(LONGEST_START)
}

/// Whether workers of more than one template are there.
pub(crate) fn rolling(observation: &Observation) -> bool {
    let mut templates = observation.workers.iter().filter_map(|w| w.template.as_ref());
    let first = templates.next();
    templates.any(|template| Some(template) != first)
}

/// Template of the youngest worker that works.
fn newest_template(observation: &Observation) -> Option<String> {
    let works = |w: &&Worker| w.terminating != Some(true) && (w.processed > Some(0.0) || w.ready == Some(true));
    let born = |w: &Worker| w.created_at.map_or(f64::NEG_INFINITY, |c| c.0);
    let newest = observation
        .workers
        .iter()
        .filter(works)
        .max_by(|a, b| born(a).total_cmp(&born(b)).then_with(|| a.id.cmp(&b.id)))?;
    newest.template.clone()
}
