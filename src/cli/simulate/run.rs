//! Runs each policy under the load and prints the results.

use std::process::ExitCode;

use serde::Serialize;

use super::{Args, Inputs, Mode, Output, Policies};
use crate::cli::Outcome;
use sluice_base::words;
use sluice_report::compare::{Comparison, Policy, svg_of};
use sluice_report::run::{Change, Point, Target};
use sluice_report::table::{Align, Overflow, Table};
use sluice_simulate::peers::{self, Limits, Parameters};
use sluice_simulate::{Handover, Load, Rule, Run, Scenario, Sluice, run as simulate};

/// Number of points of each line of the plot.
const PLOT_POINTS: usize = 960;
/// Maximum number of decisions marked in the plot; with more, none are marked.
const MAX_PLOT_MARKS: usize = 100;

/// The result of one policy over all seeds: medians, except where a field is the worst of all seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyResult {
    policy: String,
    /// Whether the objective was met with every seed.
    target_met: bool,
    /// Share of late records, 0 to 1.
    late: f64,
    /// Share of late records with the worst seed, 0 to 1.
    worst_late: f64,
    /// Latency at the 99th percentile, seconds.
    p99_seconds: f64,
    /// Longest latency with any seed, seconds.
    longest_seconds: f64,
    mean_workers: f64,
    worker_seconds: f64,
    /// Worker-seconds divided by those that the records themselves need.
    times_the_work: f64,
    /// Number of changes of the replica count.
    changes: f64,
}

