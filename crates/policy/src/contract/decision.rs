//! The output of the decision core. The names are API: `sluice decide`, events and metrics use them.

use serde::{Deserialize, Serialize};

use sluice_base::units::Seconds;

/// What to do, why, and every number that this rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Time of the decision: `Observation::at`.
    pub at: Seconds,
    /// Replica count that the workload should have now. `None`: unknown, write nothing.
    pub desired: Option<u32>,
    /// Replica count that Sluice would choose without `scaling.mode` and `spec.replicas`.
    pub recommended: Option<u32>,
    /// Direction of `desired` against `Observation::replicas.desired`.
    pub action: Action,
    /// Why the number is what it is.
    pub reason: Reason,
    /// The rule or limit that set the number.
    pub bound_by: BoundBy,
    /// One sentence for a person, with the numbers that decided.
    pub message: String,
    /// Whether the objective is met now.
    pub within_target: WithinTarget,
    /// Why more workers were wanted than are given, or why more would not help.
    pub limited: Option<Limited>,
    /// Every number that the decision rests on.
    pub explain: Explain,
}

/// Direction of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// More workers.
    Up,
    /// Fewer workers.
    Down,
    /// The present number of workers.
    Hold,
}

/// Why a decision is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The present number of workers is right.
    Steady,
    /// Records arrive, or will arrive, faster than the present workers can process with headroom.
    Growth,
    /// A backlog must be worked off in time.
    CatchUp,
    /// Fewer workers are enough.
    LowerDemand,
    /// No records arrive, and `minReplicas` is 0.
    Idle,
    /// Records wait and no worker runs.
    WakeUp,
    /// Below the floor (`minReplicas`, a schedule).
    Floor,
    /// Above the ceiling (`maxReplicas`, a schedule, a grant).
    Ceiling,
    /// More workers than the partitions can feed.
    Useless,
    /// `spec.replicas` is set.
    Pinned,
    /// `spec.suspend` is set.
    Suspended,
    /// An earlier change is still taking effect.
    InFlight,
    /// Fewer workers would be enough, but have not been for long enough yet.
    Stabilizing,
    /// Not enough is known yet to act.
    Learning,
    /// Signals are missing, stale or contradictory.
    NoSignal,
    /// No signal for `fallbackAfter`: at least the fallback replica count is kept.
    Fallback,
    /// The workers are crash-looping; more of them would crash too.
    CrashLooping,
    /// Records wait and are not being processed, although the workers run.
    Stalled,
    /// More workers processed no more than fewer: something that they share is the bottleneck.
    ExternalBottleneck,
}

impl Reason {
    /// Returns the reason in one CamelCase word, as events, metrics and status show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "Steady",
            Self::Growth => "Growth",
            Self::CatchUp => "CatchUp",
            Self::LowerDemand => "LowerDemand",
            Self::Idle => "Idle",
            Self::WakeUp => "WakeUp",
            Self::Floor => "Floor",
            Self::Ceiling => "Ceiling",
            Self::Useless => "Useless",
            Self::Pinned => "Pinned",
            Self::Suspended => "Suspended",
            Self::InFlight => "InFlight",
            Self::Stabilizing => "Stabilizing",
            Self::Learning => "Learning",
            Self::NoSignal => "NoSignal",
            Self::Fallback => "Fallback",
            Self::CrashLooping => "CrashLooping",
            Self::Stalled => "Stalled",
            Self::ExternalBottleneck => "ExternalBottleneck",
        }
    }
}

/// What set the number of workers: the first of these that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BoundBy {
    /// `spec.suspend`.
    Suspend,
    /// `spec.replicas`.
    Pinned,
    /// `maxReplicas`.
    MaxReplicas,
    /// A pool or a quota.
    Granted,
    /// A schedule's floor or ceiling.
    Schedule,
    /// `minReplicas`.
    MinReplicas,
    /// `scaling.mode`.
    Mode,
    /// The number of partitions.
    Partitions,
    /// `maxStepUp` or `maxStepDown`.
    StepLimit,
    /// `maxRescalesPerHour`.
    RescaleBudget,
    /// Missing signals: the present number is kept.
    Signal,
    /// The latency objective: the ordinary case.
    Objective,
}

impl BoundBy {
    /// Returns the value in one CamelCase word, as status and metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspend => "Suspend",
            Self::Pinned => "Pinned",
            Self::MaxReplicas => "MaxReplicas",
            Self::Granted => "Granted",
            Self::Schedule => "Schedule",
            Self::MinReplicas => "MinReplicas",
            Self::Mode => "Mode",
            Self::Partitions => "Partitions",
            Self::StepLimit => "StepLimit",
            Self::RescaleBudget => "RescaleBudget",
            Self::Signal => "Signal",
            Self::Objective => "Objective",
        }
    }
}

/// Whether the objective is met now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum WithinTarget {
    /// The objective is met.
    Met,
    /// The objective is missed, and the backlog is not shrinking.
    Behind,
    /// The objective is missed, and the backlog will be gone in `eta`.
    #[serde(rename_all = "camelCase")]
    CatchingUp {
        /// Time until the objective is met again, seconds.
        eta: Seconds,
    },
    /// The objective is below what processing itself takes.
    #[serde(rename_all = "camelCase")]
    ObjectiveBelowFloor {
        /// The latency of a healthy job at low load, seconds.
        floor: Seconds,
    },
    /// Not known.
    Unknown,
}

/// Why more workers were wanted than given, or why more would not help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limited {
    /// The limit that applied.
    pub by: Limit,
    /// Workers that were wanted.
    pub wanted: u32,
    /// One sentence for a person.
    pub message: String,
}

