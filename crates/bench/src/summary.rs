//! The whole report: goals, then groups.

use std::fmt::Write as _;

use super::cell::Cell;
use super::faults::{self, FAULTS};
use super::goals::Goal;
use super::plan::Plan;
use super::results::Results;
use super::tables::{group_table, peers_table};
use super::text::Markdown;

/// Most cells that are named for a missed goal.
const MOST: usize = 12;

/// Renders goals and tables as Markdown, the missed goals first.
pub fn summary(plan: &Plan, results: &Results, cells: &[Cell], goals: &[Goal]) -> String {
    let mut text = String::new();
    text.push_str("### Goals\n\n");
    let mut table = Markdown::new(&["", "goal", "found"]);
    for goal in goals {
        let verdict = if goal.met { "met" } else { "**missed**" };
        table.row(vec![verdict.to_owned(), goal.text.to_owned(), goal.found.clone()]);
    }
    text.push_str(&table.text());
    for goal in goals.iter().filter(|goal| !goal.met && !goal.missed.is_empty()) {
        let more = goal.missed.len().saturating_sub(MOST);
        let mut places = goal.missed.iter().take(MOST).cloned().collect::<Vec<_>>().join("; ");
        if more > 0 {
            let _ = write!(places, "; and {more} more");
        }
        let _ = write!(text, "\n{}: {places}.\n", goal.text);
    }
    for (index, group) in plan.groups.iter().enumerate() {
        let _ = write!(text, "\n### {}\n", group.title);
        for latency in &group.latencies {
            let _ = write!(text, "\n99 % within {latency} s:\n\n{}", group_table(plan, cells, index, *latency));
        }
        if group.counts() && !group.tuned.is_empty() {
            let _ = write!(text, "\nAll of these cells, rule by rule:\n\n{}", peers_table(plan, cells, index));
        }
    }
    if plan.faults {
        let _ = write!(
            text,
            "\n### Faults\n\nChanges that led the wrong way, or were wasted, in {} runs each; ",
            plan.seeds.len()
        );
        let _ = write!(text, "in brackets those that took workers away.\n\n{}", faults_table(plan, results));
    }
    text
}

fn faults_table(plan: &Plan, results: &Results) -> String {
    let mut headings = vec!["scenario"];
    headings.extend(faults::rules());
    let mut table = Markdown::new(&headings);
    for (index, case) in FAULTS.iter().enumerate() {
        let mut row = vec![case.name.to_owned()];
        for rule in faults::rules() {
            let counts = plan.seeds.iter().filter_map(|seed| results.fault(index, rule, *seed));
            let (bad, down) = counts.fold((0, 0), |sum, count| (sum.0 + count.bad, sum.1 + count.down));
            row.push(if bad == 0 { "0".to_owned() } else { format!("{bad} ({down})") });
        }
        table.row(row);
    }
    table.text()
}
