//! What each piece of the policy is worth: the same jobs with each of them switched off in turn.
//!
//! A piece earns its place if without it cost or late records rise, somewhere, by more than chance makes of them. Both are
//! one figure at the price that the core itself reckons with: one late record in a hundred (by the objective) costs as
//! much as all workers.

use super::jobs::side_by_side;
use super::plan::{Group, Kind, Plan};
use super::text::Markdown;
use crate::policy::pieces::Piece;
use crate::simulate::{During, Faults, Load, Scenario, Sluice, run};

/// Of a longer trace these seconds around its highest rate are run.
const LONGEST: usize = 21_600;

/// Every piece that can be switched off.
const PIECES: [(&str, Piece); 12] = [
    ("trend", Piece::TREND),
    ("reserve for forecast errors", Piece::RESERVE),
    ("reserve follows the error budget", Piece::BUDGET),
    ("each worker's own load", Piece::CREW),
    ("each worker's own speed", Piece::SPEEDS),
    ("memory of mistakes", Piece::MISTAKES),
    ("bottlenecks outside", Piece::BOTTLENECK),
    ("price of dear changes", Piece::DEAR),
    ("recovery sizing", Piece::RECOVERY),
    ("window before a Down", Piece::WINDOW),
    ("one change at a time", Piece::FLIGHT),
    ("fast level by noise", Piece::FAST_LEVEL),
];

/// Cells that are averaged.
const CLASSES: [&str; 8] = [
    "real, 10 s",
    "step and ramp, 10 s",
    "restart, 60 s",
    "restart, 10 s",
    "bottleneck, 10 s",
    "outage, 10 s",
    "deaths, 10 s",
    "steady, 10 s",
];

/// A job and a load.
struct Cell {
    class: usize,
    name: String,
    load: Load,
    scenario: Scenario,
}

/// One run's figures.
#[derive(Debug, Clone, Copy)]
struct Figures {
    worker_seconds: f64,
    /// Share of late records, 0 to 1.
    late: f64,
    rescales: usize,
}

impl Figures {
    /// Workers, and late records at their price.
    fn price(self, percentile: f64) -> f64 {
        self.worker_seconds * (1.0 + self.late / (1.0 - percentile).max(1e-4))
    }
}

/// Runs everything and writes the table. `tell`: how many runs are done, of how many.
pub fn ablation(plan: &Plan, threads: usize, tell: impl Fn(usize, usize) + Sync) -> String {
    let cells = cells(plan);
    let variants: Vec<Option<usize>> = std::iter::once(None).chain((0..PIECES.len()).map(Some)).collect();
    let seeds = &plan.seeds;
    let mut work: Vec<(usize, usize, u64)> = Vec::new();
    // The long ones first, so that no thread is left alone with one at the end.
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by_key(|cell| std::cmp::Reverse(cells[*cell].load.seconds()));
    for cell in order {
        work.extend((0..variants.len()).flat_map(|variant| seeds.iter().map(move |seed| (variant, cell, *seed))));
    }
    let done = std::sync::atomic::AtomicUsize::new(0);
    let figures = side_by_side(&work, threads, |(variant, cell, seed)| {
        let figures = figures(&cells[*cell], variants[*variant], *seed);
        tell(1 + done.fetch_add(1, std::sync::atomic::Ordering::Relaxed), work.len());
        figures
    });
    let of = |variant: usize, cell: usize, seed: u64| {
        let at = work.iter().position(|job| *job == (variant, cell, seed));
        figures[at.unwrap_or_default()]
    };
    Table { cells: &cells, seeds, of: &of }.text()
}

fn cells(plan: &Plan) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |class: usize, id: &str, latency: u32, wanted: &[&str]| {
        let groups = plan.groups.iter().filter(|group| group.id == id);
        for (group, trace) in groups.flat_map(|group: &Group| group.traces.iter().map(move |trace| (group, *trace))) {
            let trace = &plan.traces[trace];
            let real = wanted.is_empty() && trace.kind == Kind::Real;
            if real || wanted.iter().any(|piece| trace.name.contains(piece)) {
                let (load, scenario) = (around_its_peak(&trace.load), group.of(1, latency));
                cells.push(Cell { class, name: format!("{id} {} {latency} s", trace.name), load, scenario });
            }
        }
    };
    add(0, "handoff", 10, &[]);
    add(1, "handoff", 10, &["step", "ramp"]);
    for (class, latency) in [(2, 60), (3, 10)] {
        add(class, "restart", latency, &["step", "ramp", "diurnal", "semifinal"]);
    }
    add(6, "crash-41", 10, &["diurnal"]);
    let level = |class, name: &str, rate, seconds, bottleneck| {
        let faults = Faults { bottleneck, ..Faults::default() };
        let scenario = Scenario { faults, ..Scenario::default() };
        Cell { class, name: name.to_owned(), load: Load::constant(rate, seconds), scenario }
    };
    // Three quarters of the load for an hour, and nothing at all for ten minutes.
    cells.push(level(4, "a database that is slow", 8000.0, 7200, Some(During::new(3000.0, 6600.0, 6000.0))));
    cells.push(level(5, "a database that is gone", 8000.0, 7200, Some(During::new(3000.0, 3600.0, 0.0))));
    cells.push(level(7, "a constant load", 6000.0, LONGEST, None));
    cells
}

