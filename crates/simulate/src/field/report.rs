//! Summarises the results of a set of worlds in lines for a person.

use std::fmt::Write as _;

use super::beside::Row;
use super::world::{Commits, History, Owners, World};

/// Time at the most workers without need from which on it is reported, seconds.
const LONG: f64 = 600.0;

/// Returns all figures of the rows; Sluice is compared where a peer or a fixed number meets the objective.
pub fn report(rows: &[Row]) -> String {
    let mut text = String::new();
    let able: Vec<&Row> = rows.iter().filter(|row| row.best().is_some()).collect();
    let met: Vec<&&Row> = able.iter().filter(|row| row.sluice.meets(&row.world)).collect();
    let everywhere = rows.iter().filter(|row| row.sluice.meets(&row.world)).count();
    let share = 100.0 * met.len() as f64 / able.len().max(1) as f64;
    let _ = writeln!(
        text,
        "worlds {}; met by a peer {}; of these met by sluice {} ({share:.1} %); met by sluice in all {everywhere}",
        rows.len(),
        able.len(),
        met.len()
    );
    let scaled = |row: &&&Row| ["hpa", "keda"].iter().any(|family| row.best_of(Some(family)).is_some());
    let by_autoscaler: Vec<&&Row> = able.iter().filter(scaled).collect();
    let met_too = by_autoscaler.iter().filter(|row| row.sluice.meets(&row.world)).count();
    let _ = writeln!(
        text,
        "met by a tuned autoscaler {}; of these met by sluice {met_too} ({:.1} %)",
        by_autoscaler.len(),
        100.0 * met_too as f64 / by_autoscaler.len().max(1) as f64
    );
    let ratios = |rows: &mut dyn Iterator<Item = &Row>| rows.filter_map(Row::cost_ratio).collect::<Vec<_>>();
    let (of_met, of_all) = (ratios(&mut met.iter().map(|row| **row)), ratios(&mut able.iter().copied()));
    let _ = writeln!(
        text,
        "cost, sluice / cheapest peer that meets it: median {:.2}, 90th percentile {:.2} where sluice meets it; {:.2}, {:.2} in all",
        quantile(&of_met, 0.5),
        quantile(&of_met, 0.9),
        quantile(&of_all, 0.5),
        quantile(&of_all, 0.9)
    );
    let least = |row: &Row| row.sluice.least.max(1.0);
    let own: Vec<f64> = met.iter().map(|row| row.sluice.worker_seconds / least(row)).collect();
    let _ = write!(text, "cost / least, median where met: sluice {:.2} ({} met)", quantile(&own, 0.5), met.len());
    for family in ["hpa", "keda", "fixed"] {
        let costs: Vec<f64> = able
            .iter()
            .filter_map(|row| Some(row.best_of(Some(family))?.figures.worker_seconds / least(row)))
            .collect();
        let _ = write!(text, ", best {family} {:.2} ({} met)", quantile(&costs, 0.5), costs.len());
    }
    let changes: Vec<f64> = rows.iter().map(|row| row.sluice.changes_per_hour).collect();
    let reversals: usize = rows.iter().map(|row| row.sluice.reversals).sum();
    let _ = writeln!(
        text,
        "\nchanges per hour: median {:.1}, 90th percentile {:.1}; reversals {reversals}",
        quantile(&changes, 0.5),
        quantile(&changes, 0.9)
    );
    let dear: Vec<&&Row> = able.iter().filter(|row| row.cost_ratio().is_some_and(|ratio| ratio > 2.0)).collect();
    let _ = writeln!(
        text,
        "more than twice the cost of the cheapest peer: {} {}",
        dear.len(),
        seeds(dear.iter().map(|row| **row))
    );
    let stuck: Vec<&Row> = rows.iter().filter(|row| row.sluice.at_most_needlessly > LONG).collect();
    let _ = writeln!(
        text,
        "at the most workers without need for more than 10 min: {} {}",
        stuck.len(),
        seeds(stuck.iter().copied())
    );
    let missed: Vec<&Row> = able.iter().copied().filter(|row| !row.sluice.meets(&row.world)).collect();
    let _ = writeln!(text, "missed where a peer meets it: {} {}", missed.len(), seeds(missed.iter().copied()));
    let _ = writeln!(text, "by what workers report (met of able, median cost ratio):");
    for (name, of) in [("commits", 0), ("counters", 1), ("busy", 2), ("everything", 3)] {
        let some: Vec<&Row> = able.iter().copied().filter(|row| level(&row.world) == of).collect();
        let met = some.iter().filter(|row| row.sluice.meets(&row.world)).count();
        let ratio = quantile(&ratios(&mut some.iter().copied()), 0.5);
        let _ = write!(text, "  {name} {met}/{} {ratio:.2};", some.len());
    }
    let _ = writeln!(text, "\nworst:");
    let mut worst: Vec<&Row> = able.clone();
    worst.sort_by(|a, b| b.badness().total_cmp(&a.badness()));
    for row in worst.iter().take(10).filter(|row| row.badness() > 0.0) {
        let _ = writeln!(text, "{}", line(row));
    }
    text
}

