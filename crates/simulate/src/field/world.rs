//! Every condition of a run, as plain data: written by hand as `World { latency: 5.0, ..World::default() }`, or drawn.

use crate::load::Load;

/// Every condition of a run. Times are seconds; moments count from the beginning of the load.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Seed of all random numbers.
    pub seed: u64,
    /// Description of the load.
    pub name: String,
    /// Records that arrive in each second.
    pub load: Load,
    /// Time after its arrival within which a record must be processed, seconds.
    pub latency: f64,
    /// Share of the records that must meet the latency, 0.5 to 0.9999.
    pub percentile: f64,
    /// Fewest workers.
    pub min_workers: u32,
    /// Most workers.
    pub max_workers: u32,
    /// Workers at the beginning, ready for some time.
    pub start_workers: u32,
    /// Partitions of the one source.
    pub partitions: usize,
    /// Skew: sigma of the lognormal weights of the partitions; 0 is even.
    pub weight_sigma: f64,
    /// Share of all records that goes to one partition.
    pub hot_share: Option<f64>,
    /// Records in a transaction; each transaction takes one offset more in its partition. `None`: no transactions.
    pub records_per_transaction: Option<f64>,
    /// State of the group before the beginning.
    pub history: History,
    /// When positions are committed.
    pub commits: Commits,
    /// Whether a worker commits a partition before it gives it away. If not, the next owner begins at the last commit.
    pub commits_on_revoke: bool,
    /// Which member gets which partition.
    pub assignor: Assignor,
    /// Which partitions stop when they are reassigned.
    pub handover: Handover,
    /// How long they stop, median, seconds.
    pub handover_seconds: f64,
    /// Work of one record on one lane, mean, seconds.
    pub record_cost: f64,
    /// Sigma of the lognormal cost of a record; 0: all the same.
    pub cost_sigma: f64,
    /// Records that a worker processes at the same time, each of another partition.
    pub lanes: u32,
    /// From the creation of a pod until it joins the group, median, seconds.
    pub start_up: f64,
    /// Sigma of the lognormal start-up.
    pub start_up_spread: f64,
    /// Time for which a pod is ready before it joins the group, seconds; limited by the start-up.
    pub ready_before_joining: f64,
    /// Time for which a removed pod is billed, seconds; its partitions move at once.
    pub removal: f64,
    /// Differences between workers: sigma of their lognormal speed.
    pub speed_spread: f64,
    /// Variation of every worker's speed: standard deviation of the factor (AR(1), 50 s).
    pub speed_noise: f64,
    /// Speed factor of one worker, the oldest.
    pub slow_one: Option<f64>,
    /// Speed factor of a worker that has just joined; it rises to 1 within a minute.
    pub cold: f64,
    /// Pauses of the workers (garbage collection, a flush).
    pub pauses: Option<Pauses>,
    /// Rollout of a new version, and the speed factor of its workers.
    pub deploy: Option<Deploy>,
    /// Speed that varies with the time of day.
    pub tide: Option<Tide>,
    /// Share by which a worker is faster where records wait, because of larger batches.
    pub batch_gain: f64,
    /// A downstream system that the workers share.
    pub bottleneck: Option<Bottleneck>,
    /// Deaths of workers, which start again.
    pub deaths: Option<Deaths>,
    /// What the operator can see.
    pub signals: Signals,
    /// Share by which the time between two observations varies.
    pub jitter: f64,
    /// Share of samples that get lost.
    pub missed: f64,
    /// Restart of the operator.
    pub restart_at: Option<f64>,
}

/// State of the group before the beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum History {
    /// Every partition is committed at its end.
    Established,
    /// The group and the topic are new: nothing is committed until the first commit.
    New,
    /// The group is new and begins at the end of the log, which holds this many old records in each partition. A
    /// partition of which nothing was processed stays without a commit.
    Latest {
        /// Old records in each partition.
        retained: u32,
    },
}

