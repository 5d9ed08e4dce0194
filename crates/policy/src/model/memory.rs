//! What the decision core remembers between two observations of a job.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::contract::decision::{Confidence, Model};
use super::super::contract::settings::Settings;
use super::super::limit::schedule::Calendar;
use super::arrivals::Arrivals;
use super::attainment::{Attainment, History};
use super::bottleneck::Bottleneck;
use super::capacity::Capacity;
use super::caution::Caution;
use super::commit_interval::CommitInterval;
use super::durations::{CONSERVATIVE_HANDOVER, HANDOVER, LearnedDuration, START_UP};
use super::flight::Flight;
use super::floor::LatencyFloor;
use super::forecast::Forecast;
use super::offsets_per_record::OffsetsPerRecord;
use super::partition_table::PartitionTable;
use super::progress::Progress;
use super::queued_progress::QueuedProgress;
use super::staircase::Staircase;
use super::trial::Trial;
use super::workers::Workers;
use sluice_base::num;
use sluice_base::units::Seconds;

/// Everything learned about one job. Nothing else survives between two calls of [`decide`](super::super::decide).
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub(crate) clock: Clock,
    // The job.
    pub(crate) sources: Vec<Box<str>>,
    pub(crate) partitions: PartitionTable,
    pub(crate) workers: Workers,
    pub(crate) template: Option<String>,
    pub(crate) offered: Offered,
    pub(crate) stairs: Stairs,
    pub(crate) calendar: Calendar,
    // Measured.
    pub(crate) arrivals: Arrivals,
    pub(crate) progress: Progress,
    pub(crate) queued_progress: QueuedProgress,
    pub(crate) attainment: Attainment,
    // Learned.
    pub(crate) forecast: Forecast,
    pub(crate) capacity: Capacity,
    pub(crate) durations: Durations,
    pub(crate) commit_interval: CommitInterval,
    pub(crate) offsets_per_record: OffsetsPerRecord,
    pub(crate) latency_floor: LatencyFloor,
    pub(crate) bottleneck: Bottleneck,
    pub(crate) caution: Caution,
    // Decisions.
    pub(crate) changes: Changes,
    pub(crate) trial: Trial,
}

/// Time, as the observations give it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: f64,
    pub(crate) observations: u32,
    /// When watching began, without a break since.
    pub(crate) watching_since: f64,
    /// Time between the last two observations, seconds.
    pub(crate) since_last_observation: f64,
    /// Usual time between two samples of the log, seconds.
    pub(crate) interval: f64,
    /// Last time at which any partition was freshly known.
    pub(crate) seen_at: f64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            now: f64::NEG_INFINITY,
            observations: 0,
            watching_since: f64::NEG_INFINITY,
            since_last_observation: 0.0,
            interval: 2.0,
            seen_at: f64::NEG_INFINITY,
        }
    }
}

impl Clock {
    /// Returns for how long the job has been watched without a break, seconds.
    pub(crate) fn watched(&self) -> f64 {
        self.now - self.watching_since
    }
}

/// The staircase of what n workers can process, and what it was built from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stairs {
    pub(crate) steps: Arc<Staircase>,
    pub(crate) built_from: (u64, u64),
    /// Changes with the partitions' weights.
    pub(crate) weights_version: u64,
    pub(crate) weighed_at: f64,
    /// How much hotter the hottest worker is than the staircase predicts; 0: not known.
    pub(crate) hot: f64,
}

impl Stairs {
    /// Returns the share of the arrivals of the hottest of `workers`, corrected by measurements.
    pub(crate) fn share(&self, workers: u32) -> f64 {
        if workers <= 1 {
            return self.steps.share(workers);
        }
        let hot = if self.hot > 0.0 { self.hot } else { 1.0 };
        (self.steps.share(workers) * hot).min(1.0)
    }
}

/// How long changes take.
#[derive(Debug, Clone)]
pub(crate) struct Durations {
    pub(crate) start_up: LearnedDuration,
    /// For how long the oldest worker that is not processing yet has been starting, seconds.
    pub(crate) starting: f64,
    pub(crate) handover: LearnedDuration,
    /// Likelihood that all partitions stop in a handover, moved or not; 0 to 1. `None`: no handover was seen.
    pub(crate) all_stop: Option<f64>,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            start_up: LearnedDuration::with_prior(START_UP),
            starting: 0.0,
            handover: LearnedDuration::with_prior(HANDOVER),
            all_stop: None,
        }
    }
}

impl Durations {
    /// Returns the start-up to plan with, seconds: as learned, or as long as some worker has been starting by now.
    pub(crate) fn start_up(&self) -> f64 {
        self.start_up.p90().max(self.starting)
    }

    /// Returns the pause of a partition that moves, seconds.
    pub(crate) fn handover(&self) -> f64 {
        self.handover.p90()
    }

