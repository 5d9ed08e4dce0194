//! What the user asked for, validated: `operator::validate` makes it from a `StreamJob`, and the simulator for its
//! jobs.

use jiff::tz::TimeZone;

use sluice_base::units::Seconds;

/// What Sluice may do with the replica count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Add and remove workers.
    #[default]
    Auto,
    /// Only add workers.
    OutOnly,
    /// Only remove workers.
    InOnly,
    /// Change nothing; report what would be done.
    Recommend,
}

/// Size of a step: a number of workers, or a percentage of the present number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// At most this many workers; at least 1.
    Workers(u32),
    /// At most this percentage of the present workers; at least 1, and never less than one worker.
    Percent(u32),
}

/// What the user asked for. `operator::validate` guarantees the ranges.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time after being appended within which a record must be processed, seconds; at least 0.1.
    pub latency: Seconds,
    /// Share of records that must meet the latency, 0.5 to 0.9999.
    pub percentile: f64,
    /// Time over which attainment and error budget are counted, seconds; at least 60.
    pub window: Seconds,
    /// Fewest workers.
    pub min_replicas: u32,
    /// Most workers; at least `min_replicas` and at least 1.
    pub max_replicas: u32,
    /// Replica count that the user fixed with `spec.replicas`.
    pub pinned: Option<u32>,
    /// Whether the job has no workers (`spec.suspend`).
    pub suspend: bool,
    /// What Sluice may change.
    pub mode: Mode,
    /// Most workers added by one decision; `None`: only the rules of policy/README.md limit a step.
    pub max_step_up: Option<Step>,
    /// Most workers removed by one decision.
    pub max_step_down: Step,
    /// Most changes of the replica count per hour.
    pub max_rescales_per_hour: u32,
    /// Floors and ceilings by time.
    pub schedules: Vec<Schedule>,
    /// Time without any signal after which at least `fallback_replicas` workers are kept, seconds.
    pub fallback_after: Seconds,
    /// Fewest workers after that time. `None`: the present number is kept.
    pub fallback_replicas: Option<u32>,
    /// Time for which micro-batches are gathered, seconds: part of the latency floor.
    pub batch_interval: Option<Seconds>,
    /// Most records per second that one worker may process.
    pub max_records_per_second: Option<f64>,
    /// Records that one worker processes at the same time, if the user states it.
    pub concurrency: Option<u32>,
}

impl Settings {
    /// Returns settings for an objective and a range of replica counts, with the defaults of a `StreamJob` for all
    /// else.
    pub fn for_objective(latency: Seconds, percentile: f64, (min_replicas, max_replicas): (u32, u32)) -> Self {
        Self {
            latency,
            percentile,
            window: Seconds(3600.0),
            min_replicas,
            max_replicas,
            pinned: None,
            suspend: false,
            mode: Mode::Auto,
            max_step_up: None,
            max_step_down: Step::Percent(30),
            max_rescales_per_hour: 60,
            schedules: Vec::new(),
            fallback_after: Seconds(300.0),
            fallback_replicas: None,
            batch_interval: None,
            max_records_per_second: None,
            concurrency: None,
        }
    }
}

/// A floor or ceiling that is active for `duration` from each occurrence of a cron pattern.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Name for messages.
    pub name: String,
    /// When the schedule begins.
    pub cron: croner::Cron,
    /// Time zone of the pattern.
    pub time_zone: TimeZone,
    /// How long the schedule stays active, seconds.
    pub duration: Seconds,
    /// Fewest workers while it is active.
    pub min_replicas: Option<u32>,
    /// Most workers while it is active.
    pub max_replicas: Option<u32>,
}
