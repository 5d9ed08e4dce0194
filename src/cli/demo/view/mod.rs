//! The live view, once a second: a screen where there is a terminal, a line each where there is none.
//!
//! The parts: [`lines`] writes the lines; [`screen`] draws, and [`terminal`] takes the terminal for it and gives it back.

mod lines;
mod screen;
mod terminal;

use std::io::{self, Write as _};

use self::lines::Lines;
use self::terminal::Screen;
use sluice_base::words;
use sluice_report::run::{Change, Point, Target, Work};

/// What is shown.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    /// The scenario and its load, in words.
    pub(super) title: &'a str,
    /// Where to look in with kubectl meanwhile: a line to copy.
    pub(super) way_in: Option<&'a str>,
    /// Seconds that the load lasts.
    pub(super) length: f64,
    pub(super) target: Target,
    /// What was seen so far; the last of them is now.
    pub(super) points: &'a [Point],
    pub(super) changes: &'a [Change],
    /// What the workers have said so far.
    pub(super) work: &'a Work,
    /// In one word: what the operator says of the job.
    pub(super) state: &'a str,
}

impl Scene<'_> {
    fn now(&self) -> Point {
        self.points.last().copied().unwrap_or_default()
    }

    /// The numbers below [`COLUMNS`].
    fn numbers(&self) -> [String; 7] {
        let now = self.now();
        let known = |value: Option<f64>, words: fn(f64) -> String| value.map_or_else(|| "?".to_owned(), words);
        let workers = |value: Option<u32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        [
            workers(now.replicas),
            workers(now.ready),
            workers(now.desired),
            known(now.rate, words::rate),
            known(now.lag, words::count),
            known(now.latency, words::seconds),
            self.work.quantile(0.99),
        ]
    }

    /// What is asked of the job: `99% within 10s`.
    fn objective(&self) -> String {
        format!("{} within {}", words::percent(self.target.share), words::seconds(self.target.latency_seconds))
    }
}

/// Latency is that of the last minute at the objective's percentile, P99 that of all records so far.
const COLUMNS: [&str; 7] = ["REPLICAS", "READY", "DESIRED", "RATE", "LAG", "LATENCY", "P99"];
/// So that columns stay where they are while the numbers change.
const WIDTHS: [usize; 7] = [8, 5, 7, 7, 6, 7, 8];

/// Where the scenes go: to stderr, which is where progress goes; the report alone is the result.
pub(super) struct View {
    lines: Lines<io::Stderr>,
    screen: Option<Screen>,
}

impl View {
    /// The screen, if there is a terminal that can have one; else lines.
    pub(super) fn on_stderr(no_color: bool) -> Self {
        Self { lines: Lines::new(io::stderr()), screen: Screen::take(no_color) }
    }

    /// Shows the scene.
    pub(super) fn show(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        if let Some(screen) = self.screen.as_mut().filter(|_| terminal::is_taken()) {
            return screen.show(scene);
        }
        self.lines.show(scene)
    }

    /// Until the scene must be shown anew, because the terminal has another size now. Lines never must.
    pub(super) async fn resized(&mut self) {
        if let Some(screen) = &mut self.screen {
            return screen.resized().await;
        }
        std::future::pending::<()>().await;
    }
}

/// Says something to the person who looks on: on the screen, or in a line. Nobody need be there to read it.
pub(super) fn say(words: &str) {
    if terminal::keep(words) {
        return;
    }
    let _ = writeln!(io::stderr(), "demo: {words}");
}

/// A scene for tests.
#[cfg(test)]
mod test {
    use super::*;

    pub(super) fn change(at: f64) -> Change {
        Change {
            at,
            from: 4,
            to: 7,
            reason: "Growth".into(),
            bound_by: "Objective".into(),
            message: "4 -> 7: 5.4k/s arriving and growing; 4 workers do 4.8k/s; 7 keep the latency within 10s".into(),
        }
    }

    pub(super) fn point(at: f64) -> Point {
        Point {
            at,
            rate: Some(5400.0),
            lag: Some(12_400.0),
            desired: Some(7),
            replicas: Some(5),
            ready: Some(4),
            ..Point::default()
        }
    }

    pub(super) fn work() -> Work {
        Work {
            workers: 5,
            processed: 123_456,
            in_time: 123_000,
            latency_buckets_milliseconds: vec![(Some(250.0), 123_400), (None, 56)],
            ..Work::default()
        }
    }

    pub(super) fn scene<'a>(points: &'a [Point], changes: &'a [Change], work: &'a Work) -> Scene<'a> {
        Scene {
            title: "trace: a day of advertisements, 18h in 3m, up to 6k/s",
            way_in: Some("export KUBECONFIG=/tmp/sluice-demo-0123456789ab/kubeconfig"),
            length: 180.0,
            target: Target { latency_seconds: 10.0, share: 0.99 },
            points,
            changes,
            work,
            state: "CatchingUp",
        }
    }
}