    /// Returns the same for a scale-down: an unknown duration does not justify one.
    pub(crate) fn handover_of_leaving(&self) -> f64 {
        self.handover.conservative(CONSERVATIVE_HANDOVER)
    }

    /// Returns whether a change stops every partition.
    pub(crate) fn all_stop(&self) -> bool {
        self.all_stop > Some(0.5)
    }
}

/// How much of each optional signal was there lately. When there is less, a signal is missing, and no worker is
/// removed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offered {
    pub(crate) signals: [OfferedSignal; 8],
}

/// How much of one optional signal was there lately.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OfferedSignal {
    pub(crate) count: u32,
    /// When the count was last that high.
    pub(crate) at: f64,
}

/// Changes of the replica count.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    pub(crate) desired: Option<u32>,
    pub(crate) flight: Option<Flight>,
    /// Demand at the last decision to change the number, records per second.
    pub(crate) decided_demand: f64,
    /// When workers or partitions were last seen to come or go.
    pub(crate) unsettled_at: f64,
    /// When the last change took effect.
    pub(crate) landed_at: f64,
    /// True while catching up from zero workers or from an unknown past.
    pub(crate) waking: bool,
    /// Since when workers of more than one template are present.
    pub(crate) rolling_since: Option<f64>,
    /// Time until which pauses of partitions that end belong to the last change.
    pub(crate) pauses_until: f64,
    /// Since when fewer workers would be enough, and the largest number that would have been needed since then.
    pub(crate) fewer_since: Option<(f64, u32)>,
    pub(crate) rescales: VecDeque<f64>,
    /// Since when fewer workers are ready than requested.
    pub(crate) unready_since: Option<f64>,
    /// Latency and percentile of the spec at the last decision; another objective ends conclusions drawn for the old
    /// one.
    pub(crate) objective: (f64, f64),
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            desired: None,
            flight: None,
            decided_demand: 0.0,
            unsettled_at: f64::NEG_INFINITY,
            landed_at: f64::NEG_INFINITY,
            waking: true,
            rolling_since: None,
            pauses_until: f64::NEG_INFINITY,
            fewer_since: None,
            rescales: VecDeque::new(),
            unready_since: None,
            objective: (0.0, 0.0),
        }
    }
}

impl Changes {
    /// Records a change of the replica count.
    pub(crate) fn record_rescale(&mut self, now: f64) {
        self.rescales.push_back(now);
        if self.rescales.len() > 512 {
            self.rescales.pop_front();
        }
    }

    /// Returns the number of changes in the last hour.
    pub(crate) fn rescales_last_hour(&self, now: f64) -> u32 {
        num::u32_of(self.rescales.iter().filter(|t| now - **t < 3600.0).count())
    }
}

impl Memory {
    /// Returns a memory with what an earlier run learned, as a prior: it is used to plan with and replaced by
    /// observations.
    pub fn with_prior(model: Model) -> Self {
        let mut memory = Self { template: model.template, ..Self::default() };
        memory.capacity.recall(model.capacity_per_worker);
        memory.durations.start_up.recall(model.start_up_seconds);
        memory.durations.handover.recall(model.handover_seconds);
        memory.latency_floor.recall(model.latency_floor_seconds);
        memory.commit_interval.recall(model.commit_interval_seconds);
        memory.offsets_per_record.recall(model.offsets_per_record);
        memory
    }

    /// Restores what an earlier run counted. It is valid for the objective that it was counted for.
    pub fn recall_history(&mut self, history: &History) {
        self.changes.objective = (history.latency.0, history.percentile);
        self.attainment.recall(history);
    }

    /// Returns the counts over the objective's window; `None`: no record fell due, or nothing was decided yet.
    pub fn history(&self, settings: &Settings) -> Option<History> {
        let (since, part, records) = self.attainment.parts(settings.window.0);
        let (latency, percentile) = self.changes.objective;
        let counted = records.iter().any(|(due, _)| *due > 0.0);
        counted.then_some(History {
            latency: Seconds(latency),
            percentile,
            since: Seconds(since),
            part: Seconds(part),
            records,
        })
    }

    /// Returns what is known about the workers now.
    pub fn model(&self) -> Model {
        Model {
            capacity_per_worker: self.capacity.per_worker(None),
            confidence: self.capacity.confidence(),
            start_up_seconds: self.durations.start_up.known(),
            handover_seconds: self.durations.handover.known(),
            latency_floor_seconds: self.latency_floor.known(),
            commit_interval_seconds: self.commit_interval.upper(),
            offsets_per_record: self.offsets_per_record.known(),
            template: self.template.clone(),
        }
    }

