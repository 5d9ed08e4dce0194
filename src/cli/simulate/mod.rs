//! `sluice simulate`: simulates a job under a load with several policies. This file has the arguments and converts them
//! into the inputs of the simulation.

mod run;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::jobfile::{self, JobFileError};
use super::worker::duration;
use sluice_base::words;
use sluice_operator::validate::Job;
use sluice_simulate::shape::{self, Load};
use sluice_simulate::trace::{self, Gaps, Points, TraceError};

pub(super) use run::run;

/// The name of Sluice's own policy.
const OURS: &str = "sluice";

/// Arguments of `sluice simulate`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("pattern").required(true)))]
#[command(after_help = shapes_help())]
pub(super) struct Args {
    /// Use the load in FILE: lines of `seconds,records_per_second`, interpolated linearly
    #[arg(long, group = "pattern", value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Use a load of SHAPES, such as 'ramp(0,5k,10m) | sine(5k,2k,10m,1h)'
    #[arg(long, group = "pattern", value_name = "SHAPES")]
    load: Option<Load>,
    /// Treat gaps longer than ten times the usual interval as steps in the load, not as missing data
    #[arg(long, requires = "trace")]
    allow_gaps: bool,
    /// Simulate the StreamJob in FILE
    #[arg(long, value_name = "FILE")]
    job: PathBuf,
    /// Use the StreamJob NAME if the file contains several
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Compare these policies: names separated by commas, or all
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = OURS, value_parser = policy)]
    policy: Vec<String>,
    /// Choose which partitions a scaling change interrupts
    #[arg(long, default_value = "handoff")]
    mode: Mode,
    /// Run each policy N times with different random noise
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: u32,
    /// Capacity of one worker [default: the job's processing.maxRecordsPerSecond]
    #[arg(long, value_name = "RECORDS_PER_SECOND", value_parser = rate)]
    capacity: Option<f64>,
    /// Time from a worker's creation to its first record
    #[arg(long, default_value = "20s", value_name = "DURATION", value_parser = duration)]
    start_up: Duration,
    /// How long the affected partitions stop on each scaling change
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = duration)]
    handover: Duration,
    /// Simulate a source with N partitions [default: the job's maxReplicas]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: Option<u32>,
    /// Scale the load so that its 99.9th percentile becomes this rate
    #[arg(long, value_name = "RECORDS_PER_SECOND", value_parser = rate)]
    scale_to: Option<f64>,
    /// Replay the load FACTOR times faster, at the same rates
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor)]
    speed: f64,
    /// Stop after DURATION if the load has not ended by then
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// Choose the format of the result
    #[arg(long, short, default_value = "table")]
    output: Output,
    /// Plot load, workers and latency to an SVG file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// The partitions that a change of the replica count interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Only the partitions that move, as in cooperative consumer groups
    Handoff,
    /// All partitions, as in a job that is stopped and restarted
    Restart,
}

/// The format of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Human-readable table
    Table,
    /// JSON array with an object for each policy
    Json,
}

/// The policies to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Policies {
    /// All known policies.
    All,
    /// These policies, each once, in this order.
    Named(Vec<String>),
}

/// The inputs of the simulation.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    /// Description of the load, for headings.
    pub(super) load_name: String,
    /// Times in seconds from 0, and rates in records per second; interpolated linearly.
    pub(super) load: Points,
    /// The job with its objective and bounds.
    pub(super) job: Job,
    pub(super) policies: Policies,
    pub(super) mode: Mode,
    pub(super) seeds: u32,
    /// Capacity of one worker, records per second; greater than 0.
    pub(super) capacity: f64,
    /// Time from a worker's creation to its first record, seconds.
    pub(super) start_up: f64,
    /// Interruption of the affected partitions on each change, seconds.
    pub(super) handover: f64,
    pub(super) partitions: u32,
    pub(super) output: Output,
    pub(super) plot: Option<PathBuf>,
}

