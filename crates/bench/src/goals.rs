//! The goals that Sluice is held to, cell by cell. Where the objective was missed, the cost of a cell is infinite, and
//! a cost within [`TIE`] of another is not lower.

use std::fmt::Write as _;

use super::cell::{Cell, Contestant, Feasible, median};
use super::faults::{FAULTS, FaultCount};
use super::plan::{DOUBLING, Kind, Plan, TIE};
use super::results::Results;
use super::text::{Round, percent, ratio};

/// One goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// Description of the goal.
    pub text: &'static str,
    /// Result.
    pub found: String,
    /// Whether the result is good enough.
    pub met: bool,
    /// Cells in which it is not.
    pub missed: Vec<String>,
}

/// Returns all goals for which there are cells, missed ones first.
pub fn goals(plan: &Plan, results: &Results, cells: &[Cell]) -> Vec<Goal> {
    let view = View { plan, cells };
    let mut goals: Vec<Goal> = [
        view.every_feasible(),
        view.only_fixed(),
        view.late_little(),
        view.cheap("handoff", "Cost at most 1.30 x the fluid bound: median of the real traces, 10 s", 1.30, |cell| {
            Some(cell.over_fluid())
        }),
        view.cheap("even", "The same with even partitions: at most 1.12 x the fluid bound", 1.12, |cell| {
            Some(cell.over_fluid())
        }),
        view.cheap(
            "handoff",
            "Cost at most 1.10 x the bound that knows the partitions' weights: median of the real traces, 10 s",
            1.10,
            |cell| cell.over_weighted,
        ),
        view.cheaper(),
        view.never_more_expensive(),
        view.fast(false, "Warm image: nothing late in every feasible cell, at 1.20 x the fluid bound at most", 1.20),
        view.fast(true, "Warm image, a step to twice the load: nothing late at 1.30 x the fluid bound at most", 1.30),
        view.restart(),
        faults(plan, results, false, "No change the wrong way while signals fail", 0),
        faults(plan, results, true, "At most one Up that was wasted on a bottleneck outside", 1),
    ]
    .into_iter()
    .flatten()
    .collect();
    goals.sort_by_key(|goal| goal.met);
    goals
}

struct View<'a> {
    plan: &'a Plan,
    cells: &'a [Cell],
}

