//! What the user asked for, validated: made by `operator::validate` from a `StreamJob`, or for a simulated one.

use jiff::tz::TimeZone;

use sluice_base::units::Seconds;

/// What Sluice may do with the number of workers.
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

/// A number of workers, or a percentage of the present number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// At most this many workers; at least 1.
    Workers(u32),
    /// At most this share of the present workers, in percent; at least 1, and never less than one worker.
    Percent(u32),
}

/// What the user asked for. `operator::validate` guarantees the ranges.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A record is to be processed within this time of being appended; at least 0.1 s.
    pub latency: Seconds,
    /// Share of records that must meet it, 0.5 to 0.9999.
    pub percentile: f64,
    /// Time over which attainment and error budget are counted; at least 60 s.
    pub window: Seconds,
    /// Fewest workers.
    pub min_replicas: u32,
    /// Most workers; at least `min_replicas` and at least 1.
    pub max_replicas: u32,
    /// The number of workers is pinned to this.
    pub pinned: Option<u32>,
    /// No workers.
    pub suspend: bool,
    /// What may be changed.
    pub mode: Mode,
    /// Most workers added by one decision; `None`: see policy/README.md.
    pub max_step_up: Option<Step>,
    /// Most workers removed by one decision.
    pub max_step_down: Step,
    /// Most changes in one hour.
    pub max_rescales_per_hour: u32,
    /// Floors and ceilings by time.
    pub schedules: Vec<Schedule>,
    /// No signal at all for so long: at least `fallback_replicas`, if given.
    pub fallback_after: Seconds,
    /// At least this many workers when there is no signal.
    pub fallback_replicas: Option<u32>,
    /// Gathering time of micro-batches: part of the latency floor.
    pub batch_interval: Option<Seconds>,
    /// A worker is not allowed to do more than this many records per second.
    pub max_records_per_second: Option<f64>,
    /// Records that one worker processes at the same time, if the user says it.
    pub concurrency: Option<u32>,
}

impl Settings {
    /// So many workers for an objective; all else as a `StreamJob` has it by default.
    pub fn of(latency: Seconds, percentile: f64, (min_replicas, max_replicas): (u32, u32)) -> Self {
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

/// A floor or ceiling that holds for `duration` from each occurrence of a cron pattern.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its name, for messages.
    pub name: String,
    /// When it begins.
    pub cron: croner::Cron,
    /// In which time zone.
    pub time_zone: TimeZone,
    /// For how long.
    pub duration: Seconds,
    /// Fewest workers while it holds.
    pub min_replicas: Option<u32>,
    /// Most workers while it holds.
    pub max_replicas: Option<u32>,
}
