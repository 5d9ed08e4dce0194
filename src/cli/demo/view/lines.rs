//! The view where there is no terminal: a line a second.

use std::io::{self, Write};

use super::{COLUMNS, Scene, WIDTHS};
use sluice_base::words;
use sluice_report::table::{Align, Overflow, Table};

/// Lines between two headings.
const HEADING_EVERY: usize = 20;

/// Where the lines go.
pub(super) struct Lines<W> {
    to: W,
    rows: usize,
    /// Decisions that have been written already.
    told: usize,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, rows: 0, told: 0 }
    }

    /// Writes the scene's line; before the first, what the scene is of.
    pub(super) fn show(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        let title = (self.rows == 0).then(|| format!("{}; objective: {}\n", scene.title, scene.objective()));
        let text = title.unwrap_or_default() + &self.line(scene);
        self.to.write_all(text.as_bytes())?;
        self.to.flush()
    }

    fn line(&mut self, scene: &Scene<'_>) -> String {
        let columns = [("TIME", Align::Right)].into_iter().chain(COLUMNS.map(|name| (name, Align::Right)));
        let columns = columns.chain([("STATE", Align::Left), ("MESSAGE", Align::Left)]);
        let widths: Vec<usize> = [6].into_iter().chain(WIDTHS).chain([12]).collect();
        let mut table = Table::new(columns, Overflow::Cut).at_least(widths);
        // A decision is told once, in the line of the second in which it was seen.
        let news: Vec<&str> = scene.changes.iter().skip(self.told).map(|change| change.message.as_str()).collect();
        self.told = scene.changes.len();
        let cells = [words::seconds(scene.now().at.round())].into_iter().chain(scene.numbers());
        table.row(cells.chain([scene.state.to_owned(), news.join(" | ")]));
        let heading = self.rows.is_multiple_of(HEADING_EVERY);
        self.rows += 1;
        table.lines(None).into_iter().skip(usize::from(!heading)).map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::{change, point, scene, work};
    use super::*;

    #[test]
    fn each_second_is_a_line_and_each_decision_is_told_once() {
        let mut lines = Lines::new(Vec::new());
        let (work, changes) = (work(), [change(41.0)]);
        lines.show(&scene(&[point(40.0)], &[], &work)).unwrap();
        lines.show(&scene(&[point(40.0), point(41.0)], &changes, &work)).unwrap();
        lines.show(&scene(&[point(42.0)], &changes, &work)).unwrap();
        let text = "trace: a day of advertisements, 18h in 3m, up to 6k/s; objective: 99% within 10s
  TIME  REPLICAS  READY  DESIRED     RATE     LAG  LATENCY       P99  STATE         MESSAGE
   40s         5      4        7   5.4k/s   12.4k        ?  <= 250ms  CatchingUp
   41s         5      4        7   5.4k/s   12.4k        ?  <= 250ms  CatchingUp    4 -> 7: 5.4k/s arriving and growing; 4 workers do 4.8k/s; 7 keep the latency within 10s
   42s         5      4        7   5.4k/s   12.4k        ?  <= 250ms  CatchingUp
";
        assert_eq!(String::from_utf8(lines.to).unwrap(), text);
    }
}
