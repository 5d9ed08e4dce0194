//! Every condition of a run, as plain data: write one by hand as `World { latency: 5.0, ..World::default() }`, or draw one.

use crate::load::Load;

/// Every condition of a run. Times are seconds; those that name a moment count from the begin of the load.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Seed of all chance.
    pub seed: u64,
    /// What kind of load this is, in words.
    pub name: String,
    /// Records that arrive in each second.
    pub load: Load,
    /// A record is to be processed within this time of its arrival, seconds.
    pub latency: f64,
    /// Share of the records that must be, 0.5 to 0.9999.
    pub percentile: f64,
    /// Fewest workers.
    pub min_workers: u32,
    /// Most workers.
    pub max_workers: u32,
    /// Workers at the begin, ready for a while.
    pub start_workers: u32,
    /// Partitions of the one source.
    pub partitions: usize,
    /// Skew: sigma of the lognormal weights of the partitions; 0 is even.
    pub weight_sigma: f64,
    /// One partition has this share of all records.
    pub hot_share: Option<f64>,
    /// Records in a transaction; each transaction takes one offset more in its partition. `None`: no transactions.
    pub records_per_transaction: Option<f64>,
    /// What the group did before the begin.
    pub history: History,
    /// When positions are committed.
    pub commits: Commits,
    /// A worker that gives a partition away commits it first. Otherwise the next owner begins at the last commit.
    pub commits_on_revoke: bool,
    /// Who gets which partition.
    pub assignor: Assignor,
    /// Which partitions stand still when they are dealt anew.
    pub handover: Handover,
    /// For how long they do, median, seconds.
    pub handover_seconds: f64,
    /// Work in one record on one lane, mean, seconds.
    pub record_cost: f64,
    /// Sigma of the lognormal cost of a record; 0: all the same.
    pub cost_sigma: f64,
    /// Records that a worker has in work at the same time, each of another partition.
    pub lanes: u32,
    /// From the creation of a pod until it joins the group, median, seconds.
    pub start_up: f64,
    /// Sigma of the lognormal start-up.
    pub start_up_spread: f64,
    /// A pod is ready for so long before it joins the group, seconds; limited by the start-up.
    pub ready_before_joining: f64,
    /// A removed pod is billed for so long, seconds; its partitions go at once.
    pub removal: f64,
    /// Workers differ: sigma of their lognormal speed.
    pub speed_spread: f64,
    /// Every worker's speed wanders: standard deviation of the factor (AR(1), 50 s).
    pub speed_noise: f64,
    /// One worker, the oldest, has this speed as a factor.
    pub slow_one: Option<f64>,
    /// Speed as a factor when a worker has just joined; it rises to 1 within a minute.
    pub cold: f64,
    /// Workers stop now and then (garbage collection, a flush).
    pub pauses: Option<Pauses>,
    /// A new version is rolled out, and its workers have this speed as a factor.
    pub deploy: Option<Deploy>,
    /// Speed that follows the hour.
    pub tide: Option<Tide>,
    /// Where records wait, a worker is faster by up to this share: larger batches.
    pub batch_gain: f64,
    /// Something behind the workers that they share.
    pub bottleneck: Option<Bottleneck>,
    /// Workers die and start again.
    pub deaths: Option<Deaths>,
    /// What the operator can see.
    pub signals: Signals,
    /// Share by which the time between two looks varies.
    pub jitter: f64,
    /// Share of samples that get lost.
    pub missed: f64,
    /// The operator is restarted.
    pub restart_at: Option<f64>,
}

/// What the group did before the begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum History {
    /// It has committed every partition, at its end.
    Established,
    /// It is new, as is the topic: nothing is committed until the first commit.
    New,
    /// It is new and begins at the end of the log, which holds so many old records in each partition. A partition of
    /// which nothing was processed stays without a commit.
    Latest {
        /// Old records in each partition.
        retained: u32,
    },
}

/// When positions are committed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Commits {
    /// Every so many seconds.
    Every {
        /// Seconds between two commits of a partition.
        seconds: f64,
        /// When within that time.
        phase: Phase,
    },
    /// After each batch: at the end of each step of the plant.
    Batch,
    /// By an engine's checkpoints: what is committed is the position of `takes` seconds ago.
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
    /// All.
    All,
}

/// Who gets which partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Stretches of neighbours, in the order of the members.
    Range,
    /// One after the other, in the order of the members.
    RoundRobin,
    /// Even counts; who has a partition keeps it if it can.
    Sticky,
    /// The same, by the cooperative protocol.
    CooperativeSticky,
    /// The same, dealt by the broker (KIP-848).
    Uniform,
}

impl Assignor {
    /// As the broker says it.
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

/// Which partitions stand still when they are dealt anew, and what the broker says meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// All of them; `PreparingRebalance`.
    Eager,
    /// Those that move; `PreparingRebalance`.
    Cooperative,
    /// Those that move; `Reconciling`.
    Kip848,
}

