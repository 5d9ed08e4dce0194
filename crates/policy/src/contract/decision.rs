//! What the decision core answers. The names are the contract of `sluice decide`, of events and of metrics.

use serde::{Deserialize, Serialize};

use sluice_base::units::Seconds;

/// What is to be done, why, and every number that this rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// `Observation::at`.
    pub at: Seconds,
    /// The number of workers that the workload should ask for now. `None`: unknown, write nothing.
    pub desired: Option<u32>,
    /// What Sluice would want if `scaling.mode` and `spec.replicas` did not hold it back.
    pub recommended: Option<u32>,
    /// Direction of `desired` against `Observation::replicas.desired`.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// What set the number.
    pub bound_by: BoundBy,
    /// One sentence for a person, with the numbers.
    pub message: String,
    /// Is the objective met now?
    pub within_target: WithinTarget,
    /// Why more workers were wanted than are given, or would not help.
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
    /// As many as now.
    Hold,
}

/// Why a decision is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The present number will do.
    Steady,
    /// Records arrive, or will arrive, faster than the present workers can take with headroom.
    Growth,
    /// There is a backlog to be worked off in time.
    CatchUp,
    /// Fewer workers will do.
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
    /// Fewer workers would do, but not for long enough yet.
    Stabilizing,
    /// Not enough is known yet to act.
    Learning,
    /// Signals are missing, stale or contradictory.
    NoSignal,
    /// No signal for so long that the fallback holds.
    Fallback,
    /// The workers crash; more of them would crash too.
    CrashLooping,
    /// Records wait and are not being processed, although the workers run.
    Stalled,
    /// More workers did no more than fewer: something that they share is the limit.
    ExternalBottleneck,
}

impl Reason {
    /// The reason in one CamelCase word, as events, metrics and status show it.
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

/// What set the number of workers: the first of these that binds.
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
    /// Missing signals: what there is, stays.
    Signal,
    /// The latency objective: the ordinary case.
    Objective,
}

impl BoundBy {
    /// In one CamelCase word, as status and metrics show it.
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

/// Is the objective met now?
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum WithinTarget {
    /// Yes.
    Met,
    /// No, and the backlog is not shrinking.
    Behind,
    /// No, and the backlog will be gone in `eta`.
    #[serde(rename_all = "camelCase")]
    CatchingUp {
        /// Seconds until the objective is met again.
        eta: Seconds,
    },
    /// The objective is below what processing itself takes.
    #[serde(rename_all = "camelCase")]
    ObjectiveBelowFloor {
        /// The latency of a healthy job at low load.
        floor: Seconds,
    },
    /// Not known.
    Unknown,
}

/// More workers were wanted than given, or more would not help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limited {
    /// Why.
    pub by: Limit,
    /// Workers that were wanted.
    pub wanted: u32,
    /// One sentence for a person.
    pub message: String,
}

/// Why there are not more workers. The operator maps each to a reason of the condition `ScalingLimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// `maxReplicas` or a schedule's ceiling.
    AtMaxReplicas,
    /// The partitions cannot feed more.
    AtPartitionCount,
    /// One partition is more than one worker can do.
    Skewed,
    /// More workers do no more: something that they share is the limit.
    ExternalBottleneck,
    /// A record that cannot be processed holds a partition up.
    PartitionStuck,
    /// A pool or a quota.
    QuotaExceeded,
    /// No node can take the pods.
    Unschedulable,
    /// The workers crash.
    CrashLooping,
    /// The pods cannot start: their image, configuration or init container fails.
    PodsFailing,
    /// Workers that were asked for did not become ready.
    PodsNotReady,
    /// `maxRescalesPerHour`.
    RescaleBudget,
    /// `maxStepUp` or `maxStepDown`.
    StepLimit,
    /// `scaling.mode: OutOnly` keeps workers that could go.
    OutOnly,
    /// `scaling.mode: InOnly` keeps workers from being added.
    InOnly,
}

/// How well something learned is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Confidence {
    /// Nothing is known.
    #[default]
    None,
    /// A guess, or a prior from before a restart.
    Low,
    /// A few observations.
    Medium,
    /// Many observations that agree.
    High,
}

