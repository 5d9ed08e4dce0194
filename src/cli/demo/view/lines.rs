//! The view without a terminal: one line per second.

use std::io::{self, Write};

use super::{COLUMNS, Snapshot, WIDTHS};
use sluice_base::words;
use sluice_report::table::{Align, Overflow, Table};

/// The heading is repeated after this number of lines.
const HEADING_EVERY: usize = 20;

/// Writes the view as lines.
pub(super) struct Lines<W> {
    to: W,
    rows: usize,
    /// Number of decisions that have been written.
    written_changes: usize,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, rows: 0, written_changes: 0 }
    }

    /// Writes the snapshot's line, and the title before the first line.
    pub(super) fn show(&mut self, snapshot: &Snapshot<'_>) -> io::Result<()> {
        let title = (self.rows == 0).then(|| format!("{}; objective: {}\n", snapshot.title, snapshot.objective()));
        let text = title.unwrap_or_default() + &self.line(snapshot);
        self.to.write_all(text.as_bytes())?;
        self.to.flush()
    }

    fn line(&mut self, snapshot: &Snapshot<'_>) -> String {
        let columns = [("TIME", Align::Right)].into_iter().chain(COLUMNS.map(|name| (name, Align::Right)));
        let columns = columns.chain([("STATE", Align::Left), ("MESSAGE", Align::Left)]);
        let widths: Vec<usize> = [6].into_iter().chain(WIDTHS).chain([12]).collect();
        let mut table = Table::new(columns, Overflow::Cut).at_least(widths);
        // Each decision is written once, in the first line after it was observed.
        let new_messages: Vec<&str> =
            snapshot.changes.iter().skip(self.written_changes).map(|change| change.message.as_str()).collect();
        self.written_changes = snapshot.changes.len();
        let cells = [words::seconds(snapshot.latest().at.round())].into_iter().chain(snapshot.numbers());
        table.row(cells.chain([snapshot.state.to_owned(), new_messages.join(" | ")]));
        let heading = self.rows.is_multiple_of(HEADING_EVERY);
        self.rows += 1;
        table.lines(None).into_iter().skip(usize::from(!heading)).map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::{change, point, snapshot, work};
    use super::*;

    #[test]
    fn each_second_is_a_line_and_each_decision_is_written_once() {
        let mut lines = Lines::new(Vec::new());
        let (work, changes) = (work(), [change(41.0)]);
        lines.show(&snapshot(&[point(40.0)], &[], &work)).unwrap();
        lines.show(&snapshot(&[point(40.0), point(41.0)], &changes, &work)).unwrap();
        lines.show(&snapshot(&[point(42.0)], &changes, &work)).unwrap();
        let text = "trace: a day of advertisements, 18h in 3m, up to 6k/s; objective: 99% within 10s
  TIME  REPLICAS  READY  DESIRED     RATE     LAG  LATENCY       P99  STATE         MESSAGE
   40s         5      4        7   5.4k/s   12.4k        ?  <= 250ms  CatchingUp
   41s         5      4        7   5.4k/s   12.4k        ?  <= 250ms  CatchingUp    4 -> 7: 5.4k/s arriving and growing; 4 workers do 4.8k/s; 7 keep the latency within 10s
   42s         5      4        7   5.4k/s   12.4k        ?  <= 250ms  CatchingUp
";
        assert_eq!(String::from_utf8(lines.to).unwrap(), text);
    }
}