/// When positions are committed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Commits {
    /// At a fixed interval.
    Every {
        /// Seconds between two commits of a partition.
        seconds: f64,
        /// Phase of the commits within that time.
        phase: Phase,
    },
    /// After each batch: at the end of each step of the plant.
    Batch,
    /// By an engine's checkpoints: the committed position is the one from `takes` seconds ago.
    Checkpoint {
        /// Seconds between two checkpoints.
        seconds: f64,
        /// Seconds that a checkpoint takes.
        takes: f64,
    },
    /// Never: the workers keep their positions elsewhere.
    Never,
}

/// Which partitions are committed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Those of one worker.
    Worker,
    /// Each on its own.
    Partition,
    /// All of them.
    All,
}

/// Which member gets which partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Runs of neighbours, in the order of the members.
    Range,
    /// One after the other, in the order of the members.
    RoundRobin,
    /// Even counts; a member keeps its partitions if possible.
    Sticky,
    /// The same, by the cooperative protocol.
    CooperativeSticky,
    /// The same, assigned by the broker (KIP-848).
    Uniform,
}

impl Assignor {
    /// Returns the name that the broker reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Uniform => "uniform",
        }
    }
}

/// Which partitions stop when they are reassigned, and the state that the broker reports meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// All of them; `PreparingRebalance`.
    Eager,
    /// Those that move; `PreparingRebalance`.
    Cooperative,
    /// Those that move; `Reconciling`.
    Kip848,
}

/// Occasional pauses of the workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pauses {
    /// Mean time between two, seconds.
    pub every: f64,
    /// Length of each pause, seconds.
    pub seconds: f64,
    /// Whether all workers pause at the same time, or each on its own.
    pub together: bool,
}

/// A new version of the job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deploy {
    /// When the rollout begins, seconds.
    pub at: f64,
    /// Speed factor of its workers.
    pub speed: f64,
}

/// Speed that varies with the time of day: `1 + amplitude * sin`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tide {
    /// Share by which the speed varies.
    pub amplitude: f64,
    /// Seconds of a whole wave.
    pub period: f64,
}

/// A downstream system that the workers share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bottleneck {
    /// Rate that it accepts from one worker, records per second.
    pub rate: f64,
    /// Share of `rate` that each further worker costs.
    pub loss_per_worker: f64,
    /// When it begins, seconds.
    pub from: f64,
    /// When it ends, seconds.
    pub until: f64,
}

/// Deaths of workers, which start again in the same pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deaths {
    /// Mean time between two, seconds.
    pub every: f64,
    /// Time until the group notices, seconds.
    pub notice: f64,
}

/// What the operator can see. It always sees the log's end, the commits and the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is there or not, whatever the others are
pub struct Signals {
    /// Workers report their positions.
    pub positions: bool,
    /// Workers report how many records they processed.
    pub processed: bool,
    /// Workers report how long they were busy.
    pub busy: bool,
    /// Workers report how many records they process at the same time.
    pub concurrency: bool,
    /// The log's start is known.
    pub start: bool,
    /// The log's end as of one objective ago is known.
    pub due_end: bool,
    /// Where a group without a commit begins is known.
    pub offset_reset: bool,
    /// What is known about the owners of partitions.
    pub owners: Owners,
}

impl Signals {
    /// Workers report nothing.
    pub const COMMITS_ONLY: Self = Self {
        positions: false,
        processed: false,
        busy: false,
        concurrency: false,
        start: true,
        due_end: true,
        offset_reset: false,
        owners: Owners::Known,
    };
    /// Workers report records, and nothing else.
    pub const COUNTERS: Self = Self { processed: true, ..Self::COMMITS_ONLY };
    /// Workers report records and busy seconds.
    pub const COUNTERS_AND_BUSY: Self = Self { busy: true, concurrency: true, ..Self::COUNTERS };
    /// Workers report everything.
    pub const EVERYTHING: Self = Self { positions: true, offset_reset: true, ..Self::COUNTERS_AND_BUSY };
}

/// What is known about the owners of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Known.
    Known,
    /// Not known.
    Unknown,
    /// All members have the same name, as with the client's default.
    OneName,
}

