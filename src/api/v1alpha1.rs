//! `StreamJob`, version `v1alpha1`: what a team applies.
//!
//! Doc comments become `kubectl explain`; every field has a bound, and rules between fields are CEL rules whose message
//! says what to change. A missing field means "not set": no field takes `null`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::{Duration, duration_schema, opaque_list_schema, opaque_object_schema};
use super::status::StreamJobStatus;

/// A StreamJob runs the workers of one stream job and keeps their number such that the objective is met with as few
/// workers as that takes.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "StreamJob",
    plural = "streamjobs",
    singular = "streamjob",
    shortname = "stj",
    category = "streaming",
    namespaced,
    derive = "PartialEq",
    status = "StreamJobStatus",
    doc = "A StreamJob runs the workers of one stream job and keeps their number such that its latency objective is met with as few workers as that takes.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = Rule::new("self.metadata.name.size() <= 52").message("metadata.name must have at most 52 characters, because the names of the workers are made from it: use a shorter name"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.summary.lag"),
    printcolumn(name = "Latency", type_ = "string", json_path = ".status.summary.latency"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.objective.latency"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.minReplicas", priority = "1"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxReplicas", priority = "1"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.scaling.mode", priority = "1"),
    printcolumn(name = "Bound-By", type_ = "string", json_path = ".status.lastDecision.boundBy", priority = "1"),
    printcolumn(name = "Rate", type_ = "string", json_path = ".status.summary.rate", priority = "1"),
    printcolumn(name = "Last-Scaled", type_ = "date", json_path = ".status.lastDecision.time", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.lastDecision.message", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas must not be larger than maxReplicas"),
    validation = Rule::new("!has(self.replicas) || self.replicas <= self.maxReplicas").message("replicas must not be larger than maxReplicas: raise maxReplicas first, it is the cost bound"),
    validation = Rule::new("has(self.workload) != has(self.targetRef)").message("give exactly one of workload (Sluice runs the workers) and targetRef (an existing workload)"),
    validation = Rule::new("!has(self.scaling) || !has(self.scaling.initialReplicas) || self.scaling.initialReplicas <= self.maxReplicas").message("scaling.initialReplicas must not be larger than maxReplicas")
)]
pub struct StreamJobSpec {
    /// The latency target that the job is held to.
    pub objective: Objective,

    /// Fewest workers. 0 lets an idle job sleep: its workers are removed while no records arrive.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: i32,

    /// Most workers: the bound on what the job may cost. Pods that a roll-out adds for a moment come on top.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: i32,

    /// Present: the number of workers is pinned to this. Absent: Sluice decides. `kubectl scale` writes this field;
    /// remove it to hand the decision back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<i32>,

    /// True: no workers run. Takes precedence over everything else.
    #[serde(default)]
    pub suspend: bool,

    /// Where the job's records come from.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<Source>,

    /// The workers that Sluice runs for this job. Exactly one of `workload` and `targetRef` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,

    /// An existing workload in the same namespace whose number of replicas Sluice manages (or only comments on, with
    /// `scaling.mode: Recommend`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,

    /// Where the workers publish what they have done. Optional; without it Sluice learns from the source alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,

    /// How the number of workers may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,

    /// How the workers process records. Handed to them as a mounted file and in the environment; Sluice plans with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing: Option<Processing>,
}

/// The latency target: `percentile` percent of the records are processed within `latency` of being appended.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objective {
    /// A record is to be processed within this time of being appended to its source: 100ms to 24h, such as `10s`.
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('24h')").message("objective.latency must lie between 100ms and 24h"))]
    pub latency: Duration,

    /// The share of records, in percent, that must meet the latency: 50 to 99.99. An integer, or a quoted string for
    /// decimals ("99.9"; without the quotes YAML makes it a number with a fraction, which is refused).
    #[serde(default = "ninety_nine")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 50 && self <= 99 : self.matches('^[5-9][0-9]([.][0-9]{1,2})?$')").message("objective.percentile must lie between 50 and 99.99, with at most two decimals"))]
    pub percentile: IntOrString,

    /// The time over which attainment and error budget are counted: 1m to 720h.
    #[serde(default = "one_hour")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('720h')").message("objective.window must lie between 1m and 720h"))]
    pub window: Duration,
}

