//! Draws the screen: the current numbers, their course over time, and the decisions with their reasons. The layout
//! adapts to the size of the terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Paragraph};

use super::{COLUMNS, Snapshot, WIDTHS};
use sluice_base::words;
use sluice_report::plot::{Segment, segments, steps};
use sluice_report::run::Point;
use sluice_report::table::{Align, Overflow, Table};

/// Minimum height of a chart, lines; below it no charts are drawn.
const MIN_CHART_HEIGHT: u16 = 5;
/// Minimum height at which charts side by side have a time axis with labels, lines.
const TIME_LABELS_HEIGHT: u16 = 8;
/// Minimum height at which the charts are stacked, so that their time axes align, lines.
const STACKED_HEIGHT: u16 = 20;
/// Decisions get a third of the height, within this range, lines.
const DECISIONS_HEIGHT: (u16, u16) = (3, 8);
/// Separator of parts that are side by side.
const GAP: &str = "   ";
/// Width of the value labels of a chart, such as `1.25k/s`, characters.
const LABEL_WIDTH: usize = 7;

const LOAD: Color = Color::Cyan;
const CAPACITY: Color = Color::Green;
const WORKERS: Color = Color::Green;
const DESIRED: Color = Color::Yellow;
const LATENCY: Color = Color::Magenta;
const TARGET: Color = Color::Red;
const GOOD: Color = Color::Green;
const BAD: Color = Color::Red;

/// Whether to use colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    pub(super) color: bool,
}

impl Palette {
    fn style(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }
}

/// Draws the snapshot. `messages` are the messages printed since the screen was started, the newest last.
pub(super) fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot<'_>, messages: &[String], palette: Palette) {
    let (width, height) = (usize::from(frame.area().width), frame.area().height);
    let foot = foot(snapshot, messages, width);
    let head = head(snapshot, width, palette);
    let lines = |part: &[Line<'_>]| u16::try_from(part.len()).unwrap_or(height);
    let room = height.saturating_sub(lines(&head) + lines(&foot));
    let charts_lines = room.saturating_sub((room / 3).clamp(DECISIONS_HEIGHT.0, DECISIONS_HEIGHT.1));
    let [head_area, charts_area, decisions_area, foot_area] = Layout::vertical([
        Constraint::Length(lines(&head)),
        Constraint::Length(if charts_lines < MIN_CHART_HEIGHT { 0 } else { charts_lines }),
        Constraint::Fill(1),
        Constraint::Length(lines(&foot)),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head), head_area);
    charts(frame, charts_area, snapshot, palette);
    frame.render_widget(Paragraph::new(decisions(snapshot, width)), decisions_area);
    frame.render_widget(Paragraph::new(foot), foot_area);
}

/// Returns the title, the result so far, the progress bar, and the current numbers.
fn head<'a>(snapshot: &Snapshot<'a>, width: usize, palette: Palette) -> Vec<Line<'a>> {
    let latest = snapshot.latest();
    let columns = COLUMNS.map(|name| (name, Align::Right)).into_iter().chain([("STATE", Align::Left)]);
    let mut table = Table::new(columns, Overflow::Cut).at_least(WIDTHS);
    table.row(snapshot.numbers().into_iter().chain([snapshot.state.to_owned()]));
    let late = latest.latency.is_some_and(|latency| latency > snapshot.target.latency_seconds);
    let numbers = table.lines(Some(width)).into_iter().enumerate();
    let numbers = numbers.map(|(row, line)| match (row, late) {
        (0, _) => Line::from(line),
        (_, true) => Line::styled(line, palette.style(BAD)).bold(),
        (_, false) => Line::from(line).bold(),
    });
    let mut lines = vec![
        Line::from(cut(snapshot.title, width)).bold(),
        result_so_far(snapshot, palette),
        progress(snapshot, width),
    ];
    lines.extend(numbers);
    lines
}