/// Runs the command. The exit code is 1 if the first policy misses the objective with any seed.
pub(in crate::cli) fn run(args: &Args) -> Outcome {
    let inputs = match args.inputs() {
        Ok(inputs) => inputs,
        Err(error) => {
            eprintln!("sluice simulate: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let load = Load::from_points(&inputs.load);
    let scenario = scenario(&inputs);
    let policies = match policy_names(&inputs, &load) {
        Ok(names) => names,
        Err(error) => {
            eprintln!("sluice simulate: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let jobs: Vec<(usize, u64)> =
        (0..policies.len()).flat_map(|policy| (1..=u64::from(inputs.seeds)).map(move |seed| (policy, seed))).collect();
    let runs = run_in_parallel(&jobs, |(policy, seed)| {
        let scenario = Scenario { seed, ..scenario.clone() };
        let mut rule = policy_rule(&inputs, &load, policies.get(policy).map_or("", |name| name))?;
        Some(simulate(&load, &scenario, rule.as_mut()))
    });
    let runs_of = |index: usize| -> Vec<&Run> {
        jobs.iter().zip(&runs).filter(|(job, _)| job.0 == index).filter_map(|(_, run)| run.as_ref()).collect()
    };
    let results: Vec<PolicyResult> =
        policies.iter().enumerate().map(|(i, name)| summarize(name, &runs_of(i), &inputs)).collect();
    match inputs.output {
        Output::Table => print!("{}", table(&inputs, &load, &results)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&results)?),
    }
    if let Some(path) = &inputs.plot {
        let firsts = policies
            .iter()
            .zip(&results)
            .enumerate()
            .filter_map(|(i, (name, result))| runs_of(i).first().map(|run| plotted_policy(name, result, run)));
        let comparison = Comparison {
            title: inputs.load_name.clone(),
            target: target(&inputs),
            load: inputs.load.clone(),
            policies: firsts.collect(),
        };
        let svg = svg_of(&comparison, "age of the oldest record that waits")?;
        std::fs::write(path, svg).map_err(|error| format!("failed to write {}: {error}", path.display()))?;
    }
    Ok(if results.first().is_some_and(|first| first.target_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn scenario(inputs: &Inputs) -> Scenario {
    let settings = &inputs.job.settings;
    Scenario {
        latency: settings.latency.0,
        percentile: settings.percentile,
        partitions: usize::try_from(inputs.partitions).unwrap_or(usize::MAX),
        capacity: inputs.capacity,
        min_workers: settings.min_replicas,
        max_workers: settings.max_replicas,
        start_up: inputs.start_up,
        handover: match inputs.mode {
            Mode::Handoff => Handover::Handoff(inputs.handover),
            Mode::Restart => Handover::Restart(inputs.handover),
        },
        ..Scenario::default()
    }
}

fn parameters(inputs: &Inputs, load: &Load) -> Parameters {
    let settings = &inputs.job.settings;
    let limits = Limits { min: settings.min_replicas, max: settings.max_replicas, partitions: inputs.partitions };
    let seconds = u32::try_from(load.seconds()).unwrap_or(u32::MAX).max(1);
    Parameters { limits, capacity: inputs.capacity, mean_rate: load.records() / f64::from(seconds) }
}

fn policy_names(inputs: &Inputs, load: &Load) -> Result<Vec<String>, peers::UnknownPeer> {
    let parameters = parameters(inputs, load);
    match &inputs.policies {
        Policies::All => {
            let peers = peers::all(&parameters).into_iter().map(|rule| rule.name());
            Ok(std::iter::once(super::OURS.to_owned()).chain(peers).collect())
        }
        Policies::Named(names) => {
            for name in names.iter().filter(|name| *name != super::OURS) {
                peers::named(name, &parameters)?;
            }
            Ok(names.clone())
        }
    }
}

fn policy_rule(inputs: &Inputs, load: &Load, name: &str) -> Option<Box<dyn Rule>> {
    if name == super::OURS {
        return Some(Box::new(Sluice::new(inputs.job.settings.clone())));
    }
    peers::named(name, &parameters(inputs, load)).ok()
}

/// Runs the jobs on one thread per core. The results are in the order of the jobs.
fn run_in_parallel<T: Copy + Sync, R: Send>(jobs: &[T], work: impl Fn(T) -> Option<R> + Sync) -> Vec<Option<R>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(jobs.len().max(1));
    let mut answers: Vec<Option<R>> = jobs.iter().map(|_| None).collect();
    let share = jobs.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (jobs, answers) in jobs.chunks(share).zip(answers.chunks_mut(share)) {
            let work = &work;
            scope.spawn(move || {
                for (job, answer) in jobs.iter().zip(answers) {
                    *answer = work(*job);
                }
            });
        }
    });
    answers
}

fn summarize(name: &str, runs: &[&Run], inputs: &Inputs) -> PolicyResult {
    let median = |value: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(|run| value(run)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let maximum = |value: fn(&Run) -> f64| runs.iter().map(|run| value(run)).fold(0.0, f64::max);
    let worst_late = maximum(|run| run.scores.late);
    let records = median(|run| run.scores.records);
    let worker_seconds = median(|run| run.scores.worker_seconds);
    PolicyResult {
        policy: name.to_owned(),
        target_met: !runs.is_empty() && worst_late <= 1.0 - inputs.job.settings.percentile + 1e-12,
        late: median(|run| run.scores.late),
        worst_late,
        p99_seconds: median(|run| run.scores.p99),
        longest_seconds: maximum(|run| run.scores.max),
        mean_workers: median(|run| run.scores.mean_workers),
        worker_seconds,
        times_the_work: worker_seconds / (records / inputs.capacity),
        changes: median(|run| f64::from(u32::try_from(run.changes.len()).unwrap_or(u32::MAX))),
    }
}

fn target(inputs: &Inputs) -> Target {
    Target { latency_seconds: inputs.job.settings.latency.0, share: inputs.job.settings.percentile }
}

fn table(inputs: &Inputs, load: &Load, results: &[PolicyResult]) -> String {
    let settings = &inputs.job.settings;
    let seconds = f64::from(u32::try_from(load.seconds()).unwrap_or(u32::MAX));
    let mut text = format!(
        "{}: {} of {}; objective: {} within {}; each worker processes {} and starts in {}\n\n",
        inputs.job.key.name,
        words::seconds(seconds),
        inputs.load_name,
        words::percent(settings.percentile),
        words::seconds(settings.latency.0),
        words::rate(inputs.capacity),
        words::seconds(inputs.start_up),
    );
    let columns = [
        ("POLICY", Align::Left),
        ("TARGET", Align::Left),
        ("LATE", Align::Right),
        ("WORST", Align::Right),
        ("P99", Align::Right),
        ("LONGEST", Align::Right),
        ("WORKERS", Align::Right),
        ("X WORK", Align::Right),
        ("CHANGES", Align::Right),
    ];
    let mut table = Table::new(columns, Overflow::Cut);
    // Policies that met the objective come first; within both groups the cheapest comes first.
    let mut order: Vec<&PolicyResult> = results.iter().collect();
    order.sort_by(|a, b| b.target_met.cmp(&a.target_met).then(a.worker_seconds.total_cmp(&b.worker_seconds)));
    for result in order {
        table.row([
            result.policy.clone(),
            if result.target_met { "met" } else { "missed" }.to_owned(),
            format!("{:.3} %", 100.0 * result.late),
            format!("{:.3} %", 100.0 * result.worst_late),
            words::seconds(result.p99_seconds),
            words::seconds(result.longest_seconds),
            format!("{:.1}", result.mean_workers),
            format!("{:.2}", result.times_the_work),
            format!("{:.0}", result.changes),
        ]);
    }
    text.push_str(&table.text(None));
    text
}

/// Returns a policy's part of the plot.
fn plotted_policy(name: &str, result: &PolicyResult, run: &Run) -> Policy {
    let seconds: Vec<(f64, &sluice_simulate::Point)> = (0_u32..).map(f64::from).zip(&run.points).collect();
    let span = seconds.len().div_ceil(PLOT_POINTS).max(1);
    // Each point is the maximum of its interval, so that no peak is lost.
    let point = |some: &[(f64, &sluice_simulate::Point)]| Point {
        at: some.first().map_or(0.0, |first| first.0),
        latency: some.iter().map(|(_, point)| f64::from(point.age)).reduce(f64::max),
        replicas: some.iter().map(|(_, point)| u32::from(point.billed)).max(),
        ..Point::default()
    };
    let change = |change: &sluice_simulate::Change| Change {
        at: change.at,
        from: change.from,
        to: change.to,
        reason: String::new(),
        bound_by: String::new(),
        message: String::new(),
    };
    Policy {
        name: name.to_owned(),
        summary: format!("{:.3} % late, {:.1} workers on average", 100.0 * result.late, result.mean_workers),
        points: seconds.chunks(span).map(point).collect(),
        changes: if run.changes.len() > MAX_PLOT_MARKS { Vec::new() } else { run.changes.iter().map(change).collect() },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn inputs(flags: &[&str]) -> Inputs {
        let job = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders.yaml");
        let line = ["simulate", "--job", job.to_str().unwrap(), "--load", "constant(1500,5m)", "--capacity", "1k"];
        Line::try_parse_from(line.iter().chain(flags)).unwrap().args.inputs().unwrap()
    }

    #[test]
    fn all_policies_are_listed_and_an_unknown_one_is_an_error() {
        let all = inputs(&["--policy", "all"]);
        let load = Load::from_points(&all.load);
        let names = policy_names(&all, &load).unwrap();
        assert_eq!(names.first().map(String::as_str), Some("sluice"));
        assert!(names.len() > 10 && names.iter().any(|name| name == "hpa-70"), "{names:?}");
        let unknown = inputs(&["--policy", "hpc-70"]);
        assert!(policy_names(&unknown, &load).unwrap_err().to_string().contains("hpa"));
    }

    #[test]
    fn policies_that_miss_the_target_come_last() {
        let inputs = inputs(&[]);
        let result = |policy: &str, target_met, worker_seconds| PolicyResult {
            policy: policy.to_owned(),
            target_met,
            late: 0.0,
            worst_late: 0.0,
            p99_seconds: 1.0,
            longest_seconds: 2.0,
            mean_workers: 3.0,
            worker_seconds,
            times_the_work: 1.5,
            changes: 0.0,
        };
        let results = [result("cheap", false, 1.0), result("expensive", true, 9.0), result("fair", true, 5.0)];
        let text = table(&inputs, &Load::from_points(&inputs.load), &results);
        let at = |name: &str| text.find(name).unwrap();
        assert!(at("fair") < at("expensive") && at("expensive") < at("cheap"), "{text}");
    }
}