/// One place that records come from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.kafka)").message("say what kind of source this is: kafka"))]
pub struct Source {
    /// Name of the source, unique in the job.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// A Kafka topic that is read by a consumer group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
}

/// A Kafka topic that is read by a consumer group.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kafka {
    /// Brokers to ask first, as host:port.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 260), regex(pattern = r"^(\[[0-9a-fA-F:.]+\]|[^\s:,/\[\]]+):[0-9]{1,5}$"))
    )]
    pub bootstrap_servers: Vec<String>,

    /// Name of the topic.
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub topic: String,

    /// Name of the consumer group in which the workers read.
    #[schemars(length(min = 1, max = 255))]
    pub consumer_group: String,
}

/// The workers that Sluice runs.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.kind == oldSelf.kind").message("workload.kind cannot be changed: delete the StreamJob and create it anew, or create a second one"),
    validation = Rule::new("self.kind == 'StatefulSet' || !has(self.volumeClaimTemplates) && !has(self.persistentVolumeClaimRetentionPolicy)").message("volumeClaimTemplates and persistentVolumeClaimRetentionPolicy need workload.kind: StatefulSet"),
    validation = Rule::new("has(self.volumeClaimTemplates) == has(oldSelf.volumeClaimTemplates) && (!has(self.volumeClaimTemplates) || self.volumeClaimTemplates.size() == oldSelf.volumeClaimTemplates.size())").message("workload.volumeClaimTemplates cannot be changed")
)]
pub struct Workload {
    /// Deployment, or StatefulSet for stable names (static group membership, volumes). Cannot be changed.
    #[serde(default)]
    pub kind: WorkloadKind,

    /// Pod template of a worker, as in a Deployment.
    #[schemars(schema_with = "opaque_object_schema")]
    pub template: serde_json::Map<String, serde_json::Value>,

    /// Seconds that a new pod must be ready before it counts as available.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: i32,

    /// How a new template is rolled out: `strategy` of a Deployment, `updateStrategy` of a StatefulSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque_object_schema")]
    pub strategy: Option<serde_json::Map<String, serde_json::Value>>,

    /// StatefulSet only: claims that each worker gets. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque_list_schema")]
    pub volume_claim_templates: Option<Vec<serde_json::Map<String, serde_json::Value>>>,

    /// StatefulSet only: what becomes of the claims when workers are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque_object_schema")]
    pub persistent_volume_claim_retention_policy: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What runs the workers.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// Interchangeable workers.
    #[default]
    Deployment,
    /// Workers with stable names; always started and stopped in parallel.
    StatefulSet,
}

/// An existing workload.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// API version of the workload.
    #[serde(default = "apps_v1")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^([a-z0-9.-]+/)?v[a-z0-9]+$"))]
    pub api_version: String,

    /// Kind of the workload: Deployment, StatefulSet, or anything with a scale subresource.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,

    /// Name of the workload, in the namespace of the StreamJob.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Where the workers publish the worker metrics (docs/worker-metrics.md).
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metrics {
    /// Container port, by name or number.
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$')").message("metrics.port must be a port number or the name of a container port"))]
    pub port: IntOrString,

    /// HTTP path.
    #[serde(default = "metrics_path")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^/[^\\s#]*$"))]
    pub path: String,
}

/// How the number of workers may change.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scaling {
    /// Auto: up and down. `OutOnly`: only up. `InOnly`: only down. Recommend: change nothing, and say what would be done.
    #[serde(default)]
    pub mode: Mode,

    /// Workers at creation; absent: minReplicas, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub initial_replicas: Option<i32>,

    /// Most workers added by one decision: a number, or a percentage of the present workers ("100%"). Never keeps a
    /// job from meeting its target. Absent: up to four times the present number until capacity is known well, then
    /// unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(STEP_RULE).message("scaling.maxStepUp must be a number of at least 1, or a percentage between 1% and 1000%"))]
    pub max_step_up: Option<IntOrString>,

    /// Most workers removed by one decision: a number, or a percentage of the present workers.
    #[serde(default = "thirty_percent")]
    #[x_kube(validation = Rule::new(STEP_RULE).message("scaling.maxStepDown must be a number of at least 1, or a percentage between 1% and 1000%"))]
    pub max_step_down: IntOrString,

    /// Most changes of the number of workers in one hour. Never keeps a job from meeting its target.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 720))]
    pub max_rescales_per_hour: i32,

    /// Floors and ceilings by time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub schedules: Vec<Schedule>,

    /// What to do when there is no signal at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

