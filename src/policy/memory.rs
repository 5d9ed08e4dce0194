//! What the decision core remembers between two looks at a job.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::arrivals::Arrivals;
use super::attainment::Attainment;
use super::bottleneck::Bottleneck;
use super::capacity::Capacity;
use super::decision::{Confidence, Model};
use super::flight::Flight;
use super::forecast::Forecast;
use super::learn::{CAREFUL_HANDOVER, CAREFUL_START_UP, HANDOVER, Learned, START_UP};
use super::mistakes::Mistakes;
use super::num;
use super::partitions::Partitions;
use super::pieces::{Off, Piece};
use super::schedule::Calendar;
use super::staircase::Staircase;
use super::window::NeedWindow;

/// What was learned about one job. Nothing else survives between two calls of [`decide`](super::decide).
#[derive(Debug, Clone)]
pub struct Memory {
    // Time.
    pub(crate) now: f64,
    pub(crate) looks: u32,
    /// When the present, unbroken watch began.
    pub(crate) watching_since: f64,
    /// Usual time between two samples of the log, seconds.
    pub(crate) interval: f64,
    /// Usual time between two commits, seconds.
    pub(crate) commit_interval: f64,
    /// Last moment at which any partition was freshly known.
    pub(crate) seen_at: f64,
    // The job.
    pub(crate) sources: Vec<Box<str>>,
    pub(crate) partitions: Partitions,
    /// What n workers can do; and what it was built from.
    pub(crate) stairs: Arc<Staircase>,
    pub(crate) stairs_of: (u64, u64),
    /// Changes when the partitions' weights do.
    pub(crate) weighed: u64,
    pub(crate) weighed_at: f64,
    pub(crate) workers: BTreeMap<Box<str>, WorkerTrack>,
    pub(crate) offered: Offered,
    /// Arrival rate over half a minute at the last look, and the most that was planned for; records per second.
    pub(crate) level: f64,
    pub(crate) upper: f64,
    /// Time between the last two looks, seconds.
    pub(crate) since_look: f64,
    /// (time, records processed since the watch began)
    pub(crate) progress: VecDeque<(f64, f64)>,
    /// Since when no worker does anything although records wait.
    pub(crate) still_since: Option<f64>,
    /// Since when there is a backlog everywhere, for workers that count nothing.
    pub(crate) backlog_since: Option<f64>,
    // Learned.
    pub(crate) capacity: Capacity,
    pub(crate) template: Option<String>,
    pub(crate) start_up: Learned,
    /// For how long the oldest worker that is not there yet has been starting, seconds.
    pub(crate) starting: f64,
    pub(crate) handover: Learned,
    pub(crate) latency_floor: Option<f64>,
    pub(crate) arrivals: Arrivals,
    pub(crate) forecast: Forecast,
    pub(crate) attainment: Attainment,
    /// How likely all partitions stand still in a handover, moved or not; 0 to 1. `None`: no handover was seen.
    pub(crate) all_stop: Option<f64>,
    /// See [`Plan::dear`](super::plan::Plan).
    pub(crate) dear: f64,
    /// How much hotter the hottest worker is than the staircase says; at least 1.
    pub(crate) hot: f64,
    // Decisions.
    pub(crate) desired: Option<u32>,
    pub(crate) flight: Option<Flight>,
    /// Demand of the last decision to add workers.
    pub(crate) decided_demand: f64,
    /// When workers or partitions were last seen to come or go.
    pub(crate) unsettled_at: f64,
    /// There were no workers, or nobody knows of before, and what has waited has not been caught up with yet.
    pub(crate) waking: bool,
    /// Since when as much is processed as arrives.
    pub(crate) even_since: Option<f64>,
    /// Records that the workers may still have to process, by what the source said when its log last grew; less than none:
    /// they process what it does not tell of.
    pub(crate) untold: f64,
    /// When they last processed some.
    pub(crate) worked_at: f64,
    /// When one of them was last busy, by its own clock.
    pub(crate) busy_at: f64,
    /// Since when there are workers of more than one template.
    pub(crate) rolling_since: Option<f64>,
    /// Pauses of partitions that end before this belong to the last change.
    pub(crate) pauses_until: f64,
    pub(crate) needs: NeedWindow,
    pub(crate) rescales: VecDeque<f64>,
    pub(crate) mistakes: Mistakes,
    pub(crate) bottleneck: Bottleneck,
    /// When records of any partition were last seen to be processed.
    pub(crate) moved_on: f64,
    pub(crate) calendar: Calendar,
    /// Pieces of the policy that are switched off.
    pub(crate) off: Off,
}

