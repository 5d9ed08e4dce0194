//! What is run: loads, and what the workers are like.

use std::fmt::Write as _;
use std::path::Path;

use sluice_simulate::Load;
use sluice_simulate::trace::{self, Gaps};
use sluice_worker::load::profile::{LoadProfile, Step};

use super::Failure;

/// Partitions of each topic, and so the most workers that are of use.
pub(crate) const PARTITIONS: u32 = 24;
/// Records per second that one worker does: 2 ms each.
pub(crate) const WORKER_RATE: f64 = 500.0;
pub(crate) const PROCESS_TIME: &str = "2ms";
/// Highest rate of every load, in records per second: what twelve workers do. At that the staircase of 24 partitions costs
/// what it costs on the bed where KEDA was measured.
const PEAK: f64 = 6_000.0;

/// A load.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Part of a file in `examples/traces`, played faster than life by a factor.
    Trace { file: &'static str, from_hours: f64, to_hours: f64, speed: u32 },
    /// Half of the peak, then the peak, in seconds.
    Step { before: f64, after: f64 },
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    source: Source,
    /// Seconds after which a worker that is ready joins its group.
    pub(crate) join_after: u32,
    /// Whether the job says where its workers' metrics are.
    pub(crate) metrics: bool,
    /// Seconds between two commits of a worker.
    pub(crate) commit_every: u32,
}

const FLASH: &str = "real_flash_wc98_semifinal_24h.csv";
const DIURNAL: &str = "real_diurnal_demeter_ads_18h.csv";

/// A football match: hours of calm, a rise, the peak at 20:55 and the fall after it.
const FLASH_30: Source = Source::Trace { file: FLASH, from_hours: 18.75, to_hours: 22.0, speed: 30 };
const FLASH_12: Source = Source::Trace { file: FLASH, from_hours: 20.0, to_hours: 21.6, speed: 12 };
/// Two of the waves of a day.
const DIURNAL_30: Source = Source::Trace { file: DIURNAL, from_hours: 6.0, to_hours: 9.0, speed: 30 };
const DIURNAL_12: Source = Source::Trace { file: DIURNAL, from_hours: 6.5, to_hours: 8.1, speed: 12 };
const STEP: Source = Source::Step { before: 150.0, after: 210.0 };

const fn usual(name: &'static str, source: Source) -> Cell {
    Cell { name, source, join_after: 0, metrics: true, commit_every: 5 }
}

/// All of them, in the order in which they are run: 54 minutes of load.
pub(crate) const CELLS: [Cell; 8] = [
    usual("flash-x30", FLASH_30),
    usual("flash-x12", FLASH_12),
    Cell { join_after: 20, ..usual("flash-x30-slow-start", FLASH_30) },
    usual("diurnal-x30", DIURNAL_30),
    usual("diurnal-x12", DIURNAL_12),
    usual("step", STEP),
    Cell { metrics: false, ..usual("flash-x30-no-metrics", FLASH_30) },
    Cell { commit_every: 30, ..usual("flash-x30-commits-30s", FLASH_30) },
];

impl Cell {
    /// What it is, for a person.
    pub(crate) fn words(&self) -> String {
        let mut words = match self.source {
            Source::Trace { file, from_hours, to_hours, speed } => {
                let name = file.trim_end_matches(".csv");
                format!("{name}, {from_hours} h to {to_hours} h, {speed} times as fast")
            }
            Source::Step { before, after } => {
                format!("{} records/s for {before} s, then {PEAK} for {after} s", PEAK / 2.0)
            }
        };
        if self.join_after > 0 {
            let _ = write!(words, "; workers join after {} s", self.join_after);
        }
        if !self.metrics {
            words += "; no worker metrics";
        }
        if self.commit_every != 5 {
            let _ = write!(words, "; commits every {} s", self.commit_every);
        }
        words
    }

    /// The load, a step for each second.
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
            _ => return Err(format!("{}: there is no load in it", self.name).into()),
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

/// The fewest workers that do this rate when each has its share of the partitions, which cannot be split.
pub(crate) fn fewest(rate: f64) -> u32 {
    let fits = |workers: &u32| f64::from(PARTITIONS.div_ceil(*workers)) * rate / f64::from(PARTITIONS) <= WORKER_RATE;
    (1..=PARTITIONS).find(fits).unwrap_or(PARTITIONS)
}

/// What it would cost to have the fewest workers at every moment and let nothing wait, over the ideal.
pub(crate) fn staircase(course: &LoadProfile) -> f64 {
    let mut seconds = 0.5;
    let (mut paid, mut ideal) = (0.0, 0.0);
    while seconds < course.seconds() {
        let rate = course.rate(seconds);
        paid += f64::from(fewest(rate));
        ideal += rate / WORKER_RATE;
        seconds += 1.0;
    }
    paid / ideal
}