const STEP_RULE: &str = "type(self) == int ? self >= 1 && self <= 10000 : self.matches('^([1-9][0-9]{0,2}|1000)%$')";

/// What Sluice may do with the number of workers.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Add and remove workers.
    #[default]
    Auto,
    /// Only add workers.
    OutOnly,
    /// Only remove workers.
    InOnly,
    /// Change nothing; say what would be done.
    Recommend,
}

/// A floor or ceiling that holds at certain times.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.minReplicas) || has(self.maxReplicas)").message("a schedule needs minReplicas, maxReplicas or both"),
    validation = Rule::new("!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas").message("minReplicas of a schedule must not be larger than its maxReplicas")
)]
pub struct Schedule {
    /// Name of the schedule, unique in the job.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// When it begins, in cron notation with five fields: "0 7 * * 1-5" is 07:00 on weekdays.
    #[schemars(length(min = 9, max = 100))]
    pub schedule: String,

    /// How long it holds: 1m to 168h.
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message("duration of a schedule must lie between 1m and 168h"))]
    pub duration: Duration,

    /// IANA time zone, such as Europe/Berlin.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,

    /// Fewest workers while it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: Option<i32>,

    /// Most workers while it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: Option<i32>,
}

/// What to do when there is no signal at all.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// How long no signal arrives before the fallback holds: 30s to 24h.
    #[serde(default = "five_minutes")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('30s') && duration(self) <= duration('24h')").message("scaling.fallback.after must lie between 30s and 24h"))]
    pub after: Duration,

    /// At least this many workers then. Absent: keep what there is. Workers are never removed for want of a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub replicas: Option<i32>,
}

/// How the workers process records.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.batchInterval) || self.style == 'MicroBatch'").message("processing.batchInterval needs processing.style: MicroBatch"))]
pub struct Processing {
    /// Record: one by one as they come. `MicroBatch`: gathered for a batchInterval.
    #[serde(default)]
    pub style: Style,

    /// `MicroBatch` only: how long records are gathered, 100ms to 1h. No latency below it can be promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1h')").message("processing.batchInterval must lie between 100ms and 1h"))]
    pub batch_interval: Option<Duration>,

    /// What the workers promise about each record.
    #[serde(default)]
    pub delivery: Delivery,

    /// Most records per second that one worker may process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_records_per_second: Option<i32>,

    /// Records that one worker processes at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: Option<i32>,

    /// Log level of the workers.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// How records are taken up.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// One by one, as they come.
    #[default]
    Record,
    /// Gathered for an interval.
    MicroBatch,
}

/// What the workers promise about each record.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Never twice; some may be lost.
    AtMostOnce,
    /// Never lost; some may come twice.
    #[default]
    AtLeastOnce,
    /// Neither.
    ExactlyOnce,
}

/// Log level of the workers.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warn,
    /// What an operator of the job wants to see.
    #[default]
    Info,
    /// What its developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

fn one() -> i32 {
    1
}
fn thirty() -> i32 {
    30
}
fn ninety_nine() -> IntOrString {
    IntOrString::Int(99)
}
fn thirty_percent() -> IntOrString {
    IntOrString::String("30%".to_owned())
}
fn one_hour() -> Duration {
    Duration::from(std::time::Duration::from_hours(1))
}
fn five_minutes() -> Duration {
    Duration::from(std::time::Duration::from_mins(5))
}
fn apps_v1() -> String {
    "apps/v1".to_owned()
}
fn metrics_path() -> String {
    "/metrics".to_owned()
}
fn utc() -> String {
    "UTC".to_owned()
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            initial_replicas: None,
            max_step_up: None,
            max_step_down: thirty_percent(),
            max_rescales_per_hour: thirty(),
            schedules: Vec::new(),
            fallback: None,
        }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self { after: five_minutes(), replicas: None }
    }
}
