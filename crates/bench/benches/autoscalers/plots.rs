//! Draws a plot of each trace: Sluice and the cheapest tuned peer that meets the objective.

use std::fs;
use std::path::Path;

use sluice_bench::{Cell, Contestant, Key, Plan, side_by_side, watch};
use sluice_report::compare::{Comparison, Policy, svg_of};
use sluice_report::run::{Change, Point, Target};
use sluice_simulate::Run;

/// Objective of the plots, seconds.
const LATENCY: u32 = 10;

/// Points of each line: more would make a plot larger than 60 kB.
const POINTS: usize = 480;

/// Writes `TRACE.svg` for each trace of the group with handover by partition.
pub(crate) fn write(directory: &Path, plan: &Plan, cells: &[Cell], threads: usize) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("failed to draw into {}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    let shown = cells.iter().filter(|cell| plan.groups[cell.group].id == "handoff" && cell.latency == LATENCY);
    let shown: Vec<&Cell> = shown.collect();
    for picture in side_by_side(&shown, threads, |cell| picture(plan, cell)) {
        let Some((name, comparison)) = picture else { continue };
        let svg = svg_of(&comparison, "age of the oldest waiting record").map_err(|error| failed(&error))?;
        fs::write(directory.join(format!("{name}.svg")), svg).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Compares with the first peer with default settings where no tuned peer meets the objective.
fn picture(plan: &Plan, cell: &Cell) -> Option<(String, Comparison)> {
    let trace = &plan.traces[cell.trace];
    let seed = plan.seeds.first().copied()?;
    let shown = [Some(&cell.sluice), cell.best().or_else(|| cell.defaults.first())];
    let watched = |contestant: &Contestant| {
        let key = Key { group: cell.group, trace: cell.trace, who: contestant.who.clone(), seed };
        Some(policy(cell, contestant, &watch(plan, &key, cell.latency)?))
    };
    let load: Vec<(f64, f32)> = (0_u32..).map(f64::from).zip(trace.load.rates().iter().copied()).collect();
    let highest = |some: &[(f64, f32)]| some.iter().map(|(_, rate)| *rate).fold(0.0, f32::max);
    let comparison = Comparison {
        title: trace.name.clone(),
        target: Target { latency_seconds: f64::from(cell.latency), share: 0.99 },
        load: load.chunks(span(load.len())).map(|some| (some[0].0, f64::from(highest(some)))).collect(),
        policies: shown.into_iter().flatten().filter_map(watched).collect(),
    };
    Some((trace.name.clone(), comparison))
}

fn policy(cell: &Cell, contestant: &Contestant, run: &Run) -> Policy {
    let scores = &run.scores;
    let seconds: Vec<(f64, &sluice_simulate::Point)> = (0_u32..).map(f64::from).zip(&run.points).collect();
    // The highest point of each span of time, so that no peak is lost.
    let point = |some: &[(f64, &sluice_simulate::Point)]| Point {
        at: some[0].0,
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
        name: contestant.who.name(),
        summary: format!(
            "{:.3} % of the records late at {:.2} times the lower bound, {} changes",
            scores.late * 100.0,
            scores.worker_seconds / cell.fluid,
            scores.rescales
        ),
        points: seconds.chunks(span(seconds.len())).map(point).collect(),
        // Hundreds of them would only blacken the plot.
        changes: if run.changes.len() > 100 { Vec::new() } else { run.changes.iter().map(change).collect() },
    }
}

/// Returns the seconds for each point.
fn span(seconds: usize) -> usize {
    seconds.div_ceil(POINTS).max(1)
}