/// Half of the time before the highest rate and half after it, as far as there is so much.
fn around_its_peak(load: &Load) -> Load {
    let rates = load.rates();
    let peak = rates.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(second, _)| second);
    let length = rates.len().min(LONGEST);
    let from = peak.saturating_sub(length / 2).min(rates.len() - length);
    Load::new(rates[from..from + length].to_vec())
}

fn figures(cell: &Cell, without: Option<usize>, seed: u64) -> Figures {
    let scenario = Scenario { seed, ..cell.scenario.clone() };
    let off = without.map(|piece| PIECES[piece].1);
    let scores = run(&cell.load, &scenario, &mut Sluice::of(&scenario).without(off.as_slice())).scores;
    Figures { worker_seconds: scores.worker_seconds, late: scores.late, rescales: scores.rescales }
}

/// The figures as text.
struct Table<'a> {
    cells: &'a [Cell],
    seeds: &'a [u64],
    /// Of a variant (0: nothing is off), a cell and a seed.
    of: &'a dyn Fn(usize, usize, u64) -> Figures,
}

/// The means of a class.
#[derive(Debug, Clone, Copy, Default)]
struct Means {
    /// Worker-seconds over those of the policy as it is: 1.03 costs 3 % more.
    cost: f64,
    late: f64,
    price: f64,
    rescales: f64,
}