    /// Returns the bytes that this memory takes, itself and its heap; nodes of maps are estimated.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + self.partitions.heap_bytes()
            + self.stairs.steps.heap_bytes()
            + self.workers.heap_bytes()
            + self.capacity.heap_bytes()
            + self.arrivals.heap_bytes()
            + self.forecast.heap_bytes()
            + self.attainment.heap_bytes()
            + self.progress.heap_bytes()
            + self.queued_progress.heap_bytes()
            + self.commit_interval.heap_bytes()
            + self.bottleneck.heap_bytes()
            + self.changes.rescales.capacity() * size_of::<f64>()
            + self.sources.iter().map(|s| s.len() + 32).sum::<usize>()
    }

    /// Multiplies one of five learned values by a factor, for tests of how the decision core recovers from it.
    #[cfg(any(test, feature = "testing"))]
    pub fn poison(&mut self, which: usize, factor: f64) {
        match which {
            0 => self.capacity.poison(factor),
            1 => self.commit_interval.poison(factor),
            2 => self.latency_floor.poison(factor),
            3 => self.offsets_per_record.poison(factor),
            _ => {
                self.durations.start_up.poison(factor);
                self.durations.handover.poison(factor);
            }
        }
    }

    /// Moves time on and returns the time to use. A time that is not a number or went back restarts the watch, because
    /// no rate over such a gap means anything.
    pub(crate) fn advance_to(&mut self, at: f64) -> f64 {
        let clock = &mut self.clock;
        clock.observations = clock.observations.saturating_add(1);
        // Beyond a quadrillion seconds a float no longer resolves milliseconds.
        let at = if at.is_finite() && at.abs() < 1e15 { at } else { clock.now.max(0.0) };
        let first = !clock.now.is_finite();
        let back = !first && at < clock.now;
        let gap = at - clock.now;
        let broken = first || back || gap > (15.0 * clock.interval).max(30.0);
        if back {
            self.forget_times();
        }
        let clock = &mut self.clock;
        clock.since_last_observation = if first || back { 0.0 } else { gap };
        // After half a minute or fifteen intervals without an observation, what happened in between is not known.
        if broken {
            clock.watching_since = at;
            self.arrivals.clear();
            self.progress.clear();
            self.changes.fewer_since = None;
            self.offsets_per_record.interrupt();
        }
        if first || back {
            self.clock.seen_at = at;
        }
        self.clock.now = at;
        at
    }

    /// Applies the settings: conclusions drawn for another objective are dropped.
    pub(crate) fn apply_settings(&mut self, settings: &Settings) {
        let objective = (settings.latency.0, settings.percentile);
        // A value that was restored after a restart has lost its last digits.
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs();
        let before = self.changes.objective;
        let same = close(before.0, objective.0) && close(before.1, objective.1);
        if !same && before != (0.0, 0.0) {
            self.attainment = Attainment::default();
            self.caution = Caution::default();
            self.changes.fewer_since = None;
        }
        self.changes.objective = objective;
    }

    /// Forgets every remembered moment after the clock went back; what was learned stays.
    fn forget_times(&mut self) {
        let (observations, desired) = (self.clock.observations, self.changes.desired);
        let model = self.model();
        let (all_stop, hot) = (self.durations.all_stop, self.stairs.hot);
        *self = Self::with_prior(model);
        (self.clock.observations, self.changes.desired) = (observations, desired);
        (self.durations.all_stop, self.stairs.hot) = (all_stop, hot);
    }

    /// Returns the time from a change being needed to its taking effect, seconds: noticing, start-up, handover.
    pub(crate) fn reaction(&self) -> f64 {
        2.0 * self.clock.interval + 1.3 * self.durations.start_up() + self.durations.handover()
    }

    /// Returns the time over which a rate of processing is measured, seconds: ten, or two commit intervals where only
    /// commits show progress.
    pub(crate) fn rate_window(&self) -> f64 {
        let commits = if self.progress.counted { 0.0 } else { self.commit_interval.upper().unwrap_or(5.0) };
        (2.0 * commits).clamp(10.0, 60.0)
    }

    /// Returns the rate at which all workers process, records per second.
    pub(crate) fn processing_rate(&self) -> Option<f64> {
        self.progress.rate(self.rate_window())
    }

    /// Returns the offsets per second that one worker can process, if known: the log counts offsets.
    pub(crate) fn offsets_per_worker(&self, settings: &Settings) -> Option<f64> {
        let records = self.capacity.per_worker(settings.max_records_per_second)?;
        Some(records * self.offsets_per_record.value()).filter(|mu| *mu > 1e-9)
    }

    /// Returns whether capacity is known well enough to rely on a prediction alone.
    pub(crate) fn trusts_capacity(&self) -> bool {
        self.capacity.confidence() >= Confidence::High
    }

    /// Returns the change that is taking effect.
    pub(crate) fn in_flight(&self) -> Option<&Flight> {
        self.changes.flight.as_ref()
    }

    #[cfg(test)]
    pub(crate) fn last_end(&self, id: &str) -> Option<i64> {
        self.partitions.get(id).and_then(|t| t.history.latest()).map(|l| l.1)
    }
}
