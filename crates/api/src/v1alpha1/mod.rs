//! `StreamJob`, version `v1alpha1`: the resource that a team applies.
//!
//! Doc comments become the text of `kubectl explain`. Every field has a bound, and rules between fields are CEL rules
//! whose messages name the change to make. A missing field means "not set": no field accepts `null`.

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

/// A StreamJob runs the workers of one stream job and keeps the job within its latency objective with as few workers as
/// possible.
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
    doc = "A StreamJob runs the workers of one stream job and keeps the job within its latency objective with as few workers as possible.",
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
    /// Latency target of the job.
    pub objective: Objective,

    /// Minimum replica count. With 0 an idle job sleeps: its workers are removed while no records arrive.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: i32,

    /// Maximum replica count: the bound on the cost of the job. Pods that a rollout adds temporarily are not included.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: i32,

    /// Pinned replica count. If absent, Sluice decides the replica count. `kubectl scale` writes this field; remove it
    /// to let Sluice decide again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<i32>,

    /// If true, no workers run. Takes precedence over everything else.
    #[serde(default)]
    pub suspend: bool,

    /// Sources of the job's records.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<Source>,

    /// Workers that Sluice runs for this job. Exactly one of `workload` and `targetRef` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,

    /// Existing workload in the same namespace whose replica count Sluice manages; with `scaling.mode: Recommend` it
    /// only recommends a replica count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,

    /// Where the workers publish their metrics. If absent, Sluice learns from the sources alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,

    /// How the replica count may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,

    /// How the workers process records. The workers get these settings as a mounted file, whose path is in their
    /// environment; Sluice takes them into account when it plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing: Option<Processing>,
}

/// The latency target: `percentile` percent of the records are processed within `latency` after they are appended.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objective {
    /// Time within which a record should be processed after it is appended to its source: 100ms to 24h, such as `10s`.
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('24h')").message("objective.latency must lie between 100ms and 24h"))]
    pub latency: Duration,

    /// Share of records that must meet the latency, in percent: 50 to 99.99. An integer, or a quoted string for
    /// decimals ("99.9"). Without the quotes YAML reads a number with a fraction, which is refused.
    #[serde(default = "ninety_nine")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 50 && self <= 99 : self.matches('^[5-9][0-9]([.][0-9]{1,2})?$')").message("objective.percentile must lie between 50 and 99.99, with at most two decimals"))]
    pub percentile: IntOrString,

    /// Time over which attainment and error budget are counted: 1m to 720h.
    #[serde(default = "one_hour")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('720h')").message("objective.window must lie between 1m and 720h"))]
    pub window: Duration,
}

/// One source of records.
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
    /// Brokers to contact first, as host:port.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 260), regex(pattern = r"^(\[[0-9a-fA-F:.]+\]|[^\s:,/\[\]]+):[0-9]{1,5}$"))
    )]
    pub bootstrap_servers: Vec<String>,

    /// Name of the topic.
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub topic: String,

    /// Name of the consumer group of the workers.
    #[schemars(length(min = 1, max = 255))]
    pub consumer_group: String,

    /// Where the workers begin to read a partition in which the group has no committed offset: `auto.offset.reset` of
    /// their consumers. With `earliest` all records of such a partition count as waiting; with `latest`, and without
    /// this field, only records that arrive while Sluice watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_reset: Option<OffsetReset>,
}

/// Where the workers begin to read a partition in which the group has no committed offset: `auto.offset.reset` of
/// their consumers. With `earliest` all records of such a partition count as waiting; with `latest`, and without
/// this field, only records that arrive while Sluice watches.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffsetReset {
    /// Begin at the oldest record.
    Earliest,
    /// Begin after the newest record.
    Latest,
}

/// Where the workers publish the worker metrics (docs/worker-metrics.md).
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metrics {
    /// Container port, by name or number.
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$')").message("metrics.port must be a port number or the name of a container port"))]
    pub port: IntOrString,

    /// HTTP path of the metrics.
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
