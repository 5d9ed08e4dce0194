//! Draws a run: load, workers and latency over time, one below the other, as an SVG document.
//!
//! Text is written as text and laid out by the viewer, so no font is needed to draw it.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    AreaSeries, DrawingArea, IntoDrawingArea as _, LineSeries, PathElement, RGBAColor, RGBColor, SVGBackend,
    TriangleMarker, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, IntoFont as _, ShapeStyle, TextStyle};
use thiserror::Error;

use super::run::{Change, Point, RunReport};
use sluice_base::words;

pub(super) const WIDTH: u32 = 1000;
const HEADING: u32 = 56;
pub(super) const PANEL: u32 = 180;
/// Room for the time axis below the last panel.
pub(super) const AXIS: u32 = 30;

/// Most named times that fit on an axis.
const MOST_TIMES: usize = 12;

pub(super) const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const FAINT: RGBColor = RGBColor(0x6e, 0x77, 0x81);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);
pub(super) const LOAD: RGBColor = RGBColor(0x5b, 0x7b, 0x9a);
const WORKERS: RGBColor = RGBColor(0x1a, 0x7f, 0x5a);
const DESIRED: RGBColor = RGBColor(0xd0, 0x7a, 0x00);
const LATENCY: RGBColor = RGBColor(0x6f, 0x42, 0xc1);
pub(super) const TARGET: RGBColor = RGBColor(0xcf, 0x22, 0x2e);

/// A plot that could not be drawn.
#[derive(Debug, Error)]
#[error("failed to draw the plot: {0}")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + Sync> From<plotters::drawing::DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: plotters::drawing::DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// A piece of a line: times in seconds, and their values.
pub type Segment = Vec<(f64, f64)>;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Times, RangedCoordf64>>;

/// Draws the run as an SVG document, with its title and verdict.
pub fn svg(report: &RunReport) -> Result<String, PlotError> {
    draw(report, true)
}

/// Draws the same for a page that has the title and verdict already.
pub(super) fn panels(report: &RunReport) -> Result<String, PlotError> {
    draw(report, false)
}

fn draw(report: &RunReport, with_heading: bool) -> Result<String, PlotError> {
    let mut document = String::new();
    {
        let heading = if with_heading { HEADING } else { 0 };
        let root = SVGBackend::with_string(&mut document, (WIDTH, heading + 3 * PANEL + AXIS)).into_drawing_area();
        root.fill(&WHITE)?;
        let (top, rest) = root.split_vertically(heading);
        if with_heading {
            head(&top, report)?;
        }
        let (load, rest) = rest.split_vertically(PANEL);
        let (workers, latency) = rest.split_vertically(PANEL);
        let span = span(&report.run.points);
        draw_load(&load, report, span)?;
        draw_workers(&workers, report, span)?;
        draw_latency(&latency, report, span)?;
        root.present()?;
    }
    Ok(document)
}

fn head(area: &Area<'_>, report: &RunReport) -> Result<(), PlotError> {
    let title = format!("{}: {}", report.run.job, report.run.load);
    area.draw_text(&title, &text(17, INK, HPos::Left), (16, 14))?;
    area.draw_text(&report.verdict(), &text(13, if report.met { WORKERS } else { TARGET }, HPos::Left), (16, 36))?;
    Ok(())
}

fn draw_load(area: &Area<'_>, report: &RunReport, span: (f64, f64)) -> Result<(), PlotError> {
    let arriving = segments(&report.run.points, |point| point.rate);
    let capacity: Vec<_> = segments(&report.run.points, |point| point.capacity).iter().map(|s| steps(s)).collect();
    let height = top(&arriving, top(&capacity, 0.0));
    let mut chart = panel(area, span, height, &|rate| words::rate(*rate), false)?;
    marks(&mut chart, shown(report, span), height)?;
    for segment in arriving {
        chart.draw_series(AreaSeries::new(segment, 0.0, LOAD.mix(0.25)).border_style(line(LOAD, 2)))?;
    }
    if capacity.is_empty() {
        return legend(area, &[("records arriving", LOAD)]);
    }
    for segment in capacity {
        chart.draw_series(LineSeries::new(segment, line(WORKERS, 1)))?;
    }
    legend(area, &[("records arriving", LOAD), ("capacity of the ready workers", WORKERS)])
}