impl View<'_> {
    fn cells_of(&self, group: &'static str) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| self.plan.groups[cell.group].id == group)
    }

    /// Returns the cells of the two main groups.
    fn main(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| self.plan.groups[cell.group].counts())
    }

    fn name(&self, cell: &Cell) -> String {
        format!("{} {} {} s", self.plan.groups[cell.group].id, self.plan.traces[cell.trace].name, cell.latency)
    }

    fn real(&self, cell: &Cell) -> bool {
        self.plan.traces[cell.trace].kind == Kind::Real
    }

    fn objective(&self, text: &'static str, feasible: Feasible) -> Option<Goal> {
        let cells: Vec<&Cell> = self.main().filter(|cell| cell.feasible == feasible).collect();
        let missed: Vec<String> = cells
            .iter()
            .filter(|cell| !cell.sluice.met)
            .map(|cell| format!("{}: {} late", self.name(cell), percent(cell.sluice.worst_late, Round::Up)))
            .collect();
        let found = format!("{} of {}", cells.len() - missed.len(), cells.len());
        (!cells.is_empty()).then_some(Goal { text, found, met: missed.is_empty(), missed })
    }

    fn every_feasible(&self) -> Option<Goal> {
        self.objective("The objective is met in every feasible cell with every seed", Feasible::Yes)
    }

    fn only_fixed(&self) -> Option<Goal> {
        self.objective(
            "Also where no peer's setting does, but a fixed number of workers found in hindsight",
            Feasible::Fixed,
        )
    }

    fn late_little(&self) -> Option<Goal> {
        let cells: Vec<&Cell> =
            self.cells_of("handoff").filter(|cell| cell.feasible == Feasible::Yes && cell.latency >= 10).collect();
        let missed: Vec<String> = cells
            .iter()
            .filter(|cell| cell.sluice.worst_late.is_nan() || cell.sluice.worst_late > 0.001)
            .map(|cell| format!("{}: {}", self.name(cell), percent(cell.sluice.worst_late, Round::Up)))
            .collect();
        let few = cells.len() - missed.len();
        (!cells.is_empty()).then(|| Goal {
            text: "At most 0.1 % late, whatever the seed, in 80 % of the feasible cells with handover by partition and \
                   an objective of 10 s or more",
            found: share_of(few, cells.len()),
            met: few * 10 >= cells.len() * 8,
            missed,
        })
    }

    fn cheap(
        &self,
        group: &'static str,
        text: &'static str,
        most: f64,
        cost: impl Fn(&Cell) -> Option<f64>,
    ) -> Option<Goal> {
        let cells: Vec<&Cell> = self.cells_of(group).filter(|cell| cell.latency == 10 && self.real(cell)).collect();
        let figure = |cell: &Cell| if cell.sluice.met { cost(cell).unwrap_or(f64::INFINITY) } else { f64::INFINITY };
        let costs: Vec<f64> = cells.iter().map(|cell| figure(cell)).collect();
        let found = median(&costs)?;
        let over = cells.iter().zip(&costs).filter(|(_, cost)| **cost > most);
        let missed = over.map(|(cell, cost)| format!("{}: {}", self.name(cell), ratio(*cost, Round::Up))).collect();
        Some(Goal { text, found: ratio(found, Round::Up), met: found <= most, missed })
    }

    /// Returns the main cells in which a tuned peer meets the objective, with Sluice's cost over that of the cheapest
    /// peer.
    fn against_the_best(&self) -> Vec<(&Cell, &Contestant, f64)> {
        let compared = self.main().filter_map(|cell| Some((cell, cell.best()?)));
        let over = |cell: &Cell, best: &Contestant| {
            if cell.sluice.met { cell.sluice.cost / best.cost } else { f64::INFINITY }
        };
        compared.map(|(cell, best)| (cell, best, over(cell, best))).collect()
    }

    fn cheaper(&self) -> Option<Goal> {
        let all = self.against_the_best();
        let cheaper = all.iter().filter(|(_, _, over)| *over < 1.0 - TIE).count();
        let ties = all.iter().filter(|(_, _, over)| (over - 1.0).abs() <= TIE).count();
        let missed = all
            .iter()
            .filter(|(_, _, over)| over.is_nan() || *over >= 1.0 - TIE)
            .map(|(cell, best, over)| self.comparison(cell, best, *over))
            .collect();
        (!all.is_empty()).then(|| Goal {
            text: "Cheaper than every tuned peer that meets the objective, in 80 % of the cells",
            found: format!("{}, {ties} more within {} %", share_of(cheaper, all.len()), TIE * 100.0),
            met: cheaper * 10 >= all.len() * 8,
            missed,
        })
    }

    fn never_more_expensive(&self) -> Option<Goal> {
        let all: Vec<_> = self.against_the_best().into_iter().filter(|(cell, _, _)| cell.sluice.met).collect();
        let most = all.iter().map(|(_, _, over)| *over).reduce(f64::max)?;
        let expensive = all.iter().filter(|(_, _, over)| *over > 1.05);
        let missed: Vec<String> = expensive.map(|(cell, best, over)| self.comparison(cell, best, *over)).collect();
        Some(Goal {
            text: "Nowhere more than 5 % more expensive than a tuned peer, where both meet the objective",
            found: format!("at most {} x", ratio(most, Round::Up)),
            met: missed.is_empty(),
            missed,
        })
    }

    fn comparison(&self, cell: &Cell, best: &Contestant, over: f64) -> String {
        if cell.sluice.met {
            format!("{}: {} x {}", self.name(cell), ratio(over, Round::Up), best.who.name())
        } else {
            let late = percent(cell.sluice.worst_late, Round::Up);
            format!("{}: missed ({late} late), {} meets it", self.name(cell), best.who.name())
        }
    }

    fn fast(&self, doubling: bool, text: &'static str, most: f64) -> Option<Goal> {
        let trace = |cell: &Cell| &self.plan.traces[cell.trace];
        let wanted = |cell: &&Cell| match (trace(cell).name == DOUBLING, doubling) {
            (true, wanted) => wanted,
            (false, other) => !other && cell.feasible == Feasible::Yes,
        };
        let cells: Vec<&Cell> = self.cells_of("fast").filter(wanted).collect();
        let nothing_late = |cell: &Cell| cell.sluice.worst_late * trace(cell).load.records() < 0.5;
        let missed: Vec<String> = cells
            .iter()
            .filter(|cell| !(nothing_late(cell) && cell.over_fluid() <= most))
            .map(|cell| {
                let late = percent(cell.sluice.worst_late, Round::Up);
                format!("{}: {late} late at {}", self.name(cell), ratio(cell.over_fluid(), Round::Up))
            })
            .collect();
        let found = share_of(cells.len() - missed.len(), cells.len());
        (!cells.is_empty()).then_some(Goal { text, found, met: missed.is_empty(), missed })
    }

    /// A peer that costs more than the fewest workers that are never late has paid for its lateness, and is not
    /// compared.
    fn restart(&self) -> Option<Goal> {
        let cells: Vec<&Cell> = self.cells_of("restart").collect();
        let mut missed = Vec::new();
        for cell in &cells {
            let best = cell.static_best.as_ref().map_or(f64::INFINITY, |best| best.cost);
            let rivals = cell.defaults.iter().filter(|peer| peer.cost <= best);
            let rival = rivals.min_by(|a, b| a.late.total_cmp(&b.late));
            let later = rival.filter(|rival| cell.sluice.late > 0.0 && cell.sluice.late >= rival.late);
            if cell.sluice.cost > best {
                let over = ratio(cell.sluice.cost / best, Round::Up);
                missed.push(format!("{}: {over} x static-best", self.name(cell)));
            } else if let Some(rival) = later {
                let (own, other) = (percent(cell.sluice.late, Round::Up), percent(rival.late, Round::Down));
                missed.push(format!("{}: {own} late, {} {other}", self.name(cell), rival.who.name()));
            }
        }
        (!cells.is_empty()).then_some(Goal {
            text: "Restart of the whole job: fewer late records than every untuned peer that costs no more than the \
                   fewest fixed workers with 0.1 % late, and not more expensive than those",
            found: share_of(cells.len() - missed.len(), cells.len()),
            met: missed.is_empty(),
            missed,
        })
    }
}

fn faults(plan: &Plan, results: &Results, bottleneck: bool, text: &'static str, most: u32) -> Option<Goal> {
    let mut missed = Vec::new();
    let (mut all, mut bad, mut down) = (0, 0, 0);
    for (index, case) in FAULTS.iter().enumerate().filter(|(_, case)| case.bottleneck == bottleneck) {
        let counts: Vec<FaultCount> =
            plan.seeds.iter().filter_map(|seed| results.fault(index, "sluice", *seed)).collect();
        all += counts.len();
        let over: Vec<u32> = counts.iter().map(|count| count.bad).filter(|bad| *bad > most).collect();
        bad += over.len();
        down += counts.iter().filter(|count| count.down > 0).count();
        if let Some(worst) = over.iter().max() {
            missed.push(format!("{}: {} seeds, up to {worst} changes", case.name, over.len()));
        }
    }
    let mut found = format!("{} of {all} runs", all - bad);
    if down > 0 {
        let _ = write!(found, "; {down} took workers away");
    }
    (all > 0).then_some(Goal { text, found, met: missed.is_empty(), missed })
}

fn share_of(part: usize, all: usize) -> String {
    let percent = part * 100 / all.max(1);
    format!("{part} of {all} ({percent} %)")
}
