//! The workers' own counters: what each worker did since the last observation, which workers had spare time, and how
//! long a start takes.

use std::collections::BTreeMap;

use super::super::contract::observation::{Observation, Worker};
use super::capacity::Stint;
use super::partition::owner_hash;

/// Age up to which counters describe the present, seconds.
pub(crate) const FRESH: f64 = 15.0;
/// Age up to which a worker is warming up, seconds.
const WARM_UP: f64 = 5.0;
/// Share of one lane's time below which a worker had spare time, so that nothing waited for it.
const SPARE: f64 = 0.85;
/// Share of one lane's time above which a worker is working.
const BUSY: f64 = 0.05;
/// Time after which workers that were not seen are forgotten, seconds.
const FORGET: f64 = 60.0;
/// Time beyond which a start-up is a failure, seconds.
const LONGEST_START: f64 = 900.0;

/// What is remembered of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerTrack {
    last_observation: u32,
    seen_at: f64,
    started: f64,
    /// When its counters were read, and their values; NaN: never.
    at: f64,
    processed: f64,
    busy: f64,
    /// Whether it was working at the last read.
    busy_now: bool,
    /// When it last had spare time; NaN: never.
    idle_at: f64,
    /// Whether records waited for it at the last observation.
    queued: bool,
    /// Whether its start-up has been learned, or cannot be.
    started_up: bool,
}

/// The workers of a job, by [`owner_hash`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Workers {
    tracks: BTreeMap<u64, WorkerTrack>,
    /// When a counter last went back although its worker had not been restarted.
    went_back_at: Option<f64>,
}

/// The times that counters are read with, Unix seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadContext {
    /// Number of the observation.
    pub(crate) observation: u32,
    pub(crate) now: f64,
    pub(crate) watching_since: f64,
}

/// The last read of one worker's counters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastRead {
    /// When its metrics page was read.
    pub(crate) at: Option<f64>,
    /// When it last had spare time.
    pub(crate) idle_at: Option<f64>,
    /// Whether it was working.
    pub(crate) busy: bool,
}

/// What the workers did since the last observation.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkDone {
    /// Stints of the workers whose counters were read again; `queued` is filled in once the log was read.
    pub(crate) stints: Vec<Stint>,
    /// Records processed by all workers; `None` unless every ready worker reports them.
    pub(crate) processed: Option<f64>,
    /// Whether some worker is working, by its busy clock.
    pub(crate) busy: bool,
    /// Whether every ready worker has a busy clock, and none was working.
    pub(crate) all_idle: bool,
    /// Start-ups that ended with this observation, seconds.
    pub(crate) start_ups: Vec<f64>,
    /// Template of the newest worker that is working.
    pub(crate) template: Option<String>,
    /// Number of workers that have processed anything or own a partition.
    pub(crate) working: u32,
}

impl Workers {
    /// Reads the counters. `owns`: whether the worker with this hash owns a partition, or `None` if that is not known.
    pub(crate) fn read_counters(
        &mut self,
        observation: &Observation,
        times: ReadContext,
        lanes: Option<u32>,
        owns: impl Fn(u64) -> Option<bool>,
    ) -> WorkDone {
        let now = times.now;
        let mut done = WorkDone { template: newest_template(observation), all_idle: true, ..WorkDone::default() };
        let (mut all, mut processed, mut clocks) = (true, 0.0, 0_u32);
        for worker in &observation.workers {
            if worker.terminating == Some(true) {
                continue;
            }
            let hash = owner_hash(&worker.id);
            let track = self.tracks.entry(hash).or_insert_with(|| WorkerTrack::new(now));
            if track.last_observation == times.observation {
                continue;
            }
            (track.last_observation, track.seen_at) = (times.observation, now);
            let works = worker.processed.is_some_and(|p| p > 0.0) || owns(hash) == Some(true);
            done.working += u32::from(works);
            if let Some(seconds) = start_up(track, worker, &times, works, owns(hash).is_some()) {
                done.start_ups.push(seconds);
            }
            let Some((at, count)) = counters(worker, now) else {
                all &= worker.ready == Some(false);
                done.all_idle &= worker.ready == Some(false);
                continue;
            };
            let started = worker.started_at.map_or(0.0, |s| s.0);
            let same = track.started.to_bits() == started.to_bits() && count >= track.processed;
            if track.started.to_bits() == started.to_bits() && count < track.processed {
                self.went_back_at = Some(now);
            }
            let length = at - track.at;
            if same && length <= 0.0 {
                done.busy |= track.busy_now;
                done.all_idle &= !track.busy_now;
                continue; // a cached sample is not a rate of zero
            }
            let records = if same { count - track.processed } else { 0.0 };
            processed += records;
            let busy = worker.busy_seconds.map(|b| b - track.busy).filter(|b| same && b.is_finite() && *b >= 0.0);
            clocks += u32::from(worker.busy_seconds.is_some());
            track.busy_now = same && busy.map_or(records > 0.0, |b| b > BUSY * length);
            done.busy |= busy.is_some() && track.busy_now;
            done.all_idle &= !track.busy_now;
            if length >= 0.4 && busy.is_some_and(|b| b < SPARE * length) {
                track.idle_at = at;
            }
            let young = now - started < WARM_UP && worker.started_at.is_some();
            if same && length >= 0.4 && !young && done.template == worker.template {
                let lanes = worker.concurrency.or(lanes).map(f64::from);
                done.stints.push(Stint { worker: hash, records, seconds: length, busy, queued: false, lanes });
            }
            (track.at, track.started, track.processed) = (at, started, count);
            track.busy = worker.busy_seconds.unwrap_or(f64::NAN);
        }
        self.tracks.retain(|_, w| now - w.seen_at <= FORGET);
        done.all_idle &= clocks > 0 && all;
        done.processed = (all && !observation.workers.is_empty()).then_some(processed);
        done
    }

