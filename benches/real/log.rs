//! A cell's log: what was seen, and each decision in its place, so that one can see why.

use std::fmt::Write as _;

use super::verdict::Verdict;

/// Seconds between two lines without a decision.
const EVERY: f64 = 5.0;

pub(crate) fn text(verdict: &Verdict) -> String {
    let mut text = format!("{}: {}\n{}\n\n", verdict.cell, verdict.what, verdict.sentence());
    text.push_str("Waiting is by the workers' lines, which are up to a second old.\n\n");
    text.push_str("    time     rate   waiting  p99 of the second  late so far  wanted  pods  ready\n");
    let mut changes = verdict.measured.changes.iter().peekable();
    let mut next = 0.0;
    for point in &verdict.measured.points {
        while let Some(change) = changes.next_if(|change| change.at <= point.at) {
            let (reason, bound_by) = (&change.reason, &change.bound_by);
            let _ = writeln!(text, "{:7.1} s {} ({reason}, {bound_by})", change.at, change.message);
        }
        if point.at < next {
            continue;
        }
        next = (point.at / EVERY).floor() * EVERY + EVERY;
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