/// Truncates a line to `width` characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Compares the share of records in time with the objective.
fn result_so_far<'a>(snapshot: &Snapshot<'_>, palette: Palette) -> Line<'a> {
    let (objective, work) = (snapshot.objective(), snapshot.work);
    let Some(share) = work.share() else {
        return Line::from(format!("no record has been processed yet; objective: {objective}"));
    };
    let (result, color) = if share < snapshot.target.share { ("BEHIND", BAD) } else { ("ON TARGET", GOOD) };
    let (share, records) = (words::percent(share), sluice_report::run::whole(work.processed));
    let so_far = format!(" so far: {share} in time; objective: {objective}; {records} records");
    Line::from(vec![Span::styled(result, palette.style(color)).bold(), Span::raw(so_far)])
}

fn progress<'a>(snapshot: &Snapshot<'_>, width: usize) -> Line<'a> {
    let at = snapshot.latest().at.max(0.0);
    if at >= snapshot.length {
        return Line::from("the load is over; waiting for the workers to process the backlog");
    }
    let (done, all) = (words::seconds(at.round()), words::seconds(snapshot.length.round()));
    let room = u16::try_from(width.saturating_sub(2 * all.len() + 5)).unwrap_or(u16::MAX);
    Line::from(format!("{done:>width$} of {all} {}", bar(at / snapshot.length, room), width = all.len()))
}

fn bar(share: f64, width: u16) -> String {
    let full = |column: &u16| f64::from(*column) + 0.5 <= share * f64::from(width);
    (0..width).map(|column| if full(&column) { '█' } else { '░' }).collect()
}

/// Returns the decisions, the newest first, wrapped into lines.
fn decisions<'a>(snapshot: &Snapshot<'_>, width: usize) -> Vec<Line<'a>> {
    if snapshot.changes.is_empty() {
        return vec![Line::from("no scaling decision yet")];
    }
    let columns = [("TIME", Align::Right), ("CHANGE", Align::Left), ("REASON", Align::Left), ("MESSAGE", Align::Left)];
    let mut table = Table::new(columns, Overflow::Wrap).at_least([5, 8, 11]);
    for change in snapshot.changes.iter().rev() {
        let arrow = format!("{} -> {}", change.from, change.to);
        table.row([words::seconds(change.at), arrow, change.reason.clone(), change.sentence().to_owned()]);
    }
    table.lines(Some(width)).into_iter().map(Line::from).collect()
}

/// Returns the newest message, the kubectl hint and the keys, side by side if the width allows.
fn foot<'a>(snapshot: &Snapshot<'a>, messages: &'a [String], width: usize) -> Vec<Line<'a>> {
    let hint = snapshot.kubectl_hint.map(Line::from);
    let keys = Line::from(vec!["q".bold(), " quits and cleans up".into()]);
    let mut lines: Vec<Line<'_>> = messages.last().map(|message| Line::from(message.as_str())).into_iter().collect();
    match hint {
        Some(hint) if keys.width() + GAP.len() + hint.width() <= width => {
            lines.push(keys.into_iter().chain([GAP.into()]).chain(hint).collect());
        }
        hint => lines.extend(hint.into_iter().chain([keys])),
    }
    lines
}

/// A curve of a chart.
struct Curve {
    name: String,
    color: Color,
    marker: Marker,
    kind: GraphType,
    segments: Vec<Segment>,
}

impl Curve {
    fn line(name: String, color: Color, segments: Vec<Segment>) -> Self {
        Self { name, color, marker: Marker::Braille, kind: GraphType::Line, segments }
    }

    /// Creates a filled curve, which is distinguishable from a line without colours.
    fn area(name: String, color: Color, segments: Vec<Segment>) -> Self {
        Self { name, color, marker: Marker::Braille, kind: GraphType::Area, segments }
    }

    /// Creates a dotted curve, which is distinguishable from the others without colours.
    fn dots(name: String, color: Color, segments: Vec<Segment>) -> Self {
        Self { name, color, marker: Marker::Dot, kind: GraphType::Line, segments }
    }

    fn highest(&self) -> f64 {
        self.segments.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max)
    }
}