    /// Marks the stints of workers for which records waited, both at the last observation and now.
    pub(crate) fn mark_queued(&mut self, work_done: &mut WorkDone, queued: impl Fn(u64) -> bool) {
        for stint in &mut work_done.stints {
            if let Some(track) = self.tracks.get_mut(&stint.worker) {
                let now = queued(stint.worker);
                // A worker that idles a tenth of the time waits for something, whatever its log shows.
                stint.queued = now && track.queued && stint.busy.is_none_or(|b| b >= 0.9 * stint.seconds);
                track.queued = now;
            }
        }
    }

    /// Returns whether a counter went back within the last minute although its worker was not restarted.
    pub(crate) fn went_back(&self, now: f64) -> bool {
        self.went_back_at.is_some_and(|at| now - at < FORGET)
    }

    /// Returns the last read of this worker's counters.
    pub(crate) fn last_read(&self, hash: u64) -> LastRead {
        let Some(track) = self.tracks.get(&hash) else { return LastRead::default() };
        let known = |t: f64| (!t.is_nan()).then_some(t);
        LastRead { at: known(track.at), idle_at: known(track.idle_at), busy: track.busy_now }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.tracks.len() * (size_of::<(u64, WorkerTrack)>() * 3 / 2 + 16)
    }
}

impl WorkerTrack {
    fn new(now: f64) -> Self {
        Self {
            last_observation: 0,
            seen_at: now,
            started: f64::NAN,
            at: f64::NAN,
            processed: 0.0,
            busy: f64::NAN,
            busy_now: false,
            idle_at: f64::NAN,
            queued: false,
            started_up: false,
        }
    }
}

fn counters(worker: &Worker, now: f64) -> Option<(f64, f64)> {
    let at = worker.at.map_or(now, |a| a.0).min(now);
    let count = worker.processed.filter(|p| p.is_finite() && *p >= 0.0)?;
    (now - at <= FRESH).then_some((at, count))
}

/// Returns the time from pod creation to the first record processed or the first partition owned, or to readiness where
/// neither can be seen. Only for workers that came while watching: when an older one began is not known.
fn start_up(
    track: &mut WorkerTrack,
    worker: &Worker,
    times: &ReadContext,
    works: bool,
    owners_known: bool,
) -> Option<f64> {
    let up = works || (!owners_known && worker.processed.is_none() && worker.ready == Some(true));
    if track.started_up || !up {
        return None;
    }
    track.started_up = true;
    let created = worker.created_at?.0;
    (created >= times.watching_since).then_some(times.now - created).filter(|s| (0.0..=LONGEST_START).contains(s))
}

/// Returns for how long the oldest worker that is not working yet has been starting, seconds; of those that came while
/// watching.
pub(crate) fn starting(observation: &Observation, first: f64) -> f64 {
    let starts =
        |w: &&Worker| w.terminating != Some(true) && w.ready == Some(false) && w.processed.is_none_or(|p| p <= 0.0);
    let since = |w: &Worker| w.created_at.map(|c| c.0).filter(|c| *c >= first).map(|c| observation.at.0 - c);
    observation.workers.iter().filter(starts).filter_map(since).fold(0.0, f64::max).min(LONGEST_START)
}

/// Returns whether workers of more than one template are present.
pub(crate) fn rolling(observation: &Observation) -> bool {
    let mut templates = observation.workers.iter().filter_map(|w| w.template.as_ref());
    let first = templates.next();
    templates.any(|template| Some(template) != first)
}

/// Returns the template of the youngest worker that is working.
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
