//! The screen: what there is now, how it came to it, and what was decided why. It fits itself to the room there is.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Paragraph};

use super::{COLUMNS, Scene, WIDTHS};
use sluice_base::words;
use sluice_report::plot::{Segment, segments, steps};
use sluice_report::run::Point;
use sluice_report::table::{Align, Overflow, Table};

/// A chart with fewer lines shows nothing.
const LEAST_CHART: u16 = 5;
/// A chart with fewer lines has none left for the names of times.
const WITH_TIMES: u16 = 8;
/// With so many lines for charts they stand one below the other, so that their times can be compared.
const STACKED: u16 = 20;
/// Decisions get a third of the room, but not more or fewer lines than this.
const DECISIONS: (u16, u16) = (3, 8);
/// Between what stands side by side.
const GAP: &str = "   ";
/// Characters that name the values of a chart: `1.25k/s`.
const SCALE: usize = 7;

const LOAD: Color = Color::Cyan;
const CAPACITY: Color = Color::Green;
const WORKERS: Color = Color::Green;
const WANTED: Color = Color::Yellow;
const LATENCY: Color = Color::Magenta;
const TARGET: Color = Color::Red;
const WELL: Color = Color::Green;
const BADLY: Color = Color::Red;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    pub(super) color: bool,
}

impl Palette {
    fn of(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }
}

/// Draws the scene. `said` is what was said since the screen is up, the newest last.
pub(super) fn draw(frame: &mut Frame<'_>, scene: &Scene<'_>, said: &[String], palette: Palette) {
    let (width, height) = (usize::from(frame.area().width), frame.area().height);
    let foot = foot(scene, said, width);
    let head = head(scene, width, palette);
    let lines = |part: &[Line<'_>]| u16::try_from(part.len()).unwrap_or(height);
    let room = height.saturating_sub(lines(&head) + lines(&foot));
    let charts_lines = room.saturating_sub((room / 3).clamp(DECISIONS.0, DECISIONS.1));
    let [head_area, charts_area, decisions_area, foot_area] = Layout::vertical([
        Constraint::Length(lines(&head)),
        Constraint::Length(if charts_lines < LEAST_CHART { 0 } else { charts_lines }),
        Constraint::Fill(1),
        Constraint::Length(lines(&foot)),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head), head_area);
    charts(frame, charts_area, scene, palette);
    frame.render_widget(Paragraph::new(decisions(scene, width)), decisions_area);
    frame.render_widget(Paragraph::new(foot), foot_area);
}

/// Title, verdict so far, progress, and the numbers of now.
fn head<'a>(scene: &Scene<'a>, width: usize, palette: Palette) -> Vec<Line<'a>> {
    let now = scene.now();
    let columns = COLUMNS.map(|name| (name, Align::Right)).into_iter().chain([("STATE", Align::Left)]);
    let mut table = Table::new(columns, Overflow::Cut).at_least(WIDTHS);
    table.row(scene.numbers().into_iter().chain([scene.state.to_owned()]));
    let late = now.latency.is_some_and(|latency| latency > scene.target.latency_seconds);
    let numbers = table.lines(Some(width)).into_iter().enumerate();
    let numbers = numbers.map(|(row, line)| match (row, late) {
        (0, _) => Line::from(line),
        (_, true) => Line::styled(line, palette.of(BADLY)).bold(),
        (_, false) => Line::from(line).bold(),
    });
    let mut lines = vec![Line::from(cut(scene.title, width)).bold(), verdict(scene, palette), progress(scene, width)];
    lines.extend(numbers);
    lines
}

/// So much of a line as there is room for.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// How the share in time stands to the objective.
fn verdict<'a>(scene: &Scene<'_>, palette: Palette) -> Line<'a> {
    let (objective, work) = (scene.objective(), scene.work);
    let Some(share) = work.share() else {
        return Line::from(format!("no record has been processed yet; objective: {objective}"));
    };
    let (verdict, color) = if share < scene.target.share { ("BEHIND", BADLY) } else { ("ON TARGET", WELL) };
    let (share, records) = (words::percent(share), sluice_report::run::whole(work.processed));
    let so_far = format!(" so far: {share} in time; objective: {objective}; {records} records");
    Line::from(vec![Span::styled(verdict, palette.of(color)).bold(), Span::raw(so_far)])
}

fn progress<'a>(scene: &Scene<'_>, width: usize) -> Line<'a> {
    let at = scene.now().at.max(0.0);
    if at >= scene.length {
        return Line::from("the load is over; waiting until the workers are through with it");
    }
    let (done, all) = (words::seconds(at.round()), words::seconds(scene.length.round()));
    let room = u16::try_from(width.saturating_sub(2 * all.len() + 5)).unwrap_or(u16::MAX);
    Line::from(format!("{done:>width$} of {all} {}", bar(at / scene.length, room), width = all.len()))
}

fn bar(share: f64, width: u16) -> String {
    let full = |column: &u16| f64::from(*column) + 0.5 <= share * f64::from(width);
    (0..width).map(|column| if full(&column) { '█' } else { '░' }).collect()
}

/// The newest decision first, each in as many lines as it takes.
fn decisions<'a>(scene: &Scene<'_>, width: usize) -> Vec<Line<'a>> {
    if scene.changes.is_empty() {
        return vec![Line::from("no decision has changed the number of workers yet")];
    }
    let columns = [("TIME", Align::Right), ("CHANGE", Align::Left), ("REASON", Align::Left), ("MESSAGE", Align::Left)];
    let mut table = Table::new(columns, Overflow::Wrap).at_least([5, 8, 11]);
    for change in scene.changes.iter().rev() {
        let arrow = format!("{} -> {}", change.from, change.to);
        table.row([words::seconds(change.at), arrow, change.reason.clone(), change.sentence().to_owned()]);
    }
    table.lines(Some(width)).into_iter().map(Line::from).collect()
}