/// A limit on the number of workers. The operator maps each to a reason of the condition `ScalingLimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// `maxReplicas` or a schedule's ceiling.
    AtMaxReplicas,
    /// The partitions cannot feed more.
    AtPartitionCount,
    /// One partition receives more than one worker can process.
    Skewed,
    /// More workers process no more: something that they share is the bottleneck.
    ExternalBottleneck,
    /// A record that cannot be processed blocks a partition.
    PartitionStuck,
    /// A pool or a quota.
    QuotaExceeded,
    /// No node has room for the pods.
    Unschedulable,
    /// The workers are crash-looping.
    CrashLooping,
    /// The pods cannot start: their image, configuration or init container fails.
    PodsFailing,
    /// The workers of an earlier scale-up did not become ready.
    PodsNotReady,
    /// `maxRescalesPerHour`.
    RescaleBudget,
    /// `maxStepUp` or `maxStepDown`.
    StepLimit,
    /// `scaling.mode: OutOnly` keeps workers that are not needed.
    OutOnly,
    /// `scaling.mode: InOnly` prevents adding workers.
    InOnly,
}

/// How well a learned value is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Confidence {
    /// Nothing is known.
    #[default]
    None,
    /// A guess, or a value from before a restart.
    Low,
    /// A few observations.
    Medium,
    /// Many observations that agree.
    High,
}

impl Confidence {
    /// Returns the confidence in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

/// What was learned about a job's workers; it survives a restart in `status.model`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Model {
    /// Records per second that one worker can process when it never waits.
    pub capacity_per_worker: Option<f64>,
    /// Confidence in the capacity.
    pub confidence: Confidence,
    /// Time from pod creation to the first record processed, upper (p90) estimate, seconds.
    pub start_up_seconds: Option<f64>,
    /// Pause of a partition while it moves to another worker, upper (p90) estimate, seconds.
    pub handover_seconds: Option<f64>,
    /// Latency of a healthy job at low load, seconds.
    pub latency_floor_seconds: Option<f64>,
    /// Time between two commits of a partition, upper (p90) estimate, seconds.
    pub commit_interval_seconds: Option<f64>,
    /// Offsets per record; above 1 where transaction markers take offsets too.
    pub offsets_per_record: Option<f64>,
    /// Pod template that the capacity was learned with.
    pub template: Option<String>,
}

/// Every number that a decision rests on. Unknown numbers are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Explain {
    /// Records appended and not yet processed, in the partitions that are known.
    pub lag: Option<f64>,
    /// Records past their deadline and not yet processed.
    pub overdue: Option<f64>,
    /// Age of the oldest unprocessed record, seconds.
    pub time_lag_seconds: Option<f64>,
    /// Latency at the objective's percentile over the last minute, seconds.
    pub latency_seconds: Option<f64>,
    /// Share of due records that were processed in time, over the objective's window.
    pub attainment: Option<f64>,
    /// Share of the error budget that is left: 1 untouched, 0 spent, negative overdrawn.
    pub budget_left: Option<f64>,
    /// Records appended per second.
    pub arrival_rate: Option<f64>,
    /// Change of the arrival rate, records per second per second.
    pub trend: Option<f64>,
    /// Records processed per second by all workers.
    pub processing_rate: Option<f64>,
    /// Arrival rate that is planned for, records per second.
    pub demand: Option<f64>,
    /// Utilisation that is planned for, 0 to 1.
    pub target_utilisation: Option<f64>,
    /// What is known about the workers.
    pub model: Model,
    /// Number of partitions of all sources.
    pub partitions: Option<u32>,
    /// Most workers that the partitions can feed.
    pub useful_workers: Option<u32>,
    /// Workers needed before any limit.
    pub need: Option<u32>,
    /// Lowest replica count allowed now.
    pub floor: Option<u32>,
    /// Highest replica count allowed now.
    pub ceiling: Option<u32>,
    /// Age of the oldest sample that the decision rests on, seconds.
    pub sample_age_seconds: Option<f64>,
    /// Changes of the replica count in the last hour.
    pub rescales_last_hour: Option<u32>,
    /// Whether an earlier change is still taking effect.
    pub in_flight: bool,
    /// Growth that is planned for beyond the forecast within the reaction time, as a factor of at least 1.
    pub growth_reserve: Option<f64>,
    /// Quantile of the forecast errors that gives this growth; it follows the error budget.
    pub growth_quantile: Option<f64>,
    /// How careful the controller is, -1 to 1; it follows the error budget.
    pub caution: Option<f64>,
    /// Time for which fewer workers must have been enough before any is removed, seconds.
    pub down_window_seconds: Option<f64>,
    /// Longest wait within the reaction time if nothing is changed, under the upper demand, seconds.
    pub staying_seconds: Option<f64>,
    /// Fewest workers that a scale-down must leave, judged by this observation alone.
    pub not_fewer: Option<u32>,
    /// What the signals report that cannot be true; meanwhile no worker is removed.
    pub contradiction: Option<String>,
    /// What the latency rests on: positions, or commits and their interval.
    pub latency_evidence: Option<String>,
    /// What the capacity of a worker rests on.
    pub capacity_evidence: Option<String>,
    /// Why the objective cannot be verified with these signals, and what to set.
    pub unverifiable: Option<String>,
    /// Members of the consumer group that are not workers of this job.
    pub strangers: Option<u32>,
}

impl Default for Decision {
    /// Returns a decision for which nothing is known and which changes nothing.
    fn default() -> Self {
        Self {
            at: Seconds::ZERO,
            desired: None,
            recommended: None,
            action: Action::Hold,
            reason: Reason::NoSignal,
            bound_by: BoundBy::Signal,
            message: String::new(),
            within_target: WithinTarget::Unknown,
            limited: None,
            explain: Explain::default(),
        }
    }
}