/// Describes one world in two lines: what went wrong, and its main conditions.
pub fn line(row: &Row) -> String {
    let Row { world, sluice, .. } = row;
    let best = row.best().map_or_else(
        || "no peer meets it".to_owned(),
        |best| {
            format!(
                "{} {:.2} of least, {:.2} % late",
                best.name,
                ratio(best.figures.worker_seconds, sluice.least),
                100.0 * best.figures.late
            )
        },
    );
    format!(
        "seed {}: {} {:.2} % late (allowed {:.2}), p99 {:.1} s, cost {:.2} of least = {:.2} of best ({best}), peak {} of {}, {:.0} min at most without need, {:.1} changes/h\n    {}",
        world.seed,
        if sluice.meets(world) { "met," } else { "MISSED," },
        100.0 * sluice.late,
        100.0 * (1.0 - world.percentile),
        sluice.p99,
        ratio(sluice.worker_seconds, sluice.least),
        row.cost_ratio().unwrap_or(f64::NAN),
        sluice.peak,
        world.max_workers,
        sluice.at_most_needlessly / 60.0,
        sluice.changes_per_hour,
        conditions(world)
    )
}

/// Describes the main conditions of a world in one line.
pub fn conditions(world: &World) -> String {
    let mut text = format!(
        "{}; {:.1} h; {} within {} s; {} partitions; record {}{} x{} lanes",
        world.name,
        world.seconds() / 3600.0,
        world.percentile,
        world.latency,
        world.partitions,
        time(world.record_cost),
        if world.cost_sigma > 0.0 { format!(" (sigma {})", world.cost_sigma) } else { String::new() },
        world.lanes
    );
    let commits = match world.commits {
        Commits::Every { seconds, phase } => format!("every {} {phase:?}", time(seconds)),
        Commits::Batch => "each batch".to_owned(),
        Commits::Checkpoint { seconds, takes } => format!("checkpoints {} taking {}", time(seconds), time(takes)),
        Commits::Never => "never".to_owned(),
    };
    let _ = write!(
        text,
        "; commits {commits}{}; {} {:?} {}; start {} (ready {} before); workers report {}",
        if world.commits_on_revoke { "" } else { " not on revoke" },
        world.assignor.as_str(),
        world.handover,
        time(world.handover_seconds),
        time(world.start_up),
        time(world.ready_before_joining),
        ["nothing", "counters", "busy", "everything"][level(world)]
    );
    let mut add = |is: bool, what: String| {
        if is {
            text.push_str("; ");
            text.push_str(&what);
        }
    };
    add(world.weight_sigma > 0.0, format!("skew {:.2}", world.weight_sigma));
    add(world.hot_share.is_some(), format!("hot {:.2}", world.hot_share.unwrap_or(0.0)));
    add(world.signals.owners != Owners::Known, format!("owners {:?}", world.signals.owners));
    add(!world.signals.due_end, "no due ends".to_owned());
    add(world.history != History::Established, format!("{:?}", world.history));
    add(
        world.records_per_transaction.is_some(),
        format!("transactions of {}", world.records_per_transaction.unwrap_or(0.0)),
    );
    add(world.slow_one.is_some(), format!("one at {:.2}", world.slow_one.unwrap_or(1.0)));
    add(world.speed_spread > 0.05, format!("speeds {:.2}", world.speed_spread));
    add(world.cold < 1.0, format!("cold {:.2}", world.cold));
    add(world.batch_gain > 0.0, format!("batch gain {:.2}", world.batch_gain));
    if let Some(pauses) = world.pauses {
        let whose = if pauses.together { "all" } else { "each" };
        add(true, format!("{whose} pauses {} every {}", time(pauses.seconds), time(pauses.every)));
    }
    if let Some(deploy) = world.deploy {
        add(true, format!("deploy x{:.2} at {}", deploy.speed, time(deploy.at)));
    }
    if let Some(tide) = world.tide {
        add(true, format!("tide {:.2} of {}", tide.amplitude, time(tide.period)));
    }
    if let Some(bottleneck) = world.bottleneck {
        add(
            true,
            format!(
                "bottleneck {:.0}/s -{:.3} a worker from {}",
                bottleneck.rate,
                bottleneck.loss_per_worker,
                time(bottleneck.from)
            ),
        );
    }
    if let Some(deaths) = world.deaths {
        add(true, format!("deaths every {}, noticed after {}", time(deaths.every), time(deaths.notice)));
    }
    if let Some(at) = world.restart_at {
        add(true, format!("operator restarts at {}", time(at)));
    }
    add(true, format!("{} to {} workers, first {}", world.min_workers, world.max_workers, world.start_workers));
    text
}

/// Returns how much the workers report.
fn level(world: &World) -> usize {
    match world.signals {
        signals if signals.positions => 3,
        signals if signals.busy => 2,
        signals if signals.processed => 1,
        _ => 0,
    }
}

fn ratio(cost: f64, least: f64) -> f64 {
    cost / least.max(1.0)
}

fn time(seconds: f64) -> String {
    match seconds {
        ..0.001 => format!("{:.0}us", seconds * 1e6),
        ..1.0 => format!("{:.0}ms", seconds * 1e3),
        ..100.0 => format!("{seconds:.1}s"),
        _ => format!("{:.0}m", seconds / 60.0),
    }
}

fn seeds<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let seeds: Vec<String> = rows.map(|row| row.world.seed.to_string()).collect();
    if seeds.is_empty() { String::new() } else { format!("(seeds {})", seeds.join(" ")) }
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len().saturating_sub(1) as f64 * q).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