fn draw_workers(area: &Area<'_>, report: &RunReport, span: (f64, f64)) -> Result<(), PlotError> {
    let points = &report.run.points;
    let existing: Vec<_> = segments(points, |point| point.replicas.map(f64::from)).iter().map(|s| steps(s)).collect();
    let desired: Vec<_> = segments(points, |point| point.desired.map(f64::from)).iter().map(|s| steps(s)).collect();
    let height = top(&existing, top(&desired, 3.0));
    let mut chart = panel(area, span, height, &|workers| words::count(*workers), false)?;
    marks(&mut chart, shown(report, span), height)?;
    for segment in existing {
        chart.draw_series(AreaSeries::new(segment, 0.0, WORKERS.mix(0.2)).border_style(line(WORKERS, 2)))?;
    }
    for segment in desired {
        chart.draw_series(LineSeries::new(segment, line(DESIRED, 1)))?;
    }
    chart.draw_series(shown(report, span).map(|change| {
        // A negative size turns the triangle over, so that it points in the direction of the change.
        let (size, color) = if change.to > change.from { (6, DESIRED) } else { (-6, DESIRED) };
        TriangleMarker::new((change.at, f64::from(change.to)), size, color.filled())
    }))?;
    legend(area, &[("pods that exist", WORKERS), ("wanted, with decisions", DESIRED)])
}

fn draw_latency(area: &Area<'_>, report: &RunReport, span: (f64, f64)) -> Result<(), PlotError> {
    let target = report.run.target.latency_seconds;
    let segments = segments(&report.run.points, |point| point.latency);
    let height = top(&segments, target * 1.2);
    let mut chart = panel(area, span, height, &|latency| words::seconds(*latency), true)?;
    marks(&mut chart, shown(report, span), height)?;
    let limit = [(span.0, target), (span.1, target)];
    chart.draw_series([PathElement::new(limit, line(TARGET, 2))])?;
    for segment in segments {
        chart.draw_series(LineSeries::new(segment, line(LATENCY, 2)))?;
    }
    let share = words::percent(report.run.target.share);
    let of_target = format!("target: {share} within {}", words::seconds(target));
    let share = format!("latency of {share} over the last minute");
    legend(area, &[(&share, LATENCY), (&of_target, TARGET)])
}

/// Draws axes and grid. Only the last panel names the times, which apply to all.
pub(super) fn panel<'a, 'b>(
    area: &'a Area<'b>,
    span: (f64, f64),
    height: f64,
    words_of: &dyn Fn(&f64) -> String,
    last: bool,
) -> Result<Chart<'a, 'b>, PlotError> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(26)
        .margin_right(20)
        .margin_bottom(4)
        .y_label_area_size(64)
        .x_label_area_size(if last { AXIS } else { 0 })
        .build_cartesian_2d(Times(span.0..span.1), 0.0..height)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .y_labels(5)
        .x_labels(if last { MOST_TIMES } else { 0 })
        .y_label_formatter(words_of)
        .x_label_formatter(&|at| words::seconds(*at))
        .label_style(text(12, FAINT, HPos::Left))
        .axis_style(line(FAINT, 1))
        .bold_line_style(line(GRID, 1))
        .draw()?;
    Ok(chart)
}

/// Draws a thin line through the panel for each decision, so that cause and effect can be followed between panels.
fn marks<'c>(
    chart: &mut Chart<'_, '_>,
    changes: impl Iterator<Item = &'c Change>,
    height: f64,
) -> Result<(), PlotError> {
    let style = ShapeStyle { color: RGBAColor(DESIRED.0, DESIRED.1, DESIRED.2, 0.3), filled: false, stroke_width: 1 };
    chart.draw_series(changes.map(|change| PathElement::new([(change.at, 0.0), (change.at, height)], style)))?;
    Ok(())
}

/// Returns the decisions of the time that is shown: those before the load would all be drawn at its beginning.
fn shown(report: &RunReport, span: (f64, f64)) -> impl Iterator<Item = &Change> {
    report.run.changes.iter().filter(move |change| (span.0..=span.1).contains(&change.at))
}

pub(super) fn legend(area: &Area<'_>, entries: &[(&str, RGBColor)]) -> Result<(), PlotError> {
    // Above the panel. The width of a character is a generous estimate, because no font is available.
    let mut x = 68;
    for (words, color) in entries {
        area.draw(&PathElement::new([(x, 15), (x + 18, 15)], line(*color, 3)))?;
        area.draw_text(words, &text(13, INK, HPos::Left), (x + 24, 15))?;
        x += 24 + 24 + i32::try_from(words.chars().count()).unwrap_or(0) * 7;
    }
    Ok(())
}

pub(super) fn line(color: RGBColor, width: u32) -> ShapeStyle {
    ShapeStyle { color: color.to_rgba(), filled: false, stroke_width: width }
}

pub(super) fn text(size: i32, color: RGBColor, anchor: HPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color).pos(Pos::new(anchor, VPos::Center))
}

/// Returns the first and last time; at least a second apart, because an empty axis cannot be drawn.
fn span(points: &[Point]) -> (f64, f64) {
    let times = || points.iter().map(|point| point.at).filter(|at| at.is_finite());
    let first = times().fold(0.0, f64::min);
    (first, times().fold(first + 1.0, f64::max))
}

/// An axis of seconds whose named points are whole minutes and the like.
#[derive(Debug, Clone)]
pub(super) struct Times(Range<f64>);

