//! `sluice load`: writes records to a topic at the rates of a trace.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::stop_on_signal;
use super::worker::duration;
use sluice_base::clock::Clock;
use sluice_simulate::trace::{self, Gaps, TraceError};
use sluice_worker::load::profile::{LoadProfile, Step, steps};
use sluice_worker::load::{Progress, Target, replay};

/// Length of a constant rate without --duration, which runs until it is interrupted: a year.
const UNTIL_INTERRUPTED: Duration = Duration::from_hours(365 * 24);

/// Arguments of `sluice load`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("pattern").required(true)))]
pub(super) struct Args {
    /// Bootstrap servers of Kafka: host:port, separated by commas
    #[arg(long, value_name = "HOST:PORT,…")]
    bootstrap_servers: String,
    /// Write to this topic
    #[arg(long)]
    topic: String,
    /// Create the topic with N partitions if it does not exist
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions_created: Option<i32>,
    /// Replay the trace FILE: lines of `seconds,records_per_second`; each rate lasts until the next line's time
    #[arg(long, group = "pattern", value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Send R records per second
    #[arg(long, group = "pattern", value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Send at several rates in turn, such as `100:30s,500:1m`
    #[arg(long, group = "pattern", value_name = "RATE:DURATION,…", value_delimiter = ',', value_parser = step)]
    steps: Vec<Step>,
    /// Replay the pattern FACTOR times faster, at the same rates
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor)]
    compress: f64,
    /// Multiply every rate by FACTOR
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor)]
    scale: f64,
    /// Scale all rates so that the highest becomes R records per second
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "scale")]
    peak: Option<f64>,
    /// Stop after DURATION if the pattern has not ended by then
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// Size of each record's value, bytes
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    record_bytes: u32,
    /// Give each record one of K keys [default: no keys; records go to the partitions in turn]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: Option<u32>,
    /// Zipf exponent of the distribution over keys, or over partitions if there are no keys; 0 is even
    #[arg(long, value_name = "S", default_value = "0", value_parser = skew)]
    skew: f64,
    /// Suppress the per-second progress line
    #[arg(long, short)]
    quiet: bool,
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

fn factor(text: &str) -> Result<f64, String> {
    number(text).filter(|n| *n > 0.0).ok_or_else(|| "expected a number greater than 0".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let bounded = number(text).filter(|n| (0.0..=10_000_000.0).contains(n));
    bounded.ok_or_else(|| "expected 0 to 10000000 records per second".to_owned())
}

fn skew(text: &str) -> Result<f64, String> {
    number(text).filter(|n| (0.0..=10.0).contains(n)).ok_or_else(|| "expected a number from 0 to 10".to_owned())
}

fn step(text: &str) -> Result<Step, String> {
    let (records, time) = text.split_once(':').ok_or("expected RATE:DURATION, such as 500:30s")?;
    let seconds = duration(time)?.as_secs_f64();
    if seconds <= 0.0 {
        return Err("expected a duration greater than zero".to_owned());
    }
    Ok(Step { seconds, rate: rate(records)? })
}

pub(super) fn run(args: &Args) -> super::Outcome {
    let course = args.course()?;
    let target = Target {
        bootstrap_servers: args.bootstrap_servers.clone(),
        topic: args.topic.clone(),
        create_partitions: args.partitions_created,
        record_bytes: usize::try_from(args.record_bytes)?,
        keys: args.keys,
        skew: args.skew,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = stop_on_signal()?;
        let end = replay(&course, &target, Clock::system(), stop, |progress| {
            if !args.quiet {
                eprintln!("{}", line(progress));
            }
        })
        .await?;
        if end.kept_pace() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!(
            "sluice: the load fell behind: {:.0} records were due, {} were acknowledged, {} failed",
            end.due, end.acknowledged, end.failed
        );
        Ok(ExitCode::FAILURE)
    })
}

fn line(progress: &Progress) -> String {
    format!(
        "{:6.1} s   target {:8.1}/s   actual {:8.1}/s   due {:10.0}   acknowledged {:10}   failed {}",
        progress.seconds,
        progress.target_rate,
        progress.actual_rate,
        progress.due,
        progress.acknowledged,
        progress.failed
    )
}

impl Args {
    fn course(&self) -> Result<LoadProfile, TraceError> {
        let steps = match (&self.trace, self.rate) {
            (Some(path), _) => steps(&trace::read(path, Gaps::Allowed)?),
            (None, Some(rate)) => vec![Step { seconds: UNTIL_INTERRUPTED.as_secs_f64() * self.compress, rate }],
            (None, None) => self.steps.clone(),
        };
        let course = LoadProfile::new(&steps).compressed(self.compress);
        let scale = match self.peak {
            Some(peak) if course.peak() > 0.0 => peak / course.peak(),
            _ => self.scale,
        };
        let course = course.scaled(scale);
        Ok(match self.duration {
            Some(duration) => course.cut(duration.as_secs_f64()),
            None => course,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn course(flags: &str) -> Result<LoadProfile, String> {
        let flags =
            ["load", "--bootstrap-servers", "k:9092", "--topic", "t"].into_iter().chain(flags.split_whitespace());
        let line = Line::try_parse_from(flags).map_err(|error| error.to_string())?;
        line.args.course().map_err(|error| error.to_string())
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn load_patterns_are_scaled_and_bounded() {
        let steps = course("--steps 100:30s,500:1m --compress 10 --peak 50 --duration 6s").unwrap();
        assert!(close(steps.seconds(), 6.0) && close(steps.peak(), 50.0) && close(steps.due(6.0), 30.0 + 150.0));
        let rate = course("--rate 200 --duration 5s --compress 7").unwrap();
        assert!(close(rate.seconds(), 5.0) && close(rate.due(5.0), 1000.0));
        assert!(course("--rate 200").unwrap().seconds() > 1e6, "until interrupted");
    }

    #[test]
    fn wrong_load_flags_name_the_expected_value() {
        for (flags, part) in [
            ("", "required"),
            ("--rate 5 --steps 1:1s", "cannot be used with"),
            ("--steps 100", "expected RATE:DURATION"),
            ("--steps 100:0s", "greater than zero"),
            ("--rate -5", "unexpected argument"),
            ("--rate=-5", "0 to 10000000"),
            ("--rate 5 --compress 0", "greater than 0"),
            ("--trace /nonexistent.csv", "failed to read the trace /nonexistent.csv"),
        ] {
            let error = course(flags).unwrap_err();
            assert!(error.contains(part), "{flags}: {error}");
        }
    }
}
