//! Tests of [`super`]: the whole screen, compared with the text files in this folder.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;

use super::super::test::{change, point, snapshot, work};
use super::*;

/// Returns two waves of load, which the workers follow with some seconds of delay.
fn points() -> Vec<Point> {
    let load = |at: f64| 3000.0 - 2400.0 * (at / 60.0 * std::f64::consts::TAU).cos();
    let workers = |at: f64| (load(at.max(0.0)) / 1200.0).ceil();
    let whole = |workers: f64| (1..=5_u32).rev().find(|n| f64::from(*n) <= workers).unwrap();
    (0..=110)
        .map(f64::from)
        .map(|at| Point {
            rate: Some(load(at)),
            capacity: Some(1200.0 * workers(at - 5.0)),
            // A gap, as when the operator's metrics page does not respond.
            latency: (!(60.0..66.0).contains(&at)).then(|| 1.0 + 3.0 * (at / 20.0).sin().abs()),
            desired: Some(whole(workers(at))),
            replicas: Some(whole(workers(at - 3.0))),
            ready: Some(whole(workers(at - 5.0))),
            ..point(at)
        })
        .collect()
}

fn drawn(width: u16, height: u16, snapshot: &Snapshot<'_>, messages: &[String], palette: Palette) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, snapshot, messages, palette)).unwrap();
    terminal.backend().clone()
}

/// Returns the lines without trailing blanks.
fn text(backend: &TestBackend) -> String {
    let rows = backend.buffer().content().chunks(usize::from(backend.buffer().area.width));
    rows.map(|row| row.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned() + "\n").collect()
}

const PLAIN: Palette = Palette { color: false };

#[test]
fn the_screen_equals_its_text_files() {
    let (points, work) = (points(), work());
    let changes: Vec<_> = [8.0, 15.0, 21.0, 74.0, 80.0].map(change).into();
    let messages = ["fault injection: appended a batch that cannot be decoded".to_owned()];
    for (width, height, messages) in [(80, 24, &[][..]), (120, 40, &messages[..]), (60, 15, &[][..])] {
        let file = format!("{}/src/cli/demo/view/screen_{width}x{height}.txt", env!("CARGO_MANIFEST_DIR"));
        let kept = std::fs::read_to_string(file).unwrap();
        let text = text(&drawn(width, height, &snapshot(&points, &changes, &work), messages, PLAIN));
        assert!(text == kept, "screen_{width}x{height}.txt differs from what is drawn:\n{text}");
    }
}

#[test]
fn every_size_can_be_drawn_with_and_without_numbers() {
    let (points, nothing) = (points(), sluice_report::run::Work::default());
    let changes = [change(8.0)];
    for width in [1, 10, 39, 57, 80, 200] {
        for height in 1..60 {
            drawn(width, height, &snapshot(&points, &changes, &nothing), &["message".to_owned()], PLAIN);
            drawn(width, height, &snapshot(&[], &[], &nothing), &[], PLAIN);
        }
    }
    let strange = [Point { at: f64::NAN, rate: Some(f64::INFINITY), latency: Some(f64::NAN), ..Point::default() }];
    drawn(80, 24, &snapshot(&strange, &[], &nothing), &[], PLAIN);
}

#[test]
fn lateness_is_red_only_with_colours() {
    let (mut points, mut work) = (points(), work());
    let red = |backend: &TestBackend, row: u16| {
        let cells = (0..80).filter_map(|column| backend.buffer().cell((column, row)));
        cells.filter(|cell| cell.fg == Color::Red).map(|cell| cell.symbol().to_owned()).collect::<String>()
    };
    let colors = Palette { color: true };
    let well = drawn(80, 24, &snapshot(&points, &[], &work), &[], colors);
    assert_eq!((red(&well, 1), red(&well, 4)), (String::new(), String::new()));
    work.in_time = 122_000;
    points.last_mut().unwrap().latency = Some(12.0);
    let badly = drawn(80, 24, &snapshot(&points, &[], &work), &[], colors);
    assert_eq!(red(&badly, 1), "BEHIND");
    assert!(red(&badly, 4).contains("12s"));
    let plain = drawn(80, 24, &snapshot(&points, &[], &work), &[], PLAIN);
    assert!(plain.buffer().content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
}

#[test]
fn chart_scales_end_in_easily_halved_numbers() {
    for (value, top) in
        [(0.0, 0.001), (0.9, 1.0), (1.0, 1.0), (2.1, 4.0), (3300.0, 4000.0), (6100.0, 8000.0), (8100.0, 10_000.0)]
    {
        assert!((round_up(value) - top).abs() < 1e-9, "{value}: {}", round_up(value));
    }
}
