//! Draws several policies under the same load: load, workers and latency over time, with a line for each policy.

use plotters::prelude::{
    AreaSeries, IntoDrawingArea as _, LineSeries, PathElement, RGBColor, SVGBackend, TriangleMarker, WHITE,
};
use plotters::style::Color as _;
use plotters::style::text_anchor::HPos;

use super::plot::{
    AXIS, Area, Chart, INK, LOAD, PANEL, PlotError, TARGET, WIDTH, legend, line, panel, segments, steps, text, top,
};
use super::run::{Change, Point, Target};
use sluice_base::words;

/// Height of the title above the policies' names, which are also the legend.
const TITLE: u32 = 34;
const NAME: u32 = 20;
/// Most decisions that are drawn on the line; more would hide it, and become ticks above it.
const MOST_MARKS: usize = 80;
/// Highest latency that is drawn, as a multiple of the target; beyond it the line leaves the panel.
const MOST_TARGETS: f64 = 4.0;
/// Columns of pixels of a panel; more than two points for each cannot be seen.
const COLUMNS: f64 = 920.0;

/// Colours that most people with colour blindness can tell apart (Okabe and Ito); the first is for the judged policy.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x4d, 0x4d, 0x4d),
];

/// Policies under the same load.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Title of the comparison.
    pub title: String,
    /// Target that the policies are held to.
    pub target: Target,
    /// Load in seconds and records per second, in order of time.
    pub load: Vec<(f64, f64)>,
    /// The policies; the first is drawn strongest and on top of the others.
    pub policies: Vec<Policy>,
}

/// The results of one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Name of the policy.
    pub name: String,
    /// Summary of the result in a few words.
    pub summary: String,
    /// Points in order of time; their rate is that of the load and is ignored.
    pub points: Vec<Point>,
    /// Changes in order of time.
    pub changes: Vec<Change>,
}

/// Draws the comparison as an SVG document.
pub fn svg(comparison: &Comparison) -> Result<String, PlotError> {
    let share = words::percent(comparison.target.share);
    svg_of(comparison, &format!("latency of {share} of the records"))
}

/// Draws as [`svg`] does, with another quantity in place of the latency, described by `latency`.
pub fn svg_of(comparison: &Comparison, latency: &str) -> Result<String, PlotError> {
    let mut document = String::new();
    let names = u32::try_from(comparison.policies.len()).unwrap_or(0);
    let heading = TITLE + NAME * names;
    let size = (WIDTH, heading + 3 * PANEL + AXIS);
    {
        let root = SVGBackend::with_string(&mut document, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, rest) = root.split_vertically(heading);
        draw_head(&head, comparison)?;
        let (load, rest) = rest.split_vertically(PANEL);
        let (workers, last) = rest.split_vertically(PANEL);
        let span = span(comparison);
        draw_load(&load, comparison, span)?;
        draw_workers(&workers, comparison, span)?;
        draw_latency(&last, comparison, span, latency)?;
        root.present()?;
    }
    Ok(document)
}

/// Returns the policies with their colours and widths, the first one last, so that it is on top.
fn drawn(comparison: &Comparison) -> impl Iterator<Item = (&Policy, RGBColor, u32)> {
    let colours = COLOURS.iter().cycle();
    let all: Vec<_> = comparison.policies.iter().zip(colours).enumerate().collect();
    all.into_iter().rev().map(|(index, (policy, colour))| (policy, *colour, if index == 0 { 2 } else { 1 }))
}

fn draw_head(area: &Area<'_>, comparison: &Comparison) -> Result<(), PlotError> {
    area.draw_text(&comparison.title, &text(17, INK, HPos::Left), (16, 18))?;
    let longest = comparison.policies.iter().map(|policy| policy.name.chars().count()).max().unwrap_or(0);
    // The width of a character is an estimate, because no font is available.
    let indent = 44 + i32::try_from(longest).unwrap_or(0) * 8 + 12;
    let mut y = i32::try_from(TITLE + NAME / 2).unwrap_or(0);
    for (policy, colour) in comparison.policies.iter().zip(COLOURS.iter().cycle()) {
        area.draw(&PathElement::new([(16, y), (36, y)], line(*colour, 3)))?;
        area.draw_text(&policy.name, &text(13, INK, HPos::Left), (44, y))?;
        area.draw_text(&policy.summary, &text(13, INK, HPos::Left), (indent, y))?;
        y += i32::try_from(NAME).unwrap_or(0);
    }
    Ok(())
}