/// What was said last, the way in for kubectl, and the keys: side by side where there is room.
fn foot<'a>(scene: &Scene<'a>, said: &'a [String], width: usize) -> Vec<Line<'a>> {
    let way_in = scene.way_in.map(Line::from);
    let keys = Line::from(vec!["q".bold(), " ends it and cleans up".into()]);
    let mut lines: Vec<Line<'_>> = said.last().map(|words| Line::from(words.as_str())).into_iter().collect();
    match way_in {
        Some(way_in) if keys.width() + GAP.len() + way_in.width() <= width => {
            lines.push(keys.into_iter().chain([GAP.into()]).chain(way_in).collect());
        }
        way_in => lines.extend(way_in.into_iter().chain([keys])),
    }
    lines
}

/// A line of a chart.
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

    /// Told from a line without colours, too.
    fn area(name: String, color: Color, segments: Vec<Segment>) -> Self {
        Self { name, color, marker: Marker::Braille, kind: GraphType::Area, segments }
    }

    /// Told from the others without colours, too.
    fn dots(name: String, color: Color, segments: Vec<Segment>) -> Self {
        Self { name, color, marker: Marker::Dot, kind: GraphType::Line, segments }
    }

    fn highest(&self) -> f64 {
        self.segments.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max)
    }
}

fn charts(frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>, palette: Palette) {
    let with_times = area.height >= WITH_TIMES;
    let mut draw = |area: Rect, curves: &[Curve], words: fn(f64) -> String, with_times: bool| {
        chart(frame, area, curves, scene, words, with_times, palette);
    };
    if area.height >= STACKED {
        // The times below the last hold for all.
        let sizes = [Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(area.height / 3 + 1)];
        let [load_area, workers_area, latency_area] = Layout::vertical(sizes).areas(area);
        draw(load_area, &load(scene), words::rate, false);
        draw(workers_area, &workers(scene), words::count, false);
        draw(latency_area, &latency(scene), words::seconds, true);
    } else if area.height > 0 {
        let [load_area, latency_area] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(1).areas(area);
        draw(load_area, &load(scene), words::rate, with_times);
        draw(latency_area, &latency(scene), words::seconds, with_times);
    }
}

fn load(scene: &Scene<'_>) -> [Curve; 2] {
    let of = |value: fn(&Point) -> Option<f64>| segments(scene.points, value);
    [
        Curve::area("arriving".to_owned(), LOAD, of(|point| point.rate)),
        Curve::dots("capacity".to_owned(), CAPACITY, of(|point| point.capacity)),
    ]
}

fn workers(scene: &Scene<'_>) -> [Curve; 2] {
    let of = |value: fn(&Point) -> Option<u32>| {
        let known = segments(scene.points, |point| value(point).map(f64::from));
        known.iter().map(|segment| steps(segment)).collect()
    };
    [
        Curve::area("workers".to_owned(), WORKERS, of(|point| point.replicas)),
        Curve::dots("wanted".to_owned(), WANTED, of(|point| point.desired)),
    ]
}

fn latency(scene: &Scene<'_>) -> [Curve; 2] {
    let target = scene.target.latency_seconds;
    let share = words::percent(scene.target.share);
    [
        Curve::line(format!("latency of {share}"), LATENCY, segments(scene.points, |point| point.latency)),
        Curve::dots(
            format!("target {}", words::seconds(target)),
            TARGET,
            vec![vec![(0.0, target), (end(scene), target)]],
        ),
    ]
}

/// Seconds at the right end of the charts.
fn end(scene: &Scene<'_>) -> f64 {
    scene.length.max(scene.now().at).max(1.0)
}

fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    curves: &[Curve],
    scene: &Scene<'_>,
    words_of: fn(f64) -> String,
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
        [Span::styled(sign, palette.of(curve.color)), Span::raw(curve.name.clone()), Span::raw("  ")]
    });
    let title: Line<'_> = std::iter::once(Span::raw(" ".repeat(SCALE + 1))).chain(title).collect();
    frame.render_widget(title, title_area);

    let top = round_up(curves.iter().map(Curve::highest).fold(0.0, f64::max));
    let named = |values: [f64; 3]| values.map(|value| format!("{:>SCALE$}", words_of(value)));
    let end = end(scene);
    let data = curves.iter().flat_map(|curve| {
        curve.segments.iter().map(|segment| {
            let dataset = Dataset::default().marker(curve.marker).graph_type(curve.kind).data(segment);
            dataset.fill_to_y(0.0).style(palette.of(curve.color))
        })
    });
    let mut times = Axis::default().bounds([0.0, end]);
    if with_times {
        times = times.labels([0.0, end / 2.0, end].map(|at| words::seconds(at.round())));
    }
    let chart = Chart::new(data.collect())
        .x_axis(times)
        .y_axis(Axis::default().bounds([0.0, top]).labels(named([0.0, top / 2.0, top])))
        .legend_position(None);
    frame.render_widget(chart, area);
}

/// The next number that is easily halved: 1, 2, 4, 6, 8 or 10 of its order.
fn round_up(value: f64) -> f64 {
    let order = 10_f64.powf(value.max(1e-3).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|step| step * order).find(|top| *top >= value).unwrap_or(1.0)
}

#[cfg(test)]
#[path = "screen_test.rs"]
mod tests;
