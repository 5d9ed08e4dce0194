//! The live view, once a second: redrawn in place on a terminal, a line each where there is none.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use crate::report::run::{Change, Point, Target};
use crate::report::table::{Align, Overflow, Table};
use crate::report::words;

/// Decisions shown below the numbers.
const DECISIONS: usize = 8;
/// Lines between two headings where lines are not redrawn.
const HEADING_EVERY: usize = 20;
/// Characters of the progress bar.
const BAR: usize = 40;

/// The control sequences that the view uses, and no others.
mod ansi {
    pub(super) const CLEAR_LINE: &str = "\x1b[2K";
    /// A line that is too long is cut by the terminal, whatever its width, and so stays one line.
    pub(super) const NO_WRAP: &str = "\x1b[?7l";
    pub(super) const WRAP: &str = "\x1b[?7h";
    pub(super) const BOLD: &str = "\x1b[1m";
    pub(super) const GREEN: &str = "\x1b[32m";
    pub(super) const RED: &str = "\x1b[31m";
    pub(super) const PLAIN: &str = "\x1b[0m";
}

/// What is shown.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) point: Point,
    /// Seconds that the load lasts.
    pub(super) length: f64,
    pub(super) target: Target,
    pub(super) changes: &'a [Change],
    /// Records processed so far, by the workers' own counts.
    pub(super) processed: u64,
    /// In one word: what the operator says of the job.
    pub(super) state: &'a str,
}

/// Where the scenes go.
pub(super) struct View<W> {
    to: W,
    in_place: bool,
    color: bool,
    /// Lines on the screen that the next scene replaces.
    drawn: usize,
    rows: usize,
    /// Decisions that have been written already, where lines are not redrawn.
    told: usize,
}

impl View<io::Stderr> {
    /// On stderr, which is where progress goes; the report alone is the result.
    pub(super) fn on_stderr(no_color: bool) -> Self {
        let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let unwanted = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::new(io::stderr(), terminal, terminal && !unwanted)
    }
}

impl<W: Write> View<W> {
    fn new(to: W, in_place: bool, color: bool) -> Self {
        Self { to, in_place, color, drawn: 0, rows: 0, told: 0 }
    }

    /// Shows the scene.
    pub(super) fn show(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        let text = if self.in_place { self.redrawn(scene) } else { self.line(scene) };
        self.to.write_all(text.as_bytes())?;
        self.to.flush()
    }

    fn redrawn(&mut self, scene: &Scene<'_>) -> String {
        let lines = self.block(scene);
        let mut text = String::from(ansi::NO_WRAP);
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = writeln!(text, "\r{}{line}", ansi::CLEAR_LINE);
        }
        // Fewer lines than before cannot happen: decisions are only added.
        self.drawn = lines.len();
        text + ansi::WRAP
    }

    fn block(&self, scene: &Scene<'_>) -> Vec<String> {
        let point = &scene.point;
        let title = format!(
            "{} of {}  {}  {} records processed",
            words::seconds(point.at.max(0.0).round()),
            words::seconds(scene.length.round()),
            bar(point.at / scene.length),
            words::count(count(scene.processed)),
        );
        let mut lines = vec![self.paint(ansi::BOLD, &title), String::new()];
        let columns = COLUMNS.map(|name| (name, Align::Right)).into_iter().chain([("STATE", Align::Left)]);
        let mut table = Table::new(columns, Overflow::Cut).at_least(WIDTHS);
        table.row(numbers(scene).into_iter().chain([scene.state.to_owned()]));
        let late = point.latency.is_some_and(|latency| latency > scene.target.latency_seconds);
        let numbers = table.lines(None);
        lines.extend(numbers.iter().take(1).cloned());
        lines.extend(numbers.iter().skip(1).map(|row| self.paint(if late { ansi::RED } else { ansi::GREEN }, row)));
        lines.push(String::new());
        let columns =
            [("TIME", Align::Right), ("CHANGE", Align::Left), ("REASON", Align::Left), ("MESSAGE", Align::Left)];
        let mut table = Table::new(columns, Overflow::Cut).at_least([5, 8, 11]);
        for change in scene.changes.iter().rev().take(DECISIONS) {
            let arrow = format!("{} -> {}", change.from, change.to);
            table.row([words::seconds(change.at), arrow, change.reason.clone(), change.sentence().to_owned()]);
        }
        lines.extend(table.lines(None));
        lines
    }

    fn line(&mut self, scene: &Scene<'_>) -> String {
        let columns = [("TIME", Align::Right)].into_iter().chain(COLUMNS.map(|name| (name, Align::Right)));
        let columns = columns.chain([("STATE", Align::Left), ("MESSAGE", Align::Left)]);
        let widths: Vec<usize> = [6].into_iter().chain(WIDTHS).chain([12]).collect();
        let mut table = Table::new(columns, Overflow::Cut).at_least(widths);
        // A decision is told once, in the line of the second in which it was seen.
        let news: Vec<&str> = scene.changes.iter().skip(self.told).map(|change| change.message.as_str()).collect();
        self.told = scene.changes.len();
        let cells = [words::seconds(scene.point.at.round())].into_iter().chain(numbers(scene));
        table.row(cells.chain([scene.state.to_owned(), news.join(" | ")]));
        let heading = self.rows.is_multiple_of(HEADING_EVERY);
        self.rows += 1;
        table.lines(None).into_iter().skip(usize::from(!heading)).map(|line| line + "\n").collect()
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.color { format!("{color}{text}{}", ansi::PLAIN) } else { text.to_owned() }
    }
}

