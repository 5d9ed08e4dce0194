//! `StreamJob`, version `v1alpha1`: what a team applies.
//!
//! Doc comments become `kubectl explain`; every field has a bound, and rules between fields are CEL rules whose message
//! says what to change. A missing field means "not set": no field takes `null`.

mod processing;
mod scaling;
mod workload;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::{Duration, duration_schema};
use super::status::StreamJobStatus;

pub use processing::{Delivery, LogLevel, Processing, Style};
pub use scaling::{Fallback, Mode, Scaling, Schedule};
pub use workload::{TargetRef, Workload, WorkloadKind};

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
    validation = Rule::new("!has(self.spec.workload) || self.spec.workload.kind != 'StatefulSet' || !self.metadata.name.contains('.')").message("metadata.name must not contain a dot with workload.kind: StatefulSet, because the names of its pods are host names: use another name"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.summary.lag"),
    printcolumn(name = "Latency", type_ = "string", json_path = ".status.summary.latency"),
    printcolumn(name = "As-Of", type_ = "date", json_path = ".status.observedTime"),
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
    validation = Rule::new("has(self.workload) == has(oldSelf.workload)").message("spec cannot be changed from workload to targetRef or back, because the workers of both would run: delete the StreamJob and create it again"),
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

    /// Where the workers begin to read a partition in which the group has committed nothing: `auto.offset.reset` of their
    /// consumers. With `earliest` all that such a partition holds counts as waiting; with `latest`, and without this field, only
    /// what arrives while Sluice watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_reset: Option<OffsetReset>,
}

/// Where the workers begin to read a partition in which the group has committed nothing: `auto.offset.reset` of their
/// consumers. With `earliest` all that such a partition holds counts as waiting; with `latest`, and without this field, only
/// what arrives while Sluice watches.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffsetReset {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
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

fn one() -> i32 {
    1
}
fn ninety_nine() -> IntOrString {
    IntOrString::Int(99)
}
fn one_hour() -> Duration {
    Duration::from(std::time::Duration::from_hours(1))
}
fn metrics_path() -> String {
    "/metrics".to_owned()
}