fn draw_load(area: &Area<'_>, comparison: &Comparison, span: (f64, f64)) -> Result<(), PlotError> {
    let points: Vec<Point> =
        comparison.load.iter().map(|(at, rate)| Point { at: *at, rate: Some(*rate), ..Point::default() }).collect();
    let segments: Vec<_> = segments(&points, |point| point.rate).iter().map(|s| thin(s, span)).collect();
    let mut chart = panel(area, span, top(&segments, 0.0), &|rate| words::rate(*rate), false)?;
    for segment in segments {
        chart.draw_series(AreaSeries::new(segment, 0.0, LOAD.mix(0.25)).border_style(line(LOAD, 1)))?;
    }
    legend(area, &[("records arriving", LOAD)])
}

fn draw_workers(area: &Area<'_>, comparison: &Comparison, span: (f64, f64)) -> Result<(), PlotError> {
    let existing = |policy: &Policy| -> Vec<_> {
        segments(&policy.points, |point| point.replicas.map(f64::from)).iter().map(|s| thin(&steps(s), span)).collect()
    };
    let all: Vec<_> = comparison.policies.iter().flat_map(existing).collect();
    let height = top(&all, 3.0);
    let mut chart = panel(area, span, height, &|workers| words::count(*workers), false)?;
    for (policy, colour, width) in drawn(comparison) {
        draw_lines(&mut chart, existing(policy), colour, width)?;
    }
    if let (Some(policy), Some(colour)) = (comparison.policies.first(), COLOURS.first()) {
        let changes = policy.changes.iter().filter(|change| (span.0..=span.1).contains(&change.at));
        if policy.changes.len() <= MOST_MARKS {
            chart.draw_series(changes.map(|change| {
                // A negative size turns the triangle over, so that it points in the direction of the change.
                let size = if change.to > change.from { 4 } else { -4 };
                TriangleMarker::new((change.at, f64::from(change.to)), size, colour.filled())
            }))?;
        } else {
            let ticks = changes.map(|change| [(change.at, height), (change.at, 0.95 * height)]);
            chart.draw_series(ticks.map(|tick| PathElement::new(tick, line(*colour, 1))))?;
        }
    }
    let of = comparison
        .policies
        .first()
        .filter(|policy| !policy.changes.is_empty())
        .map_or_else(String::new, |policy| format!(", and the decisions of {}", policy.name));
    let words = format!("workers that exist{of}");
    area.draw_text(&words, &text(13, INK, HPos::Left), (68, 15))?;
    Ok(())
}

fn draw_latency(area: &Area<'_>, comparison: &Comparison, span: (f64, f64), what: &str) -> Result<(), PlotError> {
    let target = comparison.target.latency_seconds;
    let latency = |policy: &Policy| -> Vec<_> {
        segments(&policy.points, |point| point.latency).iter().map(|s| thin(s, span)).collect()
    };
    let all: Vec<_> = comparison.policies.iter().flat_map(latency).collect();
    let highest = top(&all, target * 1.2);
    let height = highest.min(target * MOST_TARGETS);
    let mut chart = panel(area, span, height, &|latency| words::seconds(*latency), true)?;
    chart.draw_series([PathElement::new([(span.0, target), (span.1, target)], line(TARGET, 1))])?;
    for (policy, colour, width) in drawn(comparison) {
        let inside = latency(policy)
            .into_iter()
            .map(|segment| segment.into_iter().map(|(at, latency)| (at, latency.min(height))).collect::<Vec<_>>());
        draw_lines(&mut chart, inside, colour, width)?;
    }
    let share = words::percent(comparison.target.share);
    let of_target = format!("target: {share} within {}", words::seconds(target));
    legend(area, &[(&of_target, TARGET)])?;
    let cut = if highest > height { format!(", cut off at {}", words::seconds(height)) } else { String::new() };
    let x = 68 + 24 + 24 + i32::try_from(of_target.chars().count()).unwrap_or(0) * 7;
    area.draw_text(&format!("{what}{cut}"), &text(13, INK, HPos::Left), (x, 15))?;
    Ok(())
}