/// An error in the inputs; always wrong usage.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    /// The job is invalid.
    #[error(transparent)]
    Job(#[from] JobFileError),
    /// The trace is invalid.
    #[error("{0}{more}", more = gap_help(.0))]
    Trace(#[from] TraceError),
    /// The capacity of a worker is unknown.
    #[error(
        "the capacity of a worker is unknown; pass --capacity RECORDS_PER_SECOND, or set spec.processing.maxRecordsPerSecond in the job {0}"
    )]
    NoCapacity(String),
    /// A load without records cannot be scaled.
    #[error("{0}: the load has no records, so --scale-to cannot be applied")]
    NoPeak(String),
}

fn gap_help(error: &TraceError) -> &'static str {
    match error {
        TraceError::Gap { .. } => "; with --allow-gaps it is treated as a step",
        _ => "",
    }
}

fn shapes_help() -> String {
    let shapes = shape::SHAPES.iter().fold(String::new(), |text, shape| text + "\n  " + shape);
    format!(
        "Shapes of --load:{shapes}\n\nCombine shapes in sequence with | or then, and in parallel with +. Rates are in records per second, such as 200, 5k or 1.5M; times are durations such as 30s, 10m or 1h30m."
    )
}

fn rate(text: &str) -> Result<f64, String> {
    shape::rate(text)
        .ok()
        .filter(|rate| *rate > 0.0)
        .ok_or_else(|| "expected records per second, such as 200, 5k or 1.5M".to_owned())
}

fn factor(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|factor| (1e-3..=1e6).contains(factor));
    number.ok_or_else(|| "expected a number from 0.001 to 1000000".to_owned())
}

fn policy(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("expected all, or names such as sluice,hpa-70".to_owned())
}

impl Args {
    /// Reads the files and returns the inputs of the simulation.
    pub(super) fn inputs(&self) -> Result<Inputs, InputError> {
        let job = jobfile::read(&self.job, self.name.as_deref())?;
        let settings = &job.settings;
        let capacity = self
            .capacity
            .or(settings.max_records_per_second)
            .ok_or_else(|| InputError::NoCapacity(job.key.name.clone()))?;
        let (load_name, load) = self.load()?;
        Ok(Inputs {
            load_name,
            load,
            policies: self.policies(),
            mode: self.mode,
            seeds: self.seeds,
            // The job's limit also applies to a worker with a higher capacity.
            capacity: settings.max_records_per_second.map_or(capacity, |most| capacity.min(most)),
            start_up: self.start_up.as_secs_f64(),
            handover: self.handover.as_secs_f64(),
            partitions: self.partitions.unwrap_or(settings.max_replicas),
            output: self.output,
            plot: self.plot.clone(),
            job,
        })
    }

