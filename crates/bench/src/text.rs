//! Figures and tables as Markdown. Figures are rounded against Sluice: its own up, its peers' down.

/// Which way a figure is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    Up,
    Down,
}

impl Round {
    /// Rounds to a number of decimals. A difference within floating-point error is not a step.
    fn to(self, value: f64, decimals: usize) -> String {
        let scale = 10_f64.powi(decimals as i32);
        let step = match self {
            Self::Up => (value * scale - 1e-6).ceil(),
            Self::Down => (value * scale + 1e-6).floor(),
        };
        format!("{:.decimals$}", (step / scale).max(0.0))
    }
}

/// Formats a ratio: `1.43`; from ten on with one decimal less.
pub(crate) fn ratio(value: f64, round: Round) -> String {
    if !value.is_finite() {
        return "∞".to_owned();
    }
    round.to(value, if value >= 10.0 { 1 } else { 2 })
}

/// Formats a share in per cent: `0`, `0.004 %`, `1.2 %`, `53 %`.
pub(crate) fn percent(share: f64, round: Round) -> String {
    let percent = share * 100.0;
    if percent.is_nan() {
        return "?".to_owned();
    }
    // Less than one record in a hundred million is a rounding error.
    if percent < 1e-6 {
        return "0".to_owned();
    }
    let decimals = [(10.0, 0), (1.0, 1), (0.1, 2)].into_iter().find(|(from, _)| percent >= *from).map_or(3, |d| d.1);
    format!("{} %", round.to(percent, decimals))
}

/// A Markdown table, aligned so that it can be read as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Markdown {
    rows: Vec<Vec<String>>,
}

impl Markdown {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |cells: &[String]| {
            let padded = widths.iter().zip(cells).map(|(wide, cell)| format!(" {cell:<wide$} |"));
            format!("|{}\n", padded.collect::<String>())
        };
        let rule: Vec<String> = widths.iter().map(|wide| "-".repeat(*wide)).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            text.push_str(&line(row));
            if index == 0 {
                text.push_str(&line(&rule));
            }
        }
        text
    }
}