/// What is remembered of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerTrack {
    pub(crate) look: u32,
    pub(crate) seen_at: f64,
    pub(crate) started: f64,
    /// When its counters were read, and what they said; NaN: never.
    pub(crate) at: f64,
    pub(crate) processed: f64,
    pub(crate) busy: f64,
    /// Had a backlog at the last look.
    pub(crate) backlog: bool,
    /// Its start-up has been learned, or cannot be.
    pub(crate) started_up: bool,
    /// See [`owner_hash`](super::track::owner_hash).
    pub(crate) hash: u64,
    /// Records per second that it can do, smoothed over about two minutes; NaN: not known.
    pub(crate) can: f64,
}

/// How much of each optional signal was there lately: when there is less, something is missing and nobody leaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offered {
    /// (count, when it was last so high) of each kind.
    pub(crate) kinds: [(u32, f64); 8],
}

/// A worker that does less than this share of what the others do is slow.
const SLOW: f64 = 0.65;

impl Default for Memory {
    fn default() -> Self {
        Self {
            now: f64::NEG_INFINITY,
            looks: 0,
            watching_since: f64::NEG_INFINITY,
            interval: 2.0,
            commit_interval: 5.0,
            seen_at: f64::NEG_INFINITY,
            sources: Vec::new(),
            partitions: Partitions::default(),
            stairs: Arc::default(),
            stairs_of: (0, 0),
            weighed: 0,
            weighed_at: f64::NEG_INFINITY,
            workers: BTreeMap::new(),
            offered: Offered::default(),
            level: 0.0,
            upper: 0.0,
            since_look: 0.0,
            progress: VecDeque::new(),
            still_since: None,
            backlog_since: None,
            capacity: Capacity::default(),
            template: None,
            start_up: Learned::with_prior(START_UP),
            starting: 0.0,
            handover: Learned::with_prior(HANDOVER),
            latency_floor: None,
            arrivals: Arrivals::default(),
            forecast: Forecast::default(),
            attainment: Attainment::default(),
            all_stop: None,
            dear: 0.0,
            hot: 1.0,
            desired: None,
            flight: None,
            decided_demand: 0.0,
            unsettled_at: f64::NEG_INFINITY,
            waking: true,
            even_since: None,
            untold: f64::INFINITY,
            worked_at: f64::NEG_INFINITY,
            busy_at: f64::NEG_INFINITY,
            rolling_since: None,
            pauses_until: f64::NEG_INFINITY,
            needs: NeedWindow::default(),
            rescales: VecDeque::new(),
            mistakes: Mistakes::default(),
            bottleneck: Bottleneck::default(),
            moved_on: f64::NEG_INFINITY,
            calendar: Calendar::default(),
            off: Off::default(),
        }
    }
}

impl Memory {
    /// A memory that knows what an earlier run learned. It is a prior: used to plan with, replaced by what is observed.
    pub fn with_prior(model: Model) -> Self {
        let mut memory = Self { template: model.template, ..Self::default() };
        memory.capacity.recall(model.capacity_per_worker);
        memory.start_up.recall(model.start_up_seconds);
        memory.handover.recall(model.handover_seconds);
        memory.latency_floor = model.latency_floor_seconds.filter(|f| f.is_finite() && *f >= 0.0);
        memory
    }

    /// What is known about the workers now.
    pub fn model(&self) -> Model {
        Model {
            capacity_per_worker: self.capacity.per_worker(None),
            confidence: self.capacity.confidence(),
            start_up_seconds: self.start_up.known(),
            handover_seconds: self.handover.known(),
            latency_floor_seconds: self.latency_floor,
            template: self.template.clone(),
            ..Model::default()
        }
    }

    /// Bytes that this memory takes, itself and its heap; nodes of the maps are estimated.
    pub fn size_bytes(&self) -> usize {
        // A node of a B-tree is two thirds full on average, and has some pointers.
        let node = |entry: usize, count: usize| count * (entry * 3 / 2 + 16);
        let workers: usize = self.workers.keys().map(|id| id.len() + 16).sum();
        size_of::<Self>()
            + self.partitions.heap_bytes()
            + self.stairs.heap_bytes()
            + workers
            + node(size_of::<(Box<str>, WorkerTrack)>(), self.workers.len())
            + self.arrivals.heap_bytes()
            + self.forecast.heap_bytes()
            + self.mistakes.heap_bytes()
            + self.attainment.heap_bytes()
            + self.needs.heap_bytes()
            + self.progress.capacity() * size_of::<(f64, f64)>()
            + self.rescales.capacity() * size_of::<f64>()
            + self.sources.iter().map(|s| s.len() + 32).sum::<usize>()
    }