    fn policies(&self) -> Policies {
        if self.policy.iter().any(|name| name == "all") {
            return Policies::All;
        }
        let mut names: Vec<String> = Vec::new();
        for name in &self.policy {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Policies::Named(names)
    }

    fn load(&self) -> Result<(String, Points), InputError> {
        let (mut name, mut points) = match (&self.trace, &self.load) {
            (Some(path), _) => {
                let gaps = if self.allow_gaps { Gaps::Allowed } else { Gaps::Refused };
                let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
                (name.unwrap_or_default(), trace::read(path, gaps)?)
            }
            (None, load) => {
                let load = load.as_ref();
                (load.map(ToString::to_string).unwrap_or_default(), load.map(Load::points).unwrap_or_default())
            }
        };
        let start = points.first().map_or(0.0, |(start, _)| *start);
        for (time, _) in &mut points {
            *time = (*time - start) / self.speed;
        }
        if (self.speed - 1.0).abs() > f64::EPSILON {
            let _ = write!(name, ", {} times faster", self.speed);
        }
        if let Some(duration) = self.duration {
            trace::cut(&mut points, duration.as_secs_f64());
        }
        if let Some(peak) = self.scale_to {
            if trace::peak(&points) <= 0.0 {
                return Err(InputError::NoPeak(name));
            }
            trace::scale_to(&mut points, peak);
            let _ = write!(name, ", up to {}", words::rate(peak));
        }
        Ok((name, points))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn inputs(flags: &[&str]) -> Result<Inputs, String> {
        let job = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders.yaml");
        let line = Line::try_parse_from(["simulate", "--job", job.to_str().unwrap()].iter().chain(flags))
            .map_err(|error| error.to_string())?;
        line.args.inputs().map_err(|error| error.to_string())
    }

    fn trace_file(name: &str) -> String {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/traces").join(name).to_str().unwrap().to_owned()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn simulate_defaults_are_those_of_the_benchmark() {
        let inputs = inputs(&["--load", "step(1k,2k,5m,10m)", "--capacity", "1k"]).unwrap();
        assert_eq!((inputs.policies, inputs.mode), (Policies::Named(vec!["sluice".into()]), Mode::Handoff));
        assert_eq!((inputs.seeds, inputs.partitions, inputs.output), (5, 20, Output::Table));
        assert!(close(inputs.capacity, 1000.0) && close(inputs.start_up, 20.0) && close(inputs.handover, 5.0));
        assert_eq!(inputs.load_name, "step(1000,2000,5m,10m)");
        assert_eq!((inputs.job.key.name.as_str(), inputs.plot), ("orders", None));
        assert_eq!(inputs.load, [(0.0, 1000.0), (299.999, 1000.0), (300.0, 2000.0), (600.0, 2000.0)]);
    }

    #[test]
    fn a_load_is_accelerated_cut_and_scaled() {
        let trace = trace_file("real_weekly_nyc_taxi_28d.csv");
        let flags = ["--trace", &trace, "--capacity", "1k", "--speed", "168", "--duration", "1h", "--scale-to", "16k"];
        let inputs = inputs(&flags).unwrap();
        assert_eq!(inputs.load_name, "real_weekly_nyc_taxi_28d, 168 times faster, up to 16k/s");
        assert!(close(inputs.load.first().unwrap().0, 0.0) && close(inputs.load.last().unwrap().0, 3600.0));
        assert!((300..400).contains(&inputs.load.len()), "a week in an hour: {}", inputs.load.len());
        assert!(close(trace::peak(&inputs.load), 16_000.0));
    }

    #[test]
    fn duplicate_policies_are_removed() {
        let policies = |names: &str| {
            inputs(&["--load", "constant(1,1m)", "--capacity", "1", "--policy", names]).map(|inputs| inputs.policies)
        };
        assert_eq!(policies("sluice,hpa-70,sluice").unwrap(), Policies::Named(vec!["sluice".into(), "hpa-70".into()]));
        assert_eq!(policies("hpa-70,all").unwrap(), Policies::All);
        assert!(policies("a b").unwrap_err().contains("expected all, or names"));
    }

    #[test]
    fn wrong_simulate_flags_name_the_expected_value() {
        let folder = tempfile("gap.csv", "0,1\n1,1\n2,1\n60,1\n");
        let gap = folder.to_str().unwrap();
        for (flags, part) in [
            (vec![], "required"),
            (vec!["--load", "constant(1,1m)", "--trace", "x"], "cannot be used with"),
            (
                vec!["--load", "constant(1,1m)"],
                "pass --capacity RECORDS_PER_SECOND, or set spec.processing.maxRecordsPerSecond in the job orders",
            ),
            (vec!["--load", "wave(1)", "--capacity", "1"], "  wave(1)\n  ^\nshapes: constant(RATE,FOR)"),
            (vec!["--load", "constant(0,1m)", "--capacity", "1", "--scale-to", "5k"], "the load has no records"),
            (vec!["--load", "constant(1,1m)", "--capacity", "0"], "expected records per second"),
            (vec!["--load", "constant(1,1m)", "--speed", "0"], "expected a number from 0.001"),
            (vec!["--load", "constant(1,1m)", "--mode", "pause"], "[possible values: handoff, restart]"),
            (vec!["--load", "constant(1,1m)", "--start-up", "20"], "expected a duration"),
            (vec!["--trace", "/nonexistent.csv", "--capacity", "1"], "failed to read the trace /nonexistent.csv"),
            (vec!["--trace", gap, "--capacity", "1"], "with --allow-gaps it is treated as a step"),
        ] {
            let error = inputs(&flags).unwrap_err();
            assert!(error.contains(part), "{flags:?}: {error}");
        }
        assert!(inputs(&["--trace", gap, "--capacity", "1", "--allow-gaps"]).is_ok());
    }

    fn tempfile(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sluice-test-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }
}
