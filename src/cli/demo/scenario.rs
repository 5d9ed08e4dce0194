//! The scenarios of the demo: the load, and the faults that are injected during it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::Failure;
use sluice_base::words;
use sluice_simulate::trace::{self, Gaps};
use sluice_worker::load::profile::{LoadProfile, Step, steps};

/// The default trace. Its origin and licence are in examples/traces/README.md.
const TRACE: &str = include_str!("../../../examples/traces/diurnal-ads-18h.csv");

/// Longest outage of the broker; a short demo has a shorter one.
const OUTAGE: Duration = Duration::from_secs(8);
/// Start-up delay of each worker in the slow-start scenario.
const SLOW_START: Duration = Duration::from_secs(15);
/// Zipf exponent over the partitions in the skew scenario: of 24 partitions the busiest gets one record in nine.
const SKEW: f64 = 0.5;

/// What happens during the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// Replay a day of advertising traffic
    Trace,
    /// Raise the load to five times its rate at once, and back
    Step,
    /// Replay the day with records spread unevenly over the partitions
    Skew,
    /// Replay the day and insert a batch of records that cannot be decoded
    Poison,
    /// Replay the day and make the broker unavailable for up to 8 s
    BrokerOutage,
    /// Replay the day with workers that take 15 s to start
    SlowStart,
}

/// A fault to inject into the broker. Times are in seconds since the load began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum BrokerFault {
    /// No fault, or no further one.
    None,
    /// The broker becomes unavailable for a time.
    Outage { from: f64, to: f64 },
    /// The broker is unavailable now.
    Unavailable { until: f64 },
    /// A batch that cannot be decoded is appended.
    CorruptBatch { from: f64 },
}

impl Scenario {
    /// Returns the Zipf exponent of the load over the partitions.
    pub(super) fn skew(self) -> f64 {
        if self == Self::Skew { SKEW } else { 0.0 }
    }

    /// Returns the start-up delay of each worker, if there is one.
    pub(super) fn slow_start(self) -> Option<Duration> {
        (self == Self::SlowStart).then_some(SLOW_START)
    }

    /// Returns the fault to inject during a load of `length` seconds.
    pub(super) fn broker_fault(self, length: f64) -> BrokerFault {
        let from = length * 0.4;
        match self {
            Self::BrokerOutage => BrokerFault::Outage { from, to: from + OUTAGE.as_secs_f64().min(length * 0.1) },
            Self::Poison => BrokerFault::CorruptBatch { from },
            Self::Trace | Self::Step | Self::Skew | Self::SlowStart => BrokerFault::None,
        }
    }

    /// Returns the scenario's name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn description(self) -> &'static str {
        match self {
            Self::Trace | Self::Step => "",
            Self::Skew => ", unevenly spread over the partitions",
            Self::Poison => ", with a batch that cannot be decoded",
            Self::BrokerOutage => ", with a short outage of the broker",
            Self::SlowStart => ", with workers that take 15 s to start",
        }
    }
}

/// The load of a demo.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) course: LoadProfile,
    /// Human-readable description.
    pub(super) description: String,
}

impl Load {
    /// Creates the scenario's load, compressed into `length` and scaled so that the highest rate is `peak` records per
    /// second. `trace` replaces the bundled trace.
    pub(super) fn new(
        scenario: Scenario,
        trace: Option<&PathBuf>,
        length: Duration,
        peak: f64,
    ) -> Result<Self, Failure> {
        let (name, steps) = match (trace, scenario) {
            (Some(path), _) => read_trace(path)?,
            (None, Scenario::Step) => ("a step up and down".to_owned(), up_and_down().to_vec()),
            (None, _) => {
                let points = trace::parse("the bundled trace", TRACE, Gaps::Allowed)?;
                ("a day of advertisements".to_owned(), steps(&points))
            }
        };
        let course = LoadProfile::new(&steps);
        let (seconds, highest) = (course.seconds(), course.peak());
        if seconds <= 0.0 || highest <= 0.0 {
            return Err(format!("{name} contains no load; choose another file with --trace").into());
        }
        let description = format!(
            "{name}, {} in {}, up to {}{}",
            words::seconds(seconds.round()),
            words::seconds(length.as_secs_f64().round()),
            words::rate(peak),
            scenario.description(),
        );
        Ok(Self { course: course.compressed(seconds / length.as_secs_f64()).scaled(peak / highest), description })
    }
}

fn read_trace(path: &Path) -> Result<(String, Vec<Step>), Failure> {
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, steps(&trace::read(path, Gaps::Allowed)?)))
}

/// Returns the step scenario: three minutes at a low, a high and again the low rate.
fn up_and_down() -> [Step; 3] {
    [Step { seconds: 50.0, rate: 0.2 }, Step { seconds: 80.0, rate: 1.0 }, Step { seconds: 50.0, rate: 0.2 }]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(90);

    #[test]
    fn every_scenario_has_the_requested_length_and_peak() {
        for scenario in Scenario::value_variants() {
            let load = Load::new(*scenario, None, LENGTH, 1200.0).unwrap();
            assert!((load.course.seconds() - 90.0).abs() < 1e-6, "{scenario:?}: {}", load.course.seconds());
            assert!((load.course.peak() - 1200.0).abs() < 1e-6, "{scenario:?}: {}", load.course.peak());
        }
        let load = Load::new(Scenario::Skew, None, LENGTH, 1200.0).unwrap();
        assert_eq!(
            load.description,
            "a day of advertisements, 18h in 1m30s, up to 1.2k/s, unevenly spread over the partitions"
        );
    }

    #[test]
    fn a_trace_without_records_is_rejected() {
        let path = std::env::temp_dir().join(format!("sluice-test-empty-{}.csv", std::process::id()));
        std::fs::write(&path, "0,0\n60,0\n").unwrap();
        let error = Load::new(Scenario::Trace, Some(&path), LENGTH, 1.0).unwrap_err().to_string();
        std::fs::remove_file(path).unwrap();
        assert!(error.contains("contains no load; choose another file with --trace"), "{error}");
    }

    #[test]
    fn an_outage_fits_into_a_short_load() {
        assert_eq!(Scenario::BrokerOutage.broker_fault(180.0), BrokerFault::Outage { from: 72.0, to: 80.0 });
        assert_eq!(Scenario::BrokerOutage.broker_fault(20.0), BrokerFault::Outage { from: 8.0, to: 10.0 });
    }
}