    /// Moves time on. Answers the time to use: one that is no number, or that went back, starts the watch anew, for no
    /// rate over such a gap means anything.
    pub(crate) fn meet(&mut self, at: f64) -> f64 {
        self.looks = self.looks.saturating_add(1);
        // Beyond a quadrillion seconds a float no longer tells milliseconds apart.
        let at = if at.is_finite() && at.abs() < 1e15 { at } else { self.now.max(0.0) };
        let first = !self.now.is_finite();
        let back = !first && at < self.now;
        if back {
            self.forget_times();
        }
        let gap = at - self.now;
        self.since_look = if first || back { 0.0 } else { gap };
        // Half a minute without a look, or fifteen looks' worth, and what happened in between is not known.
        if first || back || gap > (15.0 * self.interval).max(30.0) {
            self.watching_since = at;
            self.needs.clear();
            self.progress.clear();
            self.arrivals.clear();
            self.still_since = None;
        }
        if first || back {
            self.seen_at = at;
        }
        self.now = at;
        at
    }

    /// The clock went back: every remembered moment belongs to another time. What was learned stays.
    fn forget_times(&mut self) {
        let learned = self.clone();
        *self = Self {
            looks: learned.looks,
            capacity: learned.capacity,
            template: learned.template,
            start_up: learned.start_up,
            handover: learned.handover,
            latency_floor: learned.latency_floor,
            all_stop: learned.all_stop,
            hot: learned.hot,
            desired: learned.desired,
            off: learned.off,
            ..Self::default()
        };
    }

    /// Start-up and handover, seconds, as far as taking a worker away rests on them.
    pub(crate) fn careful(&self) -> (f64, f64) {
        (self.start_up.careful(CAREFUL_START_UP), self.handover.careful(CAREFUL_HANDOVER))
    }

    /// Start-up to reckon with, seconds: as learned, or as long as somebody has been starting by now.
    pub(crate) fn start_up(&self) -> f64 {
        self.start_up.p90().max(self.starting)
    }

    /// How far the rate of half a minute is off by noise alone, as a share of it: three deviations, at most 15 %.
    pub(crate) fn level_noise(&self) -> f64 {
        (3.0 * self.forecast.noise() * (self.interval / 30.0).sqrt()).min(0.15)
    }

    /// Seconds from a change being needed to it having worked: noticing, start-up, handover.
    pub(crate) fn reaction(&self) -> f64 {
        self.detection() + self.start_up() + self.handover.p90()
    }

    /// Seconds until a change of load shows: two samples.
    pub(crate) fn detection(&self) -> f64 {
        2.0 * self.interval
    }

    /// What the worker with this hash can do, as a share of `mu`: measured over ten minutes, and a little less sure.
    pub(crate) fn speed_of(&self, hash: u64, mu: f64) -> f64 {
        let can = self.workers.values().find(|w| w.hash == hash).map_or(f64::NAN, |w| w.can);
        if can.is_finite() && self.off.spares(Piece::SPEEDS) {
            (1.0 + 0.7 * (can / mu - 1.0)).clamp(0.6, 1.2)
        } else {
            1.0
        }
    }

    /// The change under way, if it holds others back.
    pub(crate) fn in_flight(&self) -> Option<&Flight> {
        self.flight.as_ref().filter(|_| self.off.spares(Piece::FLIGHT))
    }

    /// Whether a worker does so much less than the others that it is not worth planning with.
    pub(crate) fn is_slow(&self, hash: u64, mu: f64) -> bool {
        self.workers.values().any(|w| w.hash == hash && w.can < SLOW * mu)
    }

    /// Whether capacity is known well enough to take workers away.
    pub(crate) fn knows_capacity(&self) -> bool {
        self.capacity.confidence() >= Confidence::Medium
    }

    #[cfg(test)]
    pub(crate) fn last_end(&self, id: &str) -> Option<i64> {
        self.partitions.get(id).and_then(|t| t.ring.latest()).map(|l| l.1)
    }

    /// Notes a change of the number of workers.
    pub(crate) fn note_rescale(&mut self, now: f64) {
        self.rescales.push_back(now);
        if self.rescales.len() > 512 {
            self.rescales.pop_front();
        }
    }

    /// Changes of the number of workers in the last hour.
    pub(crate) fn rescales_last_hour(&self) -> u32 {
        num::u32_of(self.rescales.iter().filter(|t| self.now - **t < 3600.0).count())
    }
}