impl From<Range<f64>> for Times {
    fn from(range: Range<f64>) -> Self {
        Self(range)
    }
}

impl Ranged for Times {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.0.clone()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        round_times(&self.0)
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

/// Returns the times to name on the axis: at most [`MOST_TIMES`], none before the load began.
fn round_times(range: &Range<f64>) -> Vec<f64> {
    const STEPS: [f64; 18] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0,
        43_200.0, 86_400.0, 172_800.0,
    ];
    let fits = |step: &&f64| range.end / **step < 11.0;
    let step = STEPS.iter().find(fits).copied().unwrap_or(604_800.0);
    (0..MOST_TIMES)
        .map(|index| f64::from(u16::try_from(index).unwrap_or(0)) * step)
        .filter(|at| *at <= range.end)
        .collect()
}

/// Returns the upper end of a panel: a little above the highest value, and not below `least`.
pub(super) fn top(segments: &[Segment], least: f64) -> f64 {
    let highest = segments.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
    (highest * 1.1).max(least).max(f64::MIN_POSITIVE.sqrt())
}

/// Returns the known values in pieces: a line must not continue where nothing is known.
pub fn segments(points: &[Point], value: impl Fn(&Point) -> Option<f64>) -> Vec<Segment> {
    let known = |point: &Point| value(point).filter(|value| value.is_finite() && point.at.is_finite());
    points
        .chunk_by(|a, b| known(a).is_some() == known(b).is_some())
        .map(|piece| piece.iter().filter_map(|point| Some((point.at, known(point)?))).collect::<Vec<_>>())
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// Returns a line whose values hold until the next one.
pub fn steps(segment: &[(f64, f64)]) -> Segment {
    let mut line = Vec::with_capacity(segment.len() * 2);
    for (index, &(at, value)) in segment.iter().enumerate() {
        if let Some(&(_, before)) = index.checked_sub(1).and_then(|before| segment.get(before)) {
            line.push((at, before));
        }
        line.push((at, value));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Run, Target, Work};

    fn report(points: Vec<Point>) -> RunReport {
        RunReport::from_run(Run {
            job: "orders".into(),
            load: "18 h & <5 min>".into(),
            target: Target { latency_seconds: 10.0, share: 0.99 },
            produced: Some(100),
            uncommitted: Some(0),
            work: Work { workers: 1, processed: 100, in_time: 100, busy_seconds: 1.0, ..Work::default() },
            points,
            changes: vec![Change {
                at: 1.0,
                from: 1,
                to: 3,
                reason: "Growth".into(),
                bound_by: "Objective".into(),
                message: String::new(),
            }],
        })
    }

    #[test]
    fn unknown_values_leave_a_gap() {
        let at = |at, rate| Point { at, rate, ..Point::default() };
        let points =
            [at(0.0, Some(1.0)), at(1.0, None), at(2.0, Some(f64::NAN)), at(3.0, Some(4.0)), at(4.0, Some(5.0))];
        assert_eq!(segments(&points, |point| point.rate), [vec![(0.0, 1.0)], vec![(3.0, 4.0), (4.0, 5.0)]]);
    }

    #[test]
    fn steps_hold_until_the_next_value() {
        assert_eq!(steps(&[(0.0, 1.0), (2.0, 3.0)]), [(0.0, 1.0), (2.0, 1.0), (2.0, 3.0)]);
        assert_eq!(steps(&[]), []);
    }

    #[test]
    fn times_on_the_axis_are_round() {
        assert_eq!(round_times(&(-5.0..61.0)), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(
            round_times(&(0.0..310.0)),
            [0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0]
        );
        for days in [0.75, 14.0, 28.0, 60.0] {
            let range = 0.0..days * 86_400.0;
            let times = round_times(&range);
            assert!((4..=MOST_TIMES).contains(&times.len()), "{days}: {times:?}");
            assert!(times.last().is_some_and(|last| *last > 0.8 * range.end), "{days}: {times:?}");
        }
    }

    #[test]
    fn text_is_escaped_and_describes_the_run() {
        let point = |at, rate| Point { at, rate: Some(rate), latency: Some(2.0), ..Point::default() };
        let svg = svg(&report(vec![point(0.0, 10.0), point(2.0, 50.0)])).unwrap();
        for words in ["18 h &amp; &lt;5 min&gt;", "target: 99% within 10s", "records arriving", "Met the target"] {
            assert!(svg.contains(words), "{words} is not in the plot");
        }
    }

    #[test]
    fn empty_and_strange_runs_can_be_drawn() {
        let strange = Point { at: f64::NAN, rate: Some(f64::INFINITY), latency: Some(f64::NAN), ..Point::default() };
        for points in
            [vec![], vec![Point::default()], vec![strange], vec![Point { rate: Some(0.0), ..Point::default() }]]
        {
            assert!(svg(&report(points)).unwrap().ends_with("</svg>\n"));
        }
    }
}