const COLUMNS: [&str; 7] = ["REPLICAS", "READY", "DESIRED", "RATE", "LAG", "LATENCY", "TARGET"];
/// So that columns stay where they are while the numbers change.
const WIDTHS: [usize; 7] = [8, 5, 7, 7, 6, 7, 6];

fn numbers(scene: &Scene<'_>) -> [String; 7] {
    let point = &scene.point;
    let known = |value: Option<f64>, words: fn(f64) -> String| value.map_or_else(|| "?".to_owned(), words);
    let workers = |value: Option<u32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    [
        workers(point.replicas),
        workers(point.ready),
        workers(point.desired),
        known(point.rate, words::rate),
        known(point.lag, words::count),
        known(point.latency, words::seconds),
        words::seconds(scene.target.latency_seconds),
    ]
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "0 to BAR")]
fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(BAR.saturating_sub(full))
}

#[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
fn count(records: u64) -> f64 {
    records as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at: f64) -> Change {
        Change {
            at,
            from: 4,
            to: 7,
            reason: "Growth".into(),
            bound_by: "Objective".into(),
            message: "4 -> 7: 5.4k/s arriving and growing".into(),
        }
    }

    fn scene(at: f64, changes: &[Change]) -> Scene<'_> {
        let point = Point {
            at,
            rate: Some(5400.0),
            lag: Some(12_400.0),
            latency: None,
            desired: Some(7),
            replicas: Some(5),
            ready: Some(4),
        };
        let target = Target { latency_seconds: 10.0, share: 0.99 };
        Scene { point, length: 300.0, target, changes, processed: 123_456, state: "CatchingUp" }
    }

    #[test]
    fn without_a_terminal_each_second_is_a_line_and_each_decision_is_told_once() {
        let mut view = View::new(Vec::new(), false, false);
        let changes = [change(41.0)];
        view.show(&scene(40.0, &[])).unwrap();
        view.show(&scene(41.0, &changes)).unwrap();
        view.show(&scene(42.0, &changes)).unwrap();
        let text = "  TIME  REPLICAS  READY  DESIRED     RATE     LAG  LATENCY  TARGET  STATE         MESSAGE
   40s         5      4        7   5.4k/s   12.4k        ?     10s  CatchingUp
   41s         5      4        7   5.4k/s   12.4k        ?     10s  CatchingUp    4 -> 7: 5.4k/s arriving and growing
   42s         5      4        7   5.4k/s   12.4k        ?     10s  CatchingUp
";
        assert_eq!(String::from_utf8(view.to).unwrap(), text);
    }

    #[test]
    fn on_a_terminal_the_block_is_replaced_and_every_line_cleared() {
        let mut view = View::new(Vec::new(), true, false);
        view.show(&scene(40.0, &[])).unwrap();
        let first = String::from_utf8(std::mem::take(&mut view.to)).unwrap();
        assert!(!first.contains("\x1b[6A") && first.starts_with(ansi::NO_WRAP) && first.ends_with(ansi::WRAP));
        assert_eq!(first.lines().count(), 7, "six lines and the end of the last: {first:?}");

        view.show(&scene(41.0, &[change(41.0)])).unwrap();
        let second = String::from_utf8(view.to).unwrap();
        assert!(second.starts_with("\x1b[?7l\x1b[6A\r\x1b[2K41s of 5m  █████"), "{second:?}");
        assert!(second.contains("  41s  4 -> 7    Growth       5.4k/s arriving and growing\n"), "{second:?}");
        assert!(!second.contains("\x1b[3"), "no colour was asked for: {second:?}");
    }

    #[test]
    fn late_is_red() {
        let mut view = View::new(Vec::new(), true, true);
        let mut late = scene(40.0, &[]);
        late.point.latency = Some(10.1);
        view.show(&late).unwrap();
        assert!(String::from_utf8(view.to).unwrap().contains(ansi::RED));
    }
}
