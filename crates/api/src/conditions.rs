//! Condition types and reasons, as constants. Polarity is as named: `Stalled=True` is bad, `Ready=True` is good.

/// The workload exists as specified and the source answers.
pub const READY: &str = "Ready";
/// A new generation is being rolled out (never for ordinary scaling).
pub const RECONCILING: &str = "Reconciling";
/// A person must change something.
pub const STALLED: &str = "Stalled";
/// The objective is met now.
pub const WITHIN_TARGET: &str = "WithinTarget";
/// Sluice is free to change the replica count. Without a workload to scale, the reason is that of Ready.
pub const SCALING_ACTIVE: &str = "ScalingActive";
/// The job needs more workers than it may have, or more workers would not help.
pub const SCALING_LIMITED: &str = "ScalingLimited";
/// Every signal is fresh.
pub const METRICS_AVAILABLE: &str = "MetricsAvailable";

/// Every condition type, in the order in which `kubectl describe` shows them.
pub const ALL: [&str; 7] =
    [READY, RECONCILING, STALLED, WITHIN_TARGET, SCALING_ACTIVE, SCALING_LIMITED, METRICS_AVAILABLE];

/// Reasons, in CamelCase. Each comment names the conditions that use the reason.
pub mod reasons {
    /// Ready: the workers run and the source answers.
    pub const READY: &str = "Ready";
    /// Ready, `ScalingActive`: `spec.suspend` is set, and no workers run.
    pub const SUSPENDED: &str = "Suspended";
    /// Ready: the job is idle and `minReplicas` is 0.
    pub const ASLEEP: &str = "Asleep";
    /// Ready, `ScalingActive`, Stalled: a field of the spec cannot be used; the message names it.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Ready, `ScalingActive`, Stalled: the operator excludes the namespace.
    pub const NAMESPACE_EXCLUDED: &str = "NamespaceExcluded";
    /// Ready: no broker of the source answers.
    pub const SOURCE_UNREACHABLE: &str = "SourceUnreachable";
    /// Ready: the source refuses the credentials or the operation.
    pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
    /// Ready: the operator's egress policy does not allow a connection to the source.
    pub const DESTINATION_REFUSED: &str = "DestinationRefused";
    /// Ready: the job exceeds a limit of the job, its namespace or the operator; the message names the limit.
    pub const LIMIT_EXCEEDED: &str = "LimitExceeded";
    /// Ready: the topic does not exist.
    pub const TOPIC_NOT_FOUND: &str = "TopicNotFound";
    /// Ready: requests to the API server for this job fail repeatedly; the message quotes its answer.
    pub const API_ERROR: &str = "ApiError";
    /// Ready: the operator failed on this job because of a bug in Sluice; it tries again every minute.
    pub const INTERNAL_ERROR: &str = "InternalError";
    /// Ready, `ScalingActive`, Stalled: the operator may not read the workload named by `targetRef`; the message names the missing
    /// right.
    pub const TARGET_FORBIDDEN: &str = "TargetForbidden";
    /// Ready, `ScalingActive`, Stalled: another StreamJob scales the workload named by `targetRef`.
    pub const TARGET_TAKEN: &str = "TargetTaken";
    /// Ready, Stalled: a workload that this job created for an earlier spec still exists.
    pub const WORKLOAD_LEFT_BEHIND: &str = "WorkloadLeftBehind";
    /// Ready: the workload is being deleted; Sluice creates another one afterwards.
    pub const WORKLOAD_TERMINATING: &str = "WorkloadTerminating";
    /// Ready, Stalled: the API server refuses the workload, its replica count or the processing file.
    pub const WORKLOAD_REJECTED: &str = "WorkloadRejected";
    /// Ready: the workload named by `targetRef` does not exist or has no scale subresource.
    pub const TARGET_NOT_FOUND: &str = "TargetNotFound";
    /// Ready, Stalled: a workload of this name exists and does not belong to the job.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// Ready: the job needs workers, and none is ready.
    pub const NO_READY_WORKERS: &str = "NoReadyWorkers";
    /// Reconciling: the workload's controller has not yet rolled out the current pod template.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// Reconciling: no rollout is under way.
    pub const ROLLED_OUT: &str = "RolledOut";
    /// Stalled: no action is required.
    pub const PROGRESSING: &str = "Progressing";
    /// Stalled: the rollout of the Deployment has made no progress for its `progressDeadlineSeconds`.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// Stalled: another writer keeps changing the replica count.
    pub const CONFLICT: &str = "Conflict";
    /// `WithinTarget`: the objective is met now.
    pub const MET: &str = "Met";
    /// `WithinTarget`: too many records are late, and the backlog is not shrinking.
    pub const BEHIND: &str = "Behind";
    /// `WithinTarget`: the job is behind and catching up; the message gives the estimated time.
    pub const CATCHING_UP: &str = "CatchingUp";
    /// `WithinTarget`: processing alone takes longer than the objective's latency.
    pub const OBJECTIVE_BELOW_FLOOR: &str = "ObjectiveBelowFloor";
    /// `WithinTarget`, `MetricsAvailable`: there is no measurement.
    pub const UNKNOWN: &str = "Unknown";
    /// `ScalingActive`: Sluice decides the replica count.
    pub const ACTIVE: &str = "Active";
    /// `ScalingActive`: another StreamJob names the same workload in `targetRef` and does not scale it.
    pub const TARGET_CONTESTED: &str = "TargetContested";
    /// `ScalingActive`: another StreamJob reads the same topic in the same consumer group.
    pub const SHARED_CONSUMER_GROUP: &str = "SharedConsumerGroup";
    /// `ScalingActive`, Ready (at 0): `spec.replicas` is set.
    pub const PINNED: &str = "Pinned";
    /// `ScalingActive`: `scaling.mode` is Recommend.
    pub const RECOMMEND: &str = "Recommend";
    /// `ScalingActive`, `MetricsAvailable`: there is no signal.
    pub const NO_SIGNAL: &str = "NoSignal";
    /// `ScalingActive`: another writer has changed the replica count.
    pub const FOREIGN_WRITER: &str = "ForeignWriter";
    /// `ScalingLimited`: no limit keeps the job below the replica count that it needs.
    pub const NOT_LIMITED: &str = "NotLimited";
    /// `ScalingLimited`: the job is at `maxReplicas` or at a schedule's ceiling.
    pub const AT_MAX_REPLICAS: &str = "AtMaxReplicas";
    /// `ScalingLimited`: every partition has a worker of its own; further workers would be idle.
    pub const AT_PARTITION_COUNT: &str = "AtPartitionCount";
    /// `ScalingLimited`: one partition receives more than one worker can process.
    pub const SKEWED: &str = "Skewed";
    /// `ScalingLimited`: more workers process no more records, because they share a bottleneck.
    pub const EXTERNAL_BOTTLENECK: &str = "ExternalBottleneck";
    /// `ScalingLimited`: one partition makes no progress while others do.
    pub const PARTITION_STUCK: &str = "PartitionStuck";
    /// `ScalingLimited`: a resource quota does not allow more pods.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// `ScalingLimited`, Stalled (after 10 minutes): something other than a quota refuses pods, such as Pod Security or
    /// a webhook.
    pub const PODS_REFUSED: &str = "PodsRefused";
    /// `ScalingLimited`, Stalled (after 10 minutes): pods cannot start, because their image, their configuration or an
    /// init container fails; or they have a node and have not started within 5 minutes.
    pub const PODS_FAILING: &str = "PodsFailing";
    /// `ScalingLimited`: pods cannot be placed on a node.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// `ScalingLimited`, Stalled (after 10 minutes): workers crash repeatedly.
    pub const CRASH_LOOPING: &str = "CrashLooping";
    /// `ScalingLimited`: added workers did not become ready.
    pub const PODS_NOT_READY: &str = "PodsNotReady";
    /// `ScalingLimited`: the job has used up its `maxRescalesPerHour`.
    pub const RESCALE_BUDGET: &str = "RescaleBudget";
    /// `ScalingLimited`: `maxStepUp`, or the limit while the capacity is uncertain, made the step up smaller.
    pub const STEP_LIMIT: &str = "StepLimit";
    /// `ScalingLimited`: `scaling.mode` is `OutOnly`.
    pub const OUT_ONLY: &str = "OutOnly";
    /// `ScalingLimited`: `scaling.mode` is `InOnly`.
    pub const IN_ONLY: &str = "InOnly";
    /// `MetricsAvailable` (True): every signal is fresh, and the consumer group has members that are not workers of the
    /// job.
    pub const STRANGERS_IN_GROUP: &str = "StrangersInGroup";
    /// `MetricsAvailable`: every signal is fresh.
    pub const FRESH: &str = "Fresh";
    /// `MetricsAvailable`: some partitions or workers are missing.
    pub const PARTIAL_SIGNAL: &str = "PartialSignal";
    /// `MetricsAvailable`: the numbers of the sources and the workers contradict each other.
    pub const CONTRADICTORY_SIGNAL: &str = "ContradictorySignal";
    /// `MetricsAvailable`: the group commits too rarely, or never, for its latency to be verified.
    pub const LATENCY_UNVERIFIABLE: &str = "LatencyUnverifiable";
    /// `MetricsAvailable`: the newest sample is too old.
    pub const STALE_SIGNAL: &str = "StaleSignal";
}
