//! What happens in a demo: the load, and what goes wrong in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::Failure;
use sluice_base::words;
use sluice_simulate::trace::{self, Gaps};
use sluice_worker::load::profile::{LoadProfile, Step, steps};

/// The trace that is replayed unless another is given. Its origin and licence: examples/traces/README.md.
const TRACE: &str = include_str!("../../../examples/traces/diurnal-ads-18h.csv");

/// How long the broker is away, at most; a short demo has a short outage.
const OUTAGE: Duration = Duration::from_secs(8);
/// How long a worker takes to start where that is the point.
const SLOW_START: Duration = Duration::from_secs(15);
/// Zipf exponent over the partitions: of 24 the busiest gets one record in nine.
const SKEW: f64 = 0.5;

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// A day of advertisements
    Trace,
    /// The load jumps to five times what it was, and back
    Step,
    /// The same day, but some partitions get far more than others
    Skew,
    /// The same day, and a batch of records that cannot be decoded
    Poison,
    /// The same day, and the broker is away for some seconds
    BrokerOutage,
    /// The same day, and each worker takes 15 s to start
    SlowStart,
}

/// What is done to the broker, and when, in seconds since the load began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mischief {
    /// Nothing, or nothing more.
    None,
    /// It goes away for a time.
    Outage { from: f64, to: f64 },
    /// It is away.
    #[cfg_attr(not(feature = "development"), allow(dead_code, reason = "nobody else has a broker of his own"))]
    Away { until: f64 },
    /// It gets a batch that cannot be decoded.
    Poison { from: f64 },
}

impl Scenario {
    /// Skew of the load over the partitions (see `Spread`).
    pub(super) fn skew(self) -> f64 {
        if self == Self::Skew { SKEW } else { 0.0 }
    }

    /// What a worker waits before it starts to work.
    pub(super) fn slow_start(self) -> Option<Duration> {
        (self == Self::SlowStart).then_some(SLOW_START)
    }

    /// What is done to the broker in a load of this length.
    pub(super) fn mischief(self, length: f64) -> Mischief {
        let from = length * 0.4;
        match self {
            Self::BrokerOutage => Mischief::Outage { from, to: from + OUTAGE.as_secs_f64().min(length * 0.1) },
            Self::Poison => Mischief::Poison { from },
            Self::Trace | Self::Step | Self::Skew | Self::SlowStart => Mischief::None,
        }
    }

    /// As it is called on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn words(self) -> &'static str {
        match self {
            Self::Trace | Self::Step => "",
            Self::Skew => ", unevenly spread over the partitions",
            Self::Poison => ", with a batch that cannot be decoded",
            Self::BrokerOutage => ", with the broker away for some seconds",
            Self::SlowStart => ", with workers that take 15 s to start",
        }
    }
}

/// The load of a demo.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) course: LoadProfile,
    /// What it is, for a person.
    pub(super) words: String,
}

impl Load {
    /// The scenario's load, squeezed into `length` and scaled so that the highest rate is `peak` records per second.
    /// `trace` takes the place of the bundled one.
    pub(super) fn new(
        scenario: Scenario,
        trace: Option<&PathBuf>,
        length: Duration,
        peak: f64,
    ) -> Result<Self, Failure> {
        let (name, steps) = match (trace, scenario) {
            (Some(path), _) => named(path)?,
            (None, Scenario::Step) => ("a step up and down".to_owned(), up_and_down().to_vec()),
            (None, _) => {
                let points = trace::parse("the bundled trace", TRACE, Gaps::Allowed)?;
                ("a day of advertisements".to_owned(), steps(&points))
            }
        };
        let course = LoadProfile::new(&steps);
        let (seconds, highest) = (course.seconds(), course.peak());
        if seconds <= 0.0 || highest <= 0.0 {
            return Err(format!("{name} has no load in it; give another file with --trace").into());
        }
        let words = format!(
            "{name}, {} in {}, up to {}{}",
            words::seconds(seconds.round()),
            words::seconds(length.as_secs_f64().round()),
            words::rate(peak),
            scenario.words(),
        );
        Ok(Self { course: course.compressed(seconds / length.as_secs_f64()).scaled(peak / highest), words })
    }
}

fn named(path: &Path) -> Result<(String, Vec<Step>), Failure> {
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, steps(&trace::read(path, Gaps::Allowed)?)))
}

/// Three minutes, most of them at either height.
fn up_and_down() -> [Step; 3] {
    [Step { seconds: 50.0, rate: 0.2 }, Step { seconds: 80.0, rate: 1.0 }, Step { seconds: 50.0, rate: 0.2 }]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(90);

    #[test]
    fn every_load_has_the_length_and_the_peak_that_were_asked_for() {
        for scenario in Scenario::value_variants() {
            let load = Load::new(*scenario, None, LENGTH, 1200.0).unwrap();
            assert!((load.course.seconds() - 90.0).abs() < 1e-6, "{scenario:?}: {}", load.course.seconds());
            assert!((load.course.peak() - 1200.0).abs() < 1e-6, "{scenario:?}: {}", load.course.peak());
        }
        let load = Load::new(Scenario::Skew, None, LENGTH, 1200.0).unwrap();
        assert_eq!(
            load.words,
            "a day of advertisements, 18h in 1m30s, up to 1.2k/s, unevenly spread over the partitions"
        );
    }

    #[test]
    fn a_load_without_records_is_refused() {
        let path = std::env::temp_dir().join(format!("sluice-test-empty-{}.csv", std::process::id()));
        std::fs::write(&path, "0,0\n60,0\n").unwrap();
        let error = Load::new(Scenario::Trace, Some(&path), LENGTH, 1.0).unwrap_err().to_string();
        std::fs::remove_file(path).unwrap();
        assert!(error.contains("has no load in it; give another file with --trace"), "{error}");
    }

    #[test]
    fn an_outage_is_over_in_time() {
        assert_eq!(Scenario::BrokerOutage.mischief(180.0), Mischief::Outage { from: 72.0, to: 80.0 });
        assert_eq!(Scenario::BrokerOutage.mischief(20.0), Mischief::Outage { from: 8.0, to: 10.0 });
    }
}