impl Table<'_> {
    fn text(&self) -> String {
        let mut headings = vec!["without".to_owned()];
        headings.extend(CLASSES.map(|class| format!("{class}: cost, late, rescales")));
        headings.extend(["price, all", "helps most in", "harms most in", "earns its place"].map(str::to_owned));
        let mut table = Markdown::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
        let whole = |class: usize| self.means(0, class, self.seeds);
        let mut first = vec!["(nothing)".to_owned()];
        first.extend((0..CLASSES.len()).map(|class| {
            let Means { late, rescales, .. } = whole(class);
            format!("1, {}, {rescales:.0}", share(late))
        }));
        first.extend(std::iter::repeat_n(String::new(), 4));
        table.row(first);
        let mut chance = vec!["(chance)".to_owned()];
        chance.extend((0..CLASSES.len()).map(|class| format!("price ± {:.1} %", 100.0 * self.chance(class))));
        chance.extend(std::iter::repeat_n(String::new(), 4));
        table.row(chance);
        for (piece, (name, _)) in PIECES.iter().enumerate() {
            table.row(self.row(piece + 1, name));
        }
        table.text()
    }

    fn row(&self, variant: usize, name: &str) -> Vec<String> {
        let mut row = vec![name.to_owned()];
        let (mut helps, mut harms, mut all) = (false, false, 0.0);
        for class in 0..CLASSES.len() {
            let (with, without) = (self.means(0, class, self.seeds), self.means(variant, class, self.seeds));
            let rise = without.price / with.price - 1.0;
            all += rise / CLASSES.len() as f64;
            let chance = self.chance(class);
            let mark = if rise.abs() > chance { "**" } else { "" };
            helps |= rise > chance;
            harms |= rise < -chance;
            let Means { cost, late, rescales, .. } = without;
            row.push(format!("{mark}{:+.1} %, {}, {rescales:.0}{mark}", 100.0 * (cost - 1.0), share(late)));
        }
        row.push(format!("{:+.1} %", 100.0 * all));
        let mut changes: Vec<(f64, String)> = (0..self.cells.len()).map(|cell| self.change(variant, cell)).collect();
        changes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let told = |change: Option<&(f64, String)>| change.map_or_else(String::new, |(_, told)| told.clone());
        row.push(told(changes.last().filter(|change| change.0 > 0.005)));
        row.push(told(changes.first().filter(|change| change.0 < -0.005)));
        row.push(match (helps, harms) {
            (true, false) => "yes".to_owned(),
            (true, true) => "here, not there".to_owned(),
            (false, true) => "**no: it harms**".to_owned(),
            (false, false) => "**no**".to_owned(),
        });
        row
    }

    /// Change of the price of a cell without a piece, as a share, and the cell with its figures before and after.
    fn change(&self, variant: usize, cell: usize) -> (f64, String) {
        let (with, without) =
            (self.mean(0, cell, self.seeds, cell..cell + 1), self.mean(variant, cell, self.seeds, cell..cell + 1));
        let told = format!(
            "{}: cost {:+.1} %, late {} -> {}",
            self.cells[cell].name,
            100.0 * (without.cost - 1.0),
            share(with.late),
            share(without.late)
        );
        (without.price / with.price - 1.0, told)
    }

    fn means(&self, variant: usize, class: usize, seeds: &[u64]) -> Means {
        self.mean(variant, class, seeds, 0..self.cells.len())
    }

    /// Over the cells of a class, or over one cell alone.
    fn mean(&self, variant: usize, class: usize, seeds: &[u64], cells: std::ops::Range<usize>) -> Means {
        let alone = cells.len() == 1;
        let mut sum = Means::default();
        let mut count = 0.0_f64;
        for cell in cells.filter(|cell| alone || self.cells[*cell].class == class) {
            for seed in seeds {
                let (with, this) = ((self.of)(0, cell, *seed), (self.of)(variant, cell, *seed));
                let percentile = self.cells[cell].scenario.percentile;
                count += 1.0;
                sum.cost += this.worker_seconds / with.worker_seconds;
                sum.late += this.late;
                // Against what it costs as it is, or the longest trace alone would count.
                sum.price += this.price(percentile) / with.worker_seconds;
                sum.rescales += this.rescales as f64;
            }
        }
        let count = count.max(1.0);
        Means {
            cost: sum.cost / count,
            late: sum.late / count,
            price: sum.price / count,
            rescales: sum.rescales / count,
        }
    }

    /// What chance makes of the price of a class: the spread of the seeds, as a share; 1 % at least.
    fn chance(&self, class: usize) -> f64 {
        let prices = self.seeds.iter().map(|seed| self.means(0, class, &[*seed]).price);
        let (low, high) = prices.fold((f64::INFINITY, 0.0_f64), |(low, high), price| (low.min(price), high.max(price)));
        // A mean over the seeds varies less than one of them.
        ((high / low - 1.0) / (self.seeds.len() as f64).sqrt()).max(0.01)
    }
}

/// A share in per cent.
fn share(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "rates are copied, not computed")]
mod tests {
    use super::super::Trace;
    use super::*;

    #[test]
    fn a_long_trace_is_cut_around_its_peak() {
        let mut rates = vec![1.0_f32; 2 * LONGEST];
        rates[LONGEST + 500] = 9.0;
        let cut = around_its_peak(&Load::new(rates.clone()));
        assert_eq!((cut.seconds(), cut.rates()[LONGEST / 2]), (LONGEST, 9.0));
        rates[LONGEST + 500] = 1.0;
        rates[3] = 9.0;
        assert_eq!(around_its_peak(&Load::new(rates)).rates()[3], 9.0);
        assert_eq!(around_its_peak(&Load::constant(5.0, 100)).seconds(), 100);
    }

    #[test]
    fn every_piece_has_a_row_and_each_is_off_in_its_own_run_alone() {
        let load = Load::from_points(&[(0.0, 4000.0), (200.0, 9000.0), (400.0, 4000.0)]);
        let plan = Plan::full(vec![Trace::new("synth_ramp", Kind::Synthetic, load)], 1);
        let mut cells = cells(&plan);
        assert_eq!(cells.iter().map(|cell| cell.class).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 7]);
        cells.truncate(1);
        let price = |without| figures(&cells[0], without, 1).price(0.99);
        let different = (0..PIECES.len()).filter(|piece| (price(Some(*piece)) - price(None)).abs() > 1e-9).count();
        assert!(different >= 4, "{different}: a ramp up and down is not the same without the trend and the reserve");
        let of = |variant: usize, cell: usize, seed: u64| figures(&cells[cell], variant.checked_sub(1), seed);
        let text = Table { cells: &cells, seeds: &[1], of: &of }.text();
        assert_eq!(text.lines().count(), 2 + 2 + PIECES.len());
    }
}
