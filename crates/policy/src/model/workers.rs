//! What the workers' own counters say: what each did since the last look, who had time to spare, and how long a start
//! takes.

use std::collections::BTreeMap;

use super::super::contract::observation::{Observation, Worker};
use super::capacity::Stint;
use super::partition::owner_hash;

/// Counters older than this do not say what is now, seconds.
pub(crate) const FRESH: f64 = 15.0;
/// A worker younger than this is warming up, seconds.
const WARM_UP: f64 = 5.0;
/// A worker that was busy for less than this share of one lane's time had time to spare, so nothing waited for it.
const SPARE: f64 = 0.85;
/// A worker that was busy for more than this share of one lane's time is working.
const BUSY: f64 = 0.05;
/// Workers that were not seen for this long are forgotten, seconds.
const FORGET: f64 = 60.0;
/// Start-ups that take longer are failures, seconds.
const LONGEST_START: f64 = 900.0;

/// What is remembered of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerTrack {
    look: u32,
    seen_at: f64,
    started: f64,
    /// When its counters were read, and what they said; NaN: never.
    at: f64,
    processed: f64,
    busy: f64,
    /// It was working at the last read.
    busy_now: bool,
    /// When it last had time to spare; NaN: never.
    idle_at: f64,
    /// Records waited for it at the last look.
    queued: bool,
    /// Its start-up has been learned, or cannot be.
    started_up: bool,
}

/// The workers of a job, by [`owner_hash`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Workers {
    tracks: BTreeMap<u64, WorkerTrack>,
    /// When a counter last went back although its worker had not been restarted.
    went_back_at: Option<f64>,
}

/// What the workers did since the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shift {
    /// What each did whose counters were read anew; `queued` is filled in once the log was read.
    pub(crate) stints: Vec<Stint>,
    /// Records processed by all workers; `None` if not all that are ready say so.
    pub(crate) processed: Option<f64>,
    /// Some worker is working, by its busy clock.
    pub(crate) busy: bool,
    /// Every ready worker has a busy clock, and none was working.
    pub(crate) all_idle: bool,
    /// Start-ups that ended now, seconds.
    pub(crate) start_ups: Vec<f64>,
    /// The template that the newest working worker was made from.
    pub(crate) template: Option<String>,
    /// Workers that have processed anything or own a partition.
    pub(crate) working: u32,
}

impl Workers {
    /// Reads the counters. `owns`: whether the worker with this hash owns a partition; `None`: not known.
    pub(crate) fn read(
        &mut self,
        observation: &Observation,
        (look, now, first): (u32, f64, f64),
        lanes: Option<u32>,
        owns: impl Fn(u64) -> Option<bool>,
    ) -> Shift {
        let mut shift = Shift { template: newest_template(observation), all_idle: true, ..Shift::default() };
        let (mut all, mut processed, mut clocks) = (true, 0.0, 0_u32);
        for worker in &observation.workers {
            if worker.terminating == Some(true) {
                continue;
            }
            let hash = owner_hash(&worker.id);
            let track = self.tracks.entry(hash).or_insert_with(|| WorkerTrack::new(now));
            if track.look == look {
                continue;
            }
            (track.look, track.seen_at) = (look, now);
            let works = worker.processed.is_some_and(|p| p > 0.0) || owns(hash) == Some(true);
            shift.working += u32::from(works);
            if let Some(seconds) = start_up(track, worker, (now, first), works, owns(hash).is_some()) {
                shift.start_ups.push(seconds);
            }
            let Some((at, count)) = counters(worker, now) else {
                all &= worker.ready == Some(false);
                shift.all_idle &= worker.ready == Some(false);
                continue;
            };
            let started = worker.started_at.map_or(0.0, |s| s.0);
            let same = track.started.to_bits() == started.to_bits() && count >= track.processed;
            if track.started.to_bits() == started.to_bits() && count < track.processed {
                self.went_back_at = Some(now);
            }
            let length = at - track.at;
            if same && length <= 0.0 {
                shift.busy |= track.busy_now;
                shift.all_idle &= !track.busy_now;
                continue; // a cached answer is no rate of zero
            }
            let records = if same { count - track.processed } else { 0.0 };
            processed += records;
            let busy = worker.busy_seconds.map(|b| b - track.busy).filter(|b| same && b.is_finite() && *b >= 0.0);
            clocks += u32::from(worker.busy_seconds.is_some());
            track.busy_now = same && busy.map_or(records > 0.0, |b| b > BUSY * length);
            shift.busy |= busy.is_some() && track.busy_now;
            shift.all_idle &= !track.busy_now;
            if length >= 0.4 && busy.is_some_and(|b| b < SPARE * length) {
                track.idle_at = at;
            }
            let young = now - started < WARM_UP && worker.started_at.is_some();
            if same && length >= 0.4 && !young && shift.template == worker.template {
                let lanes = worker.concurrency.or(lanes).map(f64::from);
                shift.stints.push(Stint { worker: hash, records, seconds: length, busy, queued: false, lanes });
            }
            (track.at, track.started, track.processed) = (at, started, count);
            track.busy = worker.busy_seconds.unwrap_or(f64::NAN);
        }
        self.tracks.retain(|_, w| now - w.seen_at <= FORGET);
        shift.all_idle &= clocks > 0 && all;
        shift.processed = (all && !observation.workers.is_empty()).then_some(processed);
        shift
    }

    /// Fills in for whom records waited, at the last look and at this one.
    pub(crate) fn mark_queued(&mut self, shift: &mut Shift, queued: impl Fn(u64) -> bool) {
        for stint in &mut shift.stints {
            if let Some(track) = self.tracks.get_mut(&stint.worker) {
                let now = queued(stint.worker);
                // A worker that idles a tenth of the time waits for something, whatever its log says.
                stint.queued = now && track.queued && stint.busy.is_none_or(|b| b >= 0.9 * stint.seconds);
                track.queued = now;
            }
        }
    }

    /// Whether a counter has gone back within the last minute although its worker had not been restarted.
    pub(crate) fn went_back(&self, now: f64) -> bool {
        self.went_back_at.is_some_and(|at| now - at < FORGET)
    }

    /// When the page of this worker was read, and when it last had time to spare.
    pub(crate) fn evidence(&self, hash: u64) -> (Option<f64>, Option<f64>, bool) {
        let Some(track) = self.tracks.get(&hash) else { return (None, None, false) };
        let known = |t: f64| (!t.is_nan()).then_some(t);
        (known(track.at), known(track.idle_at), track.busy_now)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.tracks.len() * (size_of::<(u64, WorkerTrack)>() * 3 / 2 + 16)
    }
}

impl WorkerTrack {
    fn new(now: f64) -> Self {
        Self {
            look: 0,
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

/// Pod created -> first record processed or first partition owned; ready where neither can be seen. Only of workers that
/// came while we watched: when an older one began is not known.
fn start_up(
    track: &mut WorkerTrack,
    worker: &Worker,
    (now, first): (f64, f64),
    works: bool,
    owners_known: bool,
) -> Option<f64> {
    let up = works || (!owners_known && worker.processed.is_none() && worker.ready == Some(true));
    if track.started_up || !up {
        return None;
    }
    track.started_up = true;
    let created = worker.created_at?.0;
    (created >= first).then_some(now - created).filter(|s| (0.0..=LONGEST_START).contains(s))
}

/// For how long the oldest worker that does not work yet has been starting, seconds; of those that came while we watched.
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
