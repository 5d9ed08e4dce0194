//! Renders a group's cells as tables. Cells in which Sluice misses the objective come last, and a peer that misses it
//! shows how late it was instead of a cost: the cost of an objective that is not met means nothing.

use super::cell::{Cell, Contestant, Feasible, median};
use super::plan::Plan;
use super::text::{Markdown, Round, percent, ratio};

/// Returns the cells of a group with one objective, trace by trace.
pub fn group_table(plan: &Plan, cells: &[Cell], group: usize, latency: u32) -> String {
    let of_group = || cells.iter().filter(|cell| cell.group == group && cell.latency == latency);
    let Some(definition) = plan.groups.get(group) else { return String::new() };
    let weighted = of_group().any(|cell| cell.over_weighted.is_some());
    let tuned = !definition.tuned.is_empty();
    let mut headings = vec!["trace"];
    headings.extend(tuned.then_some("feasible"));
    headings.extend(["bound, workers", "Sluice, x bound", "late (worst seed)", "good hours", "rescales"]);
    headings.extend(weighted.then_some("x weighted bound"));
    headings.extend(tuned.then_some(["best tuned peer, x bound, late", "Sluice / peer"]).into_iter().flatten());
    let families = tuned.then_some(["hpa", "keda"]).into_iter().flatten();
    let names: Vec<String> = families.clone().map(|family| format!("{family} tuned")).collect();
    headings.extend(names.iter().map(String::as_str));
    headings.extend(["hpa-70", "keda-1s", "keda-default"].iter().filter(|name| definition.defaults.contains(name)));
    let mut text = String::new();
    for met in [true, false] {
        let mut table = Markdown::new(&headings);
        let rows: Vec<&Cell> = of_group().filter(|cell| cell.sluice.met == met).collect();
        for cell in &rows {
            let mut row = vec![plan.traces[cell.trace].name.clone()];
            row.extend(tuned.then(|| feasible(cell.feasible).to_owned()));
            row.extend(own(plan, cell));
            row.extend(weighted.then(|| cell.over_weighted.map_or_else(none, |over| ratio(over, Round::Up))));
            if tuned {
                row.extend(best(cell));
            }
            row.extend(families.clone().map(|family| of_family(cell, family)));
            let shown = ["hpa-70", "keda-1s", "keda-default"];
            for name in shown.iter().filter(|name| definition.defaults.contains(name)) {
                let peer = cell.defaults.iter().find(|peer| peer.who.name() == **name);
                row.push(peer.map_or_else(none, |peer| price(peer, cell.fluid)));
            }
            table.row(row);
        }
        if rows.is_empty() {
            continue;
        }
        if !met {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str("Sluice misses the objective with one seed or more:\n\n");
        }
        text.push_str(&table.text());
    }
    text
}

/// Returns how many cells of a group each rule meets, and its cost relative to Sluice's where both do.
pub fn peers_table(plan: &Plan, cells: &[Cell], group: usize) -> String {
    let of_group: Vec<&Cell> = cells.iter().filter(|cell| cell.group == group).collect();
    let all = of_group.len();
    let Some(definition) = plan.groups.get(group) else { return String::new() };
    let mut rows: Vec<(usize, f64, Vec<String>)> = Vec::new();
    let mut add = |name: String, of: &dyn Fn(&Cell) -> Option<Contestant>| {
        let found: Vec<(&Cell, Contestant)> = of_group.iter().filter_map(|cell| Some((*cell, of(cell)?))).collect();
        let met: Vec<_> = found.iter().filter(|(_, contestant)| contestant.met).collect();
        let both = met.iter().filter(|(cell, _)| cell.sluice.met);
        let over = median(&both.map(|(cell, rule)| rule.cost / cell.sluice.cost).collect::<Vec<_>>());
        let worst = found.iter().map(|(_, contestant)| contestant.worst_late).fold(0.0, f64::max);
        rows.push((
            met.len(),
            over.unwrap_or(f64::INFINITY),
            vec![
                name,
                format!("{} of {all}", met.len()),
                over.map_or_else(none, |over| ratio(over, Round::Down)),
                if found.len() == all { percent(worst, Round::Down) } else { none() },
            ],
        ));
    };
    add("**Sluice**".to_owned(), &|cell| Some(cell.sluice.clone()));
    for family in &definition.tuned {
        add(format!("{family} tuned"), &|cell| cell.tuned.iter().find(|peer| is_of(peer, family)).cloned());
    }
    for (place, name) in definition.defaults.iter().enumerate() {
        add((*name).to_owned(), &|cell| cell.defaults.get(place).cloned());
    }
    add("fixed, tuned".to_owned(), &|cell| cell.fixed.clone());
    rows.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)));
    let mut table = Markdown::new(&["rule", "cells met", "cost / Sluice's (median where both meet)", "worst late"]);
    for (_, _, row) in rows {
        table.row(row);
    }
    table.text()
}

fn own(plan: &Plan, cell: &Cell) -> [String; 5] {
    let seconds = plan.traces[cell.trace].load.seconds().max(1) as f64;
    let (late, worst) = (percent(cell.sluice.late, Round::Up), percent(cell.sluice.worst_late, Round::Up));
    [
        ratio(cell.fluid / seconds, Round::Down),
        format!("**{}**", ratio(cell.over_fluid(), Round::Up)),
        if late == worst { late } else { format!("{late} ({worst})") },
        percent(cell.sluice.good_hours, Round::Down),
        format!("{}", cell.sluice.rescales.ceil()),
    ]
}

fn best(cell: &Cell) -> [String; 2] {
    let Some(best) = cell.best() else { return [none(), none()] };
    let against = if cell.sluice.met { ratio(cell.sluice.cost / best.cost, Round::Up) } else { none() };
    let cost = ratio(best.cost / cell.fluid, Round::Down);
    [format!("{}: {cost}, {}", best.who.name(), percent(best.worst_late, Round::Down)), against]
}

fn of_family(cell: &Cell, family: &str) -> String {
    let peer = cell.tuned.iter().find(|peer| is_of(peer, family));
    peer.map_or_else(none, |peer| {
        let name = peer.who.name();
        let setting = name.split_once('-').map_or("", |(_, setting)| setting);
        format!("{} ({setting})", price(peer, cell.fluid))
    })
}

/// Returns the cost over the bound; or how late a peer was that misses the objective.
fn price(peer: &Contestant, fluid: f64) -> String {
    if peer.met {
        ratio(peer.cost / fluid, Round::Down)
    } else {
        format!("missed: {}", percent(peer.worst_late, Round::Down))
    }
}

fn is_of(peer: &Contestant, family: &str) -> bool {
    peer.who.name().split('-').next() == Some(family)
}

fn feasible(feasible: Feasible) -> &'static str {
    match feasible {
        Feasible::Yes => "yes",
        Feasible::Fixed => "fixed only",
        Feasible::No => "no",
    }
}

fn none() -> String {
    "-".to_owned()
}