fn draw_lines(
    chart: &mut Chart<'_, '_>,
    segments: impl IntoIterator<Item = Vec<(f64, f64)>>,
    colour: RGBColor,
    width: u32,
) -> Result<(), PlotError> {
    for segment in segments {
        chart.draw_series(LineSeries::new(segment, line(colour, width)))?;
    }
    Ok(())
}

/// Returns the first and last time of everything; at least a second apart, because an empty axis cannot be drawn.
fn span(comparison: &Comparison) -> (f64, f64) {
    let points = comparison.policies.iter().flat_map(|policy| policy.points.iter().map(|point| point.at));
    let times = || comparison.load.iter().map(|(at, _)| *at).chain(points.clone()).filter(|at| at.is_finite());
    let first = times().fold(0.0, f64::min);
    (first, times().fold(first + 1.0, f64::max))
}

/// Returns at most the first, the last, the highest and the lowest point of each column of pixels: a day by the second
/// is 86,400 points and looks the same.
fn thin(segment: &[(f64, f64)], span: (f64, f64)) -> Vec<(f64, f64)> {
    let column = |at: f64| ((at - span.0) / (span.1 - span.0) * COLUMNS).floor();
    let mut thinned = Vec::new();
    for piece in segment.chunk_by(|a, b| column(a.0).total_cmp(&column(b.0)).is_eq()) {
        if piece.len() <= 4 {
            thinned.extend_from_slice(piece);
            continue;
        }
        let by_value = |index: &usize, other: &usize| {
            let value = |index: &usize| piece.get(*index).map_or(0.0, |(_, value)| *value);
            value(index).total_cmp(&value(other))
        };
        let mut kept = vec![0, piece.len() - 1];
        kept.extend((0..piece.len()).min_by(by_value));
        kept.extend((0..piece.len()).max_by(by_value));
        kept.sort_unstable();
        kept.dedup();
        thinned.extend(kept.into_iter().filter_map(|index| piece.get(index)).copied());
    }
    thinned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(points: &[Point]) -> Comparison {
        let change = |at, from, to| Change {
            at,
            from,
            to,
            reason: "Growth".into(),
            bound_by: "Objective".into(),
            message: String::new(),
        };
        let policy = |name: &str| Policy {
            name: name.into(),
            summary: "99.9% in time <1.2 times the least>".into(),
            points: points.to_vec(),
            changes: vec![change(1.0, 1, 3), change(2.0, 3, 2), change(1e9, 1, 2)],
        };
        Comparison {
            title: "orders & more".into(),
            target: Target { latency_seconds: 10.0, share: 0.99 },
            load: points.iter().map(|point| (point.at, point.rate.unwrap_or(f64::NAN))).collect(),
            policies: ["sluice", "hpa-70"].map(policy).to_vec(),
        }
    }

    #[test]
    fn names_and_summaries_are_the_legend() {
        let point =
            |at, latency| Point { at, rate: Some(5.0), latency: Some(latency), replicas: Some(2), ..Point::default() };
        let svg = svg(&comparison(&[point(0.0, 1.0), point(5.0, 500.0)])).unwrap();
        for words in
            ["sluice", "hpa-70", "orders &amp; more", "&lt;1.2 times", "target: 99% within 10s", "cut off at 40s"]
        {
            assert!(svg.contains(words), "{words} is not in the plot");
        }
    }

    #[test]
    fn long_run_is_thinned_and_keeps_its_extremes() {
        let mut segment: Vec<(f64, f64)> = (0..86_400).map(|second| (f64::from(second), 1.0)).collect();
        segment[40_000].1 = 99.0;
        segment[50_000].1 = -5.0;
        let thinned = thin(&segment, (0.0, 86_400.0));
        assert!(thinned.len() <= 4 * 921, "{}", thinned.len());
        assert!(thinned.contains(&(40_000.0, 99.0)) && thinned.contains(&(50_000.0, -5.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!((thinned.first(), thinned.last()), (segment.first(), segment.last()));
    }

    #[test]
    fn empty_and_strange_comparisons_can_be_drawn() {
        let strange = Point { at: f64::NAN, latency: Some(f64::INFINITY), ..Point::default() };
        for points in [vec![], vec![Point::default()], vec![strange]] {
            assert!(svg(&comparison(&points)).unwrap().ends_with("</svg>\n"));
        }
        let no_policy = Comparison { policies: vec![], ..comparison(&[]) };
        assert!(svg(&no_policy).is_ok());
    }
}