impl Default for World {
    /// An easy world: constant load for three workers of 1,000 records per second, 12 partitions, commits every 5 s,
    /// workers that report everything, an hour and a half.
    fn default() -> Self {
        Self {
            seed: 1,
            name: "constant".to_owned(),
            load: Load::constant(2500.0, 5400),
            latency: 10.0,
            percentile: 0.99,
            min_workers: 1,
            max_workers: 12,
            start_workers: 4,
            partitions: 12,
            weight_sigma: 0.0,
            hot_share: None,
            records_per_transaction: None,
            history: History::Established,
            commits: Commits::Every { seconds: 5.0, phase: Phase::Worker },
            commits_on_revoke: true,
            assignor: Assignor::CooperativeSticky,
            handover: Handover::Cooperative,
            handover_seconds: 2.0,
            record_cost: 0.001,
            cost_sigma: 0.0,
            lanes: 1,
            start_up: 20.0,
            start_up_spread: 0.0,
            ready_before_joining: 0.0,
            removal: 5.0,
            speed_spread: 0.0,
            speed_noise: 0.0,
            slow_one: None,
            cold: 1.0,
            pauses: None,
            deploy: None,
            tide: None,
            batch_gain: 0.0,
            bottleneck: None,
            deaths: None,
            signals: Signals::EVERYTHING,
            jitter: 0.0,
            missed: 0.0,
            restart_at: None,
        }
    }
}

impl World {
    /// Returns the length of the run, seconds.
    pub fn seconds(&self) -> f64 {
        self.load.seconds() as f64
    }

    /// Returns the capacity of a worker at speed 1, records per second.
    pub fn capacity(&self) -> f64 {
        f64::from(self.lanes) / self.record_cost
    }

    /// Returns the least worker-seconds that the load costs from a time on: workers of speed 1 that never wait, in any
    /// fraction, and never fewer than the fewest.
    pub fn least_from(&self, from: f64) -> f64 {
        let (capacity, fewest) = (self.capacity(), f64::from(self.min_workers));
        self.load.rates().iter().skip(from as usize).map(|rate| (f64::from(*rate) / capacity).max(fewest)).sum()
    }

    /// Returns the time before which nothing is judged, seconds: ten minutes, or three times the time of a change.
    pub fn warm_up(&self) -> f64 {
        (3.0 * (self.start_up + self.handover_seconds)).max(600.0).min(self.seconds() / 2.0).ceil()
    }

    /// Returns the number beyond which workers have nothing to do.
    pub fn useful_workers(&self) -> u32 {
        self.max_workers.min(self.partitions as u32).max(self.min_workers)
    }

    /// Returns the operator's time between two observations, seconds.
    pub fn interval(&self) -> f64 {
        (self.latency / 5.0).clamp(0.5, 5.0)
    }

    /// Returns whether records are simulated one by one: where each is long, or where there are few of them.
    pub(crate) fn is_discrete(&self) -> bool {
        let few = if self.partitions > 120 { 50_000.0 } else { 300_000.0 };
        self.record_cost >= 0.5 || self.load.records() < few
    }

    /// Returns the number of steps per second. A step is at most a tenth of the objective, half of the commit interval, the
    /// handover time and 1 s.
    pub(crate) fn steps_per_second(&self) -> usize {
        let commits = match self.commits {
            Commits::Every { seconds, .. } | Commits::Checkpoint { seconds, .. } => seconds,
            Commits::Batch | Commits::Never => f64::INFINITY,
        };
        let wanted = (self.latency / 10.0).min(commits / 2.0).min(self.handover_seconds.max(0.5)).clamp(0.1, 1.0);
        let steps = [1, 2, 5, 10].into_iter().find(|steps| 1.0 / f64::from(*steps) <= wanted + 1e-9).unwrap_or(10);
        // A large topic is simulated more coarsely.
        let most = (3e7 / (self.seconds().max(1.0) * self.partitions as f64)).max(1.0) as usize;
        [10, 5, 2, 1].into_iter().find(|s| *s <= most && *s <= steps as usize).unwrap_or(1)
    }
}