/// Workers stop now and then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pauses {
    /// Mean time between two, seconds.
    pub every: f64,
    /// How long each is, seconds.
    pub seconds: f64,
    /// All workers at the same time, or each on its own.
    pub together: bool,
}

/// A new version of the job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deploy {
    /// When its roll-out begins, seconds.
    pub at: f64,
    /// Its workers' speed as a factor.
    pub speed: f64,
}

/// Speed that follows the hour: `1 + amplitude * sin`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tide {
    /// Share by which the speed varies.
    pub amplitude: f64,
    /// Seconds of a whole wave.
    pub period: f64,
}

/// Something behind the workers that they share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bottleneck {
    /// Records per second that it can take from one worker.
    pub rate: f64,
    /// Share of `rate` that each further worker costs.
    pub loss_per_worker: f64,
    /// From then on, seconds.
    pub from: f64,
    /// Until then, seconds.
    pub until: f64,
}

/// Workers die and start again in the same pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deaths {
    /// Mean time between two, seconds.
    pub every: f64,
    /// The group notices after so long, seconds.
    pub notice: f64,
}

/// What the operator can see. The log's end, the commits and the pods it always sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is there or not, whatever the others are
pub struct Signals {
    /// Workers say their positions.
    pub positions: bool,
    /// Workers say how many records they processed.
    pub processed: bool,
    /// Workers say for how long they were busy.
    pub busy: bool,
    /// Workers say how many records they process at the same time.
    pub concurrency: bool,
    /// The log's start is known.
    pub start: bool,
    /// The log's end as of one objective ago is known.
    pub due_end: bool,
    /// Where a group without a commit begins is known.
    pub offset_reset: bool,
    /// Who has which partition.
    pub owners: Owners,
}

impl Signals {
    /// No word from the workers.
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
    /// Workers count records, and nothing else.
    pub const COUNTERS: Self = Self { processed: true, ..Self::COMMITS_ONLY };
    /// Workers count records and busy seconds.
    pub const COUNTERS_AND_BUSY: Self = Self { busy: true, concurrency: true, ..Self::COUNTERS };
    /// The whole contract.
    pub const EVERYTHING: Self = Self { positions: true, offset_reset: true, ..Self::COUNTERS_AND_BUSY };
}

/// Who has which partition, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Known.
    Known,
    /// Not known.
    Unknown,
    /// All members have one name, as with the client's default.
    OneName,
}

impl Default for World {
    /// A kind one: constant load for three workers of 1,000 records per second, 12 partitions, commits every 5 s, the
    /// whole contract, an hour and a half.
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
    /// Length of the run, seconds.
    pub fn seconds(&self) -> f64 {
        self.load.seconds() as f64
    }

    /// Records per second that a worker does when it never waits, at speed 1.
    pub fn capacity(&self) -> f64 {
        f64::from(self.lanes) / self.record_cost
    }

    /// Worker-seconds that the load costs at the very least from a time on: workers of speed 1 that never wait, in any
    /// fraction, and never fewer than the fewest.
    pub fn least_from(&self, from: f64) -> f64 {
        let (capacity, fewest) = (self.capacity(), f64::from(self.min_workers));
        self.load.rates().iter().skip(from as usize).map(|rate| (f64::from(*rate) / capacity).max(fewest)).sum()
    }

    /// What happens before this is not judged: ten minutes, or three times what a change takes. Seconds.
    pub fn warm_up(&self) -> f64 {
        (3.0 * (self.start_up + self.handover_seconds)).max(600.0).min(self.seconds() / 2.0).ceil()
    }

    /// More workers than this have nothing to do.
    pub fn useful_workers(&self) -> u32 {
        self.max_workers.min(self.partitions as u32).max(self.min_workers)
    }

    /// Seconds between two looks of the operator.
    pub fn interval(&self) -> f64 {
        (self.latency / 5.0).clamp(0.5, 5.0)
    }

    /// Whether records are simulated one by one: where each is long, or where there are few enough of them.
    pub(crate) fn is_discrete(&self) -> bool {
        let few = if self.partitions > 120 { 50_000.0 } else { 300_000.0 };
        self.record_cost >= 0.5 || self.load.records() < few
    }

    /// Steps of the plant in a second: a tenth of the objective, a fifth of a short commit interval, a second at most.
    pub(crate) fn steps_per_second(&self) -> usize {
        let commits = match self.commits {
            Commits::Every { seconds, .. } | Commits::Checkpoint { seconds, .. } => seconds,
            Commits::Batch | Commits::Never => f64::INFINITY,
        };
        let wanted = (self.latency / 10.0).min(commits / 2.0).min(self.handover_seconds.max(0.5)).clamp(0.1, 1.0);
        let steps = [1, 2, 5, 10].into_iter().find(|steps| 1.0 / f64::from(*steps) <= wanted + 1e-9).unwrap_or(10);
        // A large topic is stepped through more coarsely.
        let most = (3e7 / (self.seconds().max(1.0) * self.partitions as f64)).max(1.0) as usize;
        [10, 5, 2, 1].into_iter().find(|s| *s <= most && *s <= steps as usize).unwrap_or(1)
    }
}