impl Confidence {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

/// What has been learned about a job's workers; survives a restart in `status.model`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Model {
    /// Records per second that one worker can process when it never waits.
    pub capacity_per_worker: Option<f64>,
    /// How well that is known.
    pub confidence: Confidence,
    /// Pod created to first record processed, upper (p90) estimate.
    pub start_up_seconds: Option<f64>,
    /// Pause of a partition while it moves to another worker, upper (p90) estimate.
    pub handover_seconds: Option<f64>,
    /// Latency of a healthy job at low load.
    pub latency_floor_seconds: Option<f64>,
    /// Seconds between two commits of a partition, upper (p90) estimate.
    pub commit_interval_seconds: Option<f64>,
    /// Offsets that one record takes; above 1 where transaction markers take offsets too.
    pub offsets_per_record: Option<f64>,
    /// Template that the capacity was learned with.
    pub template: Option<String>,
}

/// Every number that a decision rests on. Unknown numbers are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Explain {
    /// Records appended and not yet processed, of the partitions that are known.
    pub lag: Option<f64>,
    /// Records past their deadline and not yet processed.
    pub overdue: Option<f64>,
    /// Age of the oldest unprocessed record.
    pub time_lag_seconds: Option<f64>,
    /// The objective's percentile of latency over the last minute.
    pub latency_seconds: Option<f64>,
    /// Share of due records that were processed in time, over the objective's window.
    pub attainment: Option<f64>,
    /// Share of the error budget that is left: 1 untouched, 0 spent, negative overdrawn.
    pub budget_left: Option<f64>,
    /// Records appended per second.
    pub arrival_rate: Option<f64>,
    /// Change of the arrival rate, records per second per second.
    pub trend: Option<f64>,
    /// Records processed per second, all workers.
    pub processing_rate: Option<f64>,
    /// Arrival rate that is planned for.
    pub demand: Option<f64>,
    /// Utilisation that is planned for, 0 to 1.
    pub target_utilisation: Option<f64>,
    /// What is known of the workers.
    pub model: Model,
    /// Partitions of all sources.
    pub partitions: Option<u32>,
    /// Most workers that the partitions can feed.
    pub useful_workers: Option<u32>,
    /// Workers needed before any limit.
    pub need: Option<u32>,
    /// Lowest number of workers allowed now.
    pub floor: Option<u32>,
    /// Highest number of workers allowed now.
    pub ceiling: Option<u32>,
    /// Age of the oldest sample that the decision rests on.
    pub sample_age_seconds: Option<f64>,
    /// Changes of the number of workers in the last hour.
    pub rescales_last_hour: Option<u32>,
    /// Whether an earlier change is still taking effect.
    pub in_flight: bool,
    /// Growth beyond the forecast within the reaction time that is planned for; at least 1.
    pub growth_reserve: Option<f64>,
    /// Quantile of forecast errors that this is; follows the error budget.
    pub growth_quantile: Option<f64>,
    /// How careful the controller is, -1 to 1: follows the error budget.
    pub caution: Option<f64>,
    /// Seconds for which fewer workers must have been enough before any leaves.
    pub down_window_seconds: Option<f64>,
    /// Longest wait within the reaction time if nothing is changed, under the upper demand.
    pub staying_seconds: Option<f64>,
    /// Workers that a Down must leave by this look alone.
    pub not_fewer: Option<u32>,
    /// What the signals say that cannot be so; no worker leaves meanwhile.
    pub contradiction: Option<String>,
    /// What the latency rests on: positions, or commits and how often they come.
    pub latency_evidence: Option<String>,
    /// What the capacity of a worker rests on.
    pub capacity_evidence: Option<String>,
    /// Why the objective cannot be verified with these signals, and what to set.
    pub unverifiable: Option<String>,
    /// Members of the consumer group that are not workers of this job.
    pub strangers: Option<u32>,
}

impl Default for Decision {
    /// Nothing is known, and nothing is done.
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
