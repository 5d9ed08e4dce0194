//! How the number of workers may change.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{Duration, duration_schema};

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
    #[serde(default = "sixty")]
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
