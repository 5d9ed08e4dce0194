//! The live view, updated once per second: a full screen on a terminal, otherwise lines.
//!
//! The modules: [`lines`] writes the lines, [`screen`] draws the screen, and [`terminal`] switches the terminal to it
//! and back.

mod lines;
mod screen;
mod terminal;

use std::io::{self, Write as _};

use self::lines::Lines;
use self::terminal::Screen;
use sluice_base::words;
use sluice_report::run::{Change, Point, Target, Work};

/// The state of the demo at one moment, to be displayed.
#[derive(Debug)]
pub(super) struct Snapshot<'a> {
    /// Description of the scenario and its load.
    pub(super) title: &'a str,
    /// Shell command that points kubectl at the cluster, to copy.
    pub(super) kubectl_hint: Option<&'a str>,
    /// Length of the load, seconds.
    pub(super) length: f64,
    pub(super) target: Target,
    /// The measurements so far; the last one is the current one.
    pub(super) points: &'a [Point],
    /// The decisions that changed the replica count.
    pub(super) changes: &'a [Change],
    /// The workers' totals so far.
    pub(super) work: &'a Work,
    /// The state of the job as reported by the operator, one word.
    pub(super) state: &'a str,
}

impl Snapshot<'_> {
    fn latest(&self) -> Point {
        self.points.last().copied().unwrap_or_default()
    }

    /// Returns the values of [`COLUMNS`].
    fn numbers(&self) -> [String; 7] {
        let latest = self.latest();
        let known = |value: Option<f64>, words: fn(f64) -> String| value.map_or_else(|| "?".to_owned(), words);
        let workers = |value: Option<u32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        [
            workers(latest.replicas),
            workers(latest.ready),
            workers(latest.desired),
            known(latest.rate, words::rate),
            known(latest.lag, words::count),
            known(latest.latency, words::seconds),
            self.work.quantile(0.99),
        ]
    }

    /// Returns the job's objective, such as `99% within 10s`.
    fn objective(&self) -> String {
        format!("{} within {}", words::percent(self.target.share), words::seconds(self.target.latency_seconds))
    }
}

/// LATENCY is at the objective's percentile over the last minute; P99 is over all records so far.
const COLUMNS: [&str; 7] = ["REPLICAS", "READY", "DESIRED", "RATE", "LAG", "LATENCY", "P99"];
/// Minimum column widths, so that columns keep their position while the numbers change.
const WIDTHS: [usize; 7] = [8, 5, 7, 7, 6, 7, 8];

/// Displays snapshots on stderr, because they are progress; only the report goes to stdout.
pub(super) struct View {
    lines: Lines<io::Stderr>,
    screen: Option<Screen>,
}

impl View {
    /// Uses the full screen if stderr is a suitable terminal, otherwise lines.
    pub(super) fn on_stderr(no_color: bool) -> Self {
        Self { lines: Lines::new(io::stderr()), screen: Screen::start(no_color) }
    }

    /// Displays the snapshot.
    pub(super) fn show(&mut self, snapshot: &Snapshot<'_>) -> io::Result<()> {
        if let Some(screen) = self.screen.as_mut().filter(|_| terminal::is_active()) {
            return screen.show(snapshot);
        }
        self.lines.show(snapshot)
    }

    /// Waits until the snapshot must be drawn again because the terminal was resized. Never returns for lines.
    pub(super) async fn resized(&mut self) {
        if let Some(screen) = &mut self.screen {
            return screen.resized().await;
        }
        std::future::pending::<()>().await;
    }
}

/// Prints a progress message for the user: on the screen, or as a line. Write errors are ignored.
pub(super) fn print_message(message: &str) {
    if terminal::queue_message(message) {
        return;
    }
    let _ = writeln!(io::stderr(), "demo: {message}");
}

/// Snapshots for tests.
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

    pub(super) fn snapshot<'a>(points: &'a [Point], changes: &'a [Change], work: &'a Work) -> Snapshot<'a> {
        Snapshot {
            title: "trace: a day of advertisements, 18h in 3m, up to 6k/s",
            kubectl_hint: Some("export KUBECONFIG=/tmp/sluice-demo-0123456789ab/kubeconfig"),
            length: 180.0,
            target: Target { latency_seconds: 10.0, share: 0.99 },
            points,
            changes,
            work,
            state: "CatchingUp",
        }
    }
}
