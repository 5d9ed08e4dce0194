//! A cell: the results of Sluice and of the peers in it, and whether its objective can be met.

use super::jobs::Outcome;
use super::needs::{CellView, STATIC_BEST, Search, bounds, within};
use super::plan::Plan;
use super::results::{Results, Who};

/// Whether an objective can be met at a sensible price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feasible {
    /// Some setting of some peer, found in hindsight, meets it with every seed at twice the fluid bound or less.
    Yes,
    /// No peer does, but a constant replica count found in hindsight does.
    Fixed,
    /// Neither does.
    No,
}

/// One rule in one cell, with every seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Contestant {
    /// Rule.
    pub who: Who,
    /// One run for each seed.
    pub runs: Vec<Outcome>,
    /// Whether every run met the objective.
    pub met: bool,
    /// Share of late records: median of the seeds.
    pub late: f64,
    /// Share of late records: worst seed.
    pub worst_late: f64,
    /// Worker-seconds: median of the seeds.
    pub cost: f64,
    /// Worker-seconds: most expensive seed.
    pub worst_cost: f64,
    /// Share of rolling hours that met the objective: worst seed.
    pub good_hours: f64,
    /// Changes: median of the seeds.
    pub rescales: f64,
}

impl Contestant {
    /// Returns `None` if there is no run.
    pub fn new(who: Who, runs: Vec<Outcome>, allowed: f64) -> Option<Self> {
        let of = |value: fn(&Outcome) -> f64| runs.iter().map(value).collect::<Vec<f64>>();
        let late = of(|run| run.late);
        let cost = of(|run| run.worker_seconds);
        Some(Self {
            met: runs.iter().all(|run| within(*run, allowed)),
            late: median(&late)?,
            worst_late: late.iter().copied().fold(0.0, worse),
            cost: median(&cost)?,
            worst_cost: cost.iter().copied().fold(0.0, worse),
            good_hours: runs.iter().map(|run| run.good_hours).fold(1.0, f64::min),
            rescales: median(&of(|run| run.rescales as f64))?,
            who,
            runs,
        })
    }
}

/// Returns the higher value; a value that is not a number is worst of all.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Returns the median; of an even number of values, the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(*sorted.get(low)?, *sorted.get(high)?))
}

/// A group, a trace and an objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Index of the group in the plan.
    pub group: usize,
    /// Index of the trace in the plan.
    pub trace: usize,
    /// Objective, seconds.
    pub latency: u32,
    /// Fluid bound, worker-seconds.
    pub fluid: f64,
    /// Sluice's cost over the bound that knows the weights: median over the seeds for which that was computed.
    pub over_weighted: Option<f64>,
    /// Sluice.
    pub sluice: Contestant,
    /// The cheapest setting of each family that meets the objective, cheapest first.
    pub tuned: Vec<Contestant>,
    /// Peers with their default settings.
    pub defaults: Vec<Contestant>,
    /// The fewest workers that meet the objective without ever changing.
    pub fixed: Option<Contestant>,
    /// The fewest workers with at most a thousandth of the records late.
    pub static_best: Option<Contestant>,
    /// Whether the objective can be met.
    pub feasible: Feasible,
}

impl Cell {
    /// Returns Sluice's cost divided by the fluid bound, median of the seeds.
    pub fn over_fluid(&self) -> f64 {
        self.sluice.cost / self.fluid
    }

    /// Returns the cheapest tuned peer.
    pub fn best(&self) -> Option<&Contestant> {
        self.tuned.first()
    }
}

/// Returns all cells of the plan that have enough results.
pub fn cells(plan: &Plan, results: &Results) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (g, group) in plan.groups.iter().enumerate() {
        for latency in group.latencies.iter().copied() {
            cells.extend(group.traces.iter().filter_map(|trace| cell(plan, results, g, *trace, latency)));
        }
    }
    cells
}

/// Returns one cell, or `None` while its bound or Sluice's runs are missing.
pub fn cell(plan: &Plan, results: &Results, group: usize, trace: usize, latency: u32) -> Option<Cell> {
    let at = CellView { plan, results, group, trace, latency };
    let contestant = |who: Who| {
        let runs: Option<Vec<Outcome>> = plan.seeds.iter().map(|seed| at.outcome(&who, *seed)).collect();
        Contestant::new(who, runs?, at.allowed())
    };
    let found = |search: Search| match search {
        Search::Found(who) => contestant(who),
        _ => None,
    };
    let sluice = contestant(Who::Sluice(latency))?;
    let bounds = bounds(plan, group, trace, latency);
    let fluid = bounds.iter().find(|bound| !bound.weighted).and_then(|bound| results.bound(bound))?;
    let weighted = bounds.iter().filter(|bound| bound.weighted).filter_map(|bound| {
        let cost = at.outcome(&Who::Sluice(latency), bound.seed)?.worker_seconds;
        Some(cost / results.bound(bound)?)
    });
    let over_weighted = median(&weighted.collect::<Vec<_>>());
    let mut tuned: Vec<_> = at.definition().tuned.iter().filter_map(|family| found(at.tuned(family))).collect();
    tuned.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let fixed = found(at.fixed(at.allowed()));
    let affordable = |contestant: &Contestant| contestant.cost <= 2.0 * fluid;
    let feasible = if tuned.iter().any(affordable) {
        Feasible::Yes
    } else if fixed.as_ref().is_some_and(affordable) {
        Feasible::Fixed
    } else {
        Feasible::No
    };
    let defaults = at.definition().defaults.iter().filter_map(|name| contestant(Who::Peer((*name).to_owned())));
    Some(Cell {
        group,
        trace,
        latency,
        fluid,
        over_weighted,
        sluice,
        defaults: defaults.collect(),
        static_best: found(at.fixed(STATIC_BEST)),
        tuned,
        fixed,
        feasible,
    })
}
