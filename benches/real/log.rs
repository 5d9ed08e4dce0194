//! The log of a cell: the measurements, with each decision at its time.

use std::fmt::Write as _;

use super::result::CellResult;

/// Interval of lines without a decision, seconds.
const INTERVAL: f64 = 5.0;

pub(crate) fn text(result: &CellResult) -> String {
    let mut text = format!("{}: {}\n{}\n\n", result.cell, result.what, result.summary());
    text.push_str("Waiting records are calculated from the workers' totals, which are up to a second old.\n\n");
    text.push_str("    time     rate   waiting  p99 of the second  late so far desired  pods  ready\n");
    let mut changes = result.measured.changes.iter().peekable();
    let mut next = 0.0;
    for point in &result.measured.points {
        while let Some(change) = changes.next_if(|change| change.at <= point.at) {
            let (reason, bound_by) = (&change.reason, &change.bound_by);
            let _ = writeln!(text, "{:7.1} s {} ({reason}, {bound_by})", change.at, change.message);
        }
        if point.at < next {
            continue;
        }
        next = (point.at / INTERVAL).floor() * INTERVAL + INTERVAL;
        let p99 = point.p99_seconds.map_or_else(String::new, |p99| format!("{p99:.2} s"));
        let wanted = point.wanted.map_or_else(String::new, |wanted| wanted.to_string());
        let waiting = point.produced.saturating_sub(point.processed);
        let _ = writeln!(
            text,
            "{:7.1} s {:6.0}/s {waiting:9} {p99:>18} {:12} {wanted:>7} {:5} {:6}",
            point.at, point.rate, point.late, point.pods, point.ready
        );
    }
    for change in changes {
        let _ = writeln!(text, "{:7.1} s {} ({}, {})", change.at, change.message, change.reason, change.bound_by);
    }
    text
}
