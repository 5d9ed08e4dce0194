//! How the replica count may change.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{Duration, duration_schema};

/// How the replica count may change.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scaling {
    /// Auto: add and remove workers. `OutOnly`: only add. `InOnly`: only remove. Recommend: change nothing, and report
    /// what Sluice would do.
    #[serde(default)]
    pub mode: Mode,

    /// Replica count with which the workload is created. If absent: minReplicas, but at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub initial_replicas: Option<i32>,

    /// Maximum number of workers that one decision adds: a number, or a percentage of the current replica count
    /// ("100%"). Does not apply if the job would miss its target because of it. If absent: up to four times the current
    /// replica count while the capacity of a worker is uncertain, then unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(STEP_RULE).message("scaling.maxStepUp must be a number of at least 1, or a percentage between 1% and 1000%"))]
    pub max_step_up: Option<IntOrString>,

    /// Maximum number of workers that one decision removes: a number, or a percentage of the current replica count.
    #[serde(default = "thirty_percent")]
    #[x_kube(validation = Rule::new(STEP_RULE).message("scaling.maxStepDown must be a number of at least 1, or a percentage between 1% and 1000%"))]
    pub max_step_down: IntOrString,

    /// Maximum number of changes of the replica count in one hour. Does not apply if the job would miss its target
    /// because of it.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 720))]
    pub max_rescales_per_hour: i32,

    /// Floors and ceilings for the replica count at certain times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub schedules: Vec<Schedule>,

    /// What Sluice does when there is no signal at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

const STEP_RULE: &str = "type(self) == int ? self >= 1 && self <= 10000 : self.matches('^([1-9][0-9]{0,2}|1000)%$')";

/// What Sluice may do with the replica count.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Add and remove workers.
    #[default]
    Auto,
    /// Only add workers.
    OutOnly,
    /// Only remove workers.
    InOnly,
    /// Change nothing, and report what Sluice would do.
    Recommend,
}

/// A floor or ceiling for the replica count at certain times.
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

    /// Start of the schedule, in cron notation with five fields: "0 7 * * 1-5" is 07:00 on weekdays.
    #[schemars(length(min = 9, max = 100))]
    pub schedule: String,

    /// Length of the schedule from each start: 1m to 168h.
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message("duration of a schedule must lie between 1m and 168h"))]
    pub duration: Duration,

    /// IANA time zone of the start, such as Europe/Berlin.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,

    /// Minimum replica count while the schedule is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: Option<i32>,

    /// Maximum replica count while the schedule is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: Option<i32>,
}

/// What Sluice does when there is no signal at all.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// Time without any signal after which the fallback applies: 30s to 24h.
    #[serde(default = "five_minutes")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('30s') && duration(self) <= duration('24h')").message("scaling.fallback.after must lie between 30s and 24h"))]
    pub after: Duration,

    /// Minimum replica count while the fallback applies. If absent, the replica count stays as it is. Workers are never
    /// removed because a signal is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub replicas: Option<i32>,
}

fn sixty() -> i32 {
    60
}
fn thirty_percent() -> IntOrString {
    IntOrString::String("30%".to_owned())
}
fn five_minutes() -> Duration {
    Duration::from(std::time::Duration::from_mins(5))
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
            max_rescales_per_hour: sixty(),
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
