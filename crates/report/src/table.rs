//! Aligned columns for a terminal: headings in capitals, two spaces between columns; the last column takes the
//! remaining width.

/// Narrowest last column that is still wrapped or cut.
const LEAST: usize = 16;

/// Alignment of the text in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// To the left, for text.
    Left,
    /// To the right, for numbers.
    Right,
}

/// What happens to a last column that is wider than the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is cut with `…`: for live views, whose rows must stay on one line.
    Cut,
    /// It continues on the next line, below itself: for reports, where every word counts.
    Wrap,
}

/// Rows of text with a heading for each column.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    overflow: Overflow,
    /// Least widths: a live view prints row by row and cannot know the rows to come.
    least: Vec<usize>,
}

impl Table {
    /// Returns an empty table with these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>, overflow: Overflow) -> Self {
        let columns = columns.into_iter().map(|(name, align)| (name.to_owned(), align)).collect();
        Self { columns, rows: Vec::new(), overflow, least: Vec::new() }
    }

    /// Sets the least widths of the columns, in their order.
    #[must_use]
    pub fn at_least(mut self, widths: impl Into<Vec<usize>>) -> Self {
        self.least = widths.into();
        self
    }

    /// Adds a row; missing cells are empty, surplus ones are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Returns the headings and rows as lines, each within `width` characters if the columns before the last leave
    /// room.
    pub fn lines(&self, width: Option<usize>) -> Vec<String> {
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let widths = self.widths(&headings);
        std::iter::once(&headings).chain(&self.rows).flat_map(|cells| self.line(cells, &widths, width)).collect()
    }

    /// Returns the [`Self::lines`] as one text.
    pub fn text(&self, width: Option<usize>) -> String {
        self.lines(width).into_iter().map(|line| line + "\n").collect()
    }

    fn widths(&self, headings: &[String]) -> Vec<usize> {
        let longest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(headings.get(column));
            let least = self.least.get(column).copied().unwrap_or(0);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(least)
        };
        (0..self.columns.len()).map(longest).collect()
    }

    fn line(&self, cells: &[String], widths: &[usize], width: Option<usize>) -> Vec<String> {
        let Some((last, before)) = cells.split_last() else { return Vec::new() };
        let mut start = String::new();
        for ((cell, (_, align)), &wide) in before.iter().zip(&self.columns).zip(widths) {
            start.push_str(&pad(cell, *align, wide));
            start.push_str("  ");
        }
        let indent = start.chars().count();
        let left = width.map_or(usize::MAX, |width| width.saturating_sub(indent));
        let parts = match self.overflow {
            _ if left < LEAST => vec![last.clone()],
            Overflow::Cut => vec![sluice_base::text::truncate(last, left)],
            Overflow::Wrap => wrap(last, left),
        };
        let align = self.columns.last().map_or(Align::Left, |(_, align)| *align);
        let wide = widths.last().copied().unwrap_or(0);
        let mut lines = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let part = if align == Align::Right { pad(&part, align, wide) } else { part };
            let line = if index == 0 { format!("{start}{part}") } else { format!("{:indent$}{part}", "") };
            lines.push(line.trim_end().to_owned());
        }
        lines
    }
}

fn pad(cell: &str, align: Align, wide: usize) -> String {
    match align {
        Align::Left => format!("{cell:<wide$}"),
        Align::Right => format!("{cell:>wide$}"),
    }
}

/// Breaks `text` between words into lines of at most `width` characters; a longer word stays whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let together = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && together > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(overflow: Overflow) -> Table {
        let columns = [("TIME", Align::Right), ("CHANGE", Align::Left), ("MESSAGE", Align::Left)];
        let mut table = Table::new(columns, overflow);
        table.row(["42s", "4 -> 7", "5.4k/s arriving and growing"]);
        table.row(["2m10s", "7 -> 12", "short"]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_spaces() {
        let text = " TIME  CHANGE   MESSAGE
  42s  4 -> 7   5.4k/s arriving and growing
2m10s  7 -> 12  short
";
        assert_eq!(table(Overflow::Cut).text(None), text);
        assert_eq!(table(Overflow::Wrap).text(Some(200)), text);
    }

    #[test]
    fn last_column_is_wrapped_below_itself_or_cut() {
        let wrapped = " TIME  CHANGE   MESSAGE
  42s  4 -> 7   5.4k/s arriving
                and growing
2m10s  7 -> 12  short
";
        assert_eq!(table(Overflow::Wrap).text(Some(34)), wrapped);
        let cut = " TIME  CHANGE   MESSAGE
  42s  4 -> 7   5.4k/s arriving a…
2m10s  7 -> 12  short
";
        assert_eq!(table(Overflow::Cut).text(Some(34)), cut);
    }

    #[test]
    fn too_narrow_terminal_leaves_the_text_alone() {
        assert_eq!(table(Overflow::Cut).text(Some(20)), table(Overflow::Cut).text(None));
    }

    #[test]
    fn least_widths_hold_and_rows_are_padded() {
        let mut table = Table::new([("A", Align::Right), ("B", Align::Right)], Overflow::Cut).at_least([4, 3]);
        table.row(["1"]);
        table.row(["2", "3", "surplus"]);
        assert_eq!(table.lines(None), ["   A    B", "   1", "   2    3"]);
    }
}