fn charts(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot<'_>, palette: Palette) {
    let with_times = area.height >= TIME_LABELS_HEIGHT;
    let mut draw = |area: Rect, curves: &[Curve], words: fn(f64) -> String, with_times: bool| {
        chart(frame, area, curves, snapshot, words, with_times, palette);
    };
    if area.height >= STACKED_HEIGHT {
        // The time labels of the last chart apply to all of them.
        let sizes = [Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(area.height / 3 + 1)];
        let [load_area, workers_area, latency_area] = Layout::vertical(sizes).areas(area);
        draw(load_area, &load(snapshot), words::rate, false);
        draw(workers_area, &workers(snapshot), words::count, false);
        draw(latency_area, &latency(snapshot), words::seconds, true);
    } else if area.height > 0 {
        let [load_area, latency_area] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(1).areas(area);
        draw(load_area, &load(snapshot), words::rate, with_times);
        draw(latency_area, &latency(snapshot), words::seconds, with_times);
    }
}

fn load(snapshot: &Snapshot<'_>) -> [Curve; 2] {
    let of = |value: fn(&Point) -> Option<f64>| segments(snapshot.points, value);
    [
        Curve::area("arriving".to_owned(), LOAD, of(|point| point.rate)),
        Curve::dots("capacity".to_owned(), CAPACITY, of(|point| point.capacity)),
    ]
}

fn workers(snapshot: &Snapshot<'_>) -> [Curve; 2] {
    let of = |value: fn(&Point) -> Option<u32>| {
        let known = segments(snapshot.points, |point| value(point).map(f64::from));
        known.iter().map(|segment| steps(segment)).collect()
    };
    [
        Curve::area("workers".to_owned(), WORKERS, of(|point| point.replicas)),
        Curve::dots("desired".to_owned(), DESIRED, of(|point| point.desired)),
    ]
}

fn latency(snapshot: &Snapshot<'_>) -> [Curve; 2] {
    let target = snapshot.target.latency_seconds;
    let share = words::percent(snapshot.target.share);
    [
        Curve::line(format!("latency of {share}"), LATENCY, segments(snapshot.points, |point| point.latency)),
        Curve::dots(
            format!("target {}", words::seconds(target)),
            TARGET,
            vec![vec![(0.0, target), (end(snapshot), target)]],
        ),
    ]
}

/// Returns the time at the right end of the charts, seconds.
fn end(snapshot: &Snapshot<'_>) -> f64 {
    snapshot.length.max(snapshot.latest().at).max(1.0)
}

fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    curves: &[Curve],
    snapshot: &Snapshot<'_>,
    format_value: fn(f64) -> String,
    with_times: bool,
    palette: Palette,
) {
    let [title_area, area] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let title = curves.iter().flat_map(|curve| {
        let sign = match (curve.kind, curve.marker) {
            (GraphType::Area, _) => "⣿ ",
            (_, Marker::Dot) => "• ",
            _ => "⠒ ",
        };
        [Span::styled(sign, palette.style(curve.color)), Span::raw(curve.name.clone()), Span::raw("  ")]
    });
    let title: Line<'_> = std::iter::once(Span::raw(" ".repeat(LABEL_WIDTH + 1))).chain(title).collect();
    frame.render_widget(title, title_area);

    let top = round_up(curves.iter().map(Curve::highest).fold(0.0, f64::max));
    let labels = |values: [f64; 3]| values.map(|value| format!("{:>LABEL_WIDTH$}", format_value(value)));
    let end = end(snapshot);
    let data = curves.iter().flat_map(|curve| {
        curve.segments.iter().map(|segment| {
            let dataset = Dataset::default().marker(curve.marker).graph_type(curve.kind).data(segment);
            dataset.fill_to_y(0.0).style(palette.style(curve.color))
        })
    });
    let mut times = Axis::default().bounds([0.0, end]);
    if with_times {
        times = times.labels([0.0, end / 2.0, end].map(|at| words::seconds(at.round())));
    }
    let chart = Chart::new(data.collect())
        .x_axis(times)
        .y_axis(Axis::default().bounds([0.0, top]).labels(labels([0.0, top / 2.0, top])))
        .legend_position(None);
    frame.render_widget(chart, area);
}

/// Rounds up to 1, 2, 4, 6, 8 or 10 times a power of ten, all of which are easily halved.
fn round_up(value: f64) -> f64 {
    let order = 10_f64.powf(value.max(1e-3).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|step| step * order).find(|top| *top >= value).unwrap_or(1.0)
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
