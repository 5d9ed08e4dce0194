//! The measurements: loads and properties of the workers.

use std::fmt::Write as _;
use std::path::Path;

use sluice_simulate::Load;
use sluice_simulate::trace::{self, Gaps};
use sluice_worker::load::profile::{LoadProfile, Step};

use super::Failure;

/// Number of partitions of each topic, and so the largest useful number of workers.
pub(crate) const PARTITIONS: u32 = 24;
/// Capacity of one worker, records per second: 2 ms each.
pub(crate) const WORKER_RATE: f64 = 500.0;
pub(crate) const PROCESS_TIME: &str = "2ms";
/// Highest rate of every load, records per second: the capacity of twelve workers. At this rate the staircase of 24
/// partitions costs as much as on the test bed where KEDA was measured.
const PEAK: f64 = 6_000.0;

/// A load.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// A part of a file in `examples/traces`, replayed faster by a factor.
    Trace { file: &'static str, from_hours: f64, to_hours: f64, speed: u32 },
    /// Half of the peak for `before` seconds, then the peak for `after` seconds.
    Step { before: f64, after: f64 },
}

/// One measurement, a row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    source: Source,
    /// Delay from readiness to joining the group, seconds.
    pub(crate) join_after: u32,
    /// Whether the job has worker metrics.
    pub(crate) metrics: bool,
    /// Commit interval of a worker, seconds.
    pub(crate) commit_every: u32,
}

const FLASH: &str = "real_flash_wc98_semifinal_24h.csv";
const DIURNAL: &str = "real_diurnal_demeter_ads_18h.csv";

/// A football match: hours of low load, a rise, the peak at 20:55 and the fall after it.
const FLASH_30: Source = Source::Trace { file: FLASH, from_hours: 18.75, to_hours: 22.0, speed: 30 };
const FLASH_12: Source = Source::Trace { file: FLASH, from_hours: 20.0, to_hours: 21.6, speed: 12 };
/// Two of the waves of a day.
const DIURNAL_30: Source = Source::Trace { file: DIURNAL, from_hours: 6.0, to_hours: 9.0, speed: 30 };
const DIURNAL_12: Source = Source::Trace { file: DIURNAL, from_hours: 6.5, to_hours: 8.1, speed: 12 };
const STEP: Source = Source::Step { before: 150.0, after: 210.0 };

const fn default_cell(name: &'static str, source: Source) -> Cell {
    Cell { name, source, join_after: 0, metrics: true, commit_every: 5 }
}

/// All cells in the order in which they run: 54 minutes of load.
pub(crate) const CELLS: [Cell; 8] = [
    default_cell("flash-x30", FLASH_30),
    default_cell("flash-x12", FLASH_12),
    Cell { join_after: 20, ..default_cell("flash-x30-slow-start", FLASH_30) },
    default_cell("diurnal-x30", DIURNAL_30),
    default_cell("diurnal-x12", DIURNAL_12),
    default_cell("step", STEP),
    Cell { metrics: false, ..default_cell("flash-x30-no-metrics", FLASH_30) },
    Cell { commit_every: 30, ..default_cell("flash-x30-commits-30s", FLASH_30) },
];

impl Cell {
    /// Describes the cell for people.
    pub(crate) fn description(&self) -> String {
        let mut text = match self.source {
            Source::Trace { file, from_hours, to_hours, speed } => {
                let name = file.trim_end_matches(".csv");
                format!("{name}, {from_hours} h to {to_hours} h, {speed} times as fast")
            }
            Source::Step { before, after } => {
                format!("{} records/s for {before} s, then {PEAK} for {after} s", PEAK / 2.0)
            }
        };
        if self.join_after > 0 {
            let _ = write!(text, "; workers join after {} s", self.join_after);
        }
        if !self.metrics {
            text += "; no worker metrics";
        }
        if self.commit_every != 5 {
            let _ = write!(text, "; commits every {} s", self.commit_every);
        }
        text
    }

    /// Returns the load, with one step per second.
    pub(crate) fn course(&self, minutes: Option<f64>) -> Result<LoadProfile, Failure> {
        let course = match self.source {
            Source::Step { before, after } => {
                LoadProfile::new(&[Step { seconds: before, rate: PEAK / 2.0 }, Step { seconds: after, rate: PEAK }])
            }
            Source::Trace { file, from_hours, to_hours, speed } => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/traces").join(file);
                let load = Load::from_points(&trace::read(&path, Gaps::Allowed)?);
                let rates = load.rates().iter().map(|rate| f64::from(*rate));
                let (from, to) = (seconds(from_hours), seconds(to_hours));
                let part = rates.skip(from).take(to - from).step_by(usize::try_from(speed)?);
                LoadProfile::new(&part.map(|rate| Step { seconds: 1.0, rate }).collect::<Vec<_>>())
            }
        };
        let scaled = match course.peak() {
            peak if peak > 0.0 => course.scaled(PEAK / peak),
            _ => return Err(format!("{}: the trace contains no load", self.name).into()),
        };
        Ok(match minutes {
            Some(minutes) => scaled.cut(minutes * 60.0),
            None => scaled,
        })
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours of a day")]
fn seconds(hours: f64) -> usize {
    (hours * 3600.0) as usize
}

/// Returns the smallest number of workers for this rate, where each has its share of the partitions, which cannot be
/// split.
pub(crate) fn min_workers(rate: f64) -> u32 {
    let fits = |workers: &u32| f64::from(PARTITIONS.div_ceil(*workers)) * rate / f64::from(PARTITIONS) <= WORKER_RATE;
    (1..=PARTITIONS).find(fits).unwrap_or(PARTITIONS)
}

/// Returns the cost of always having the smallest sufficient number of workers, relative to the ideal cost.
pub(crate) fn staircase_ratio(course: &LoadProfile) -> f64 {
    let mut seconds = 0.5;
    let (mut paid, mut ideal) = (0.0, 0.0);
    while seconds < course.seconds() {
        let rate = course.rate(seconds);
        paid += f64::from(min_workers(rate));
        ideal += rate / WORKER_RATE;
        seconds += 1.0;
    }
    paid / ideal
}
