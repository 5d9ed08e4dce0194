//! Load traces: lines of `seconds,records_per_second`, for the simulator and for the load generator.

use std::path::{Path, PathBuf};

use sluice_base::text::truncate as shortened;
use sluice_base::words;

/// Points (seconds, records per second), in ascending order of time.
pub type Points = Vec<(f64, f64)>;

/// Largest number that is accepted; a larger one is a mistake.
const ABSURD: f64 = 1e12;

/// Factor on the median time step beyond which a step is a gap.
const GAP: f64 = 10.0;

/// Accepted names of the columns; the first ones are preferred.
const TIMES: [&str; 5] = ["seconds", "t_seconds", "time_seconds", "time", "t"];
const RATES: [&str; 4] = ["records_per_second", "rate", "rps", "records"];

/// How to treat a time step that is much longer than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gaps {
    /// As an error: records of that time are likely to be missing.
    Refused,
    /// As a long step like any other.
    Allowed,
}

/// An error in a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("failed to read the trace {path}: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: std::io::Error,
    },
    /// A line has the wrong form.
    #[error("{name}:{line}: expected {expected}, found {found:?}")]
    Line {
        /// Name of the trace.
        name: String,
        /// Number of the line, from 1.
        line: usize,
        /// What was expected.
        expected: String,
        /// Text that was found instead.
        found: String,
    },
    /// A time step is much longer than the others.
    #[error("{name}:{line}: expected a time within {} of {after}, ten times the usual step, found {found}: records of {} are likely to be missing", words::seconds(*.longest), words::seconds(.found - .after))]
    Gap {
        /// Name of the trace.
        name: String,
        /// Number of the line after the gap, from 1.
        line: usize,
        /// Time at which the gap begins, seconds.
        after: f64,
        /// Time at which it ends, seconds.
        found: f64,
        /// Longest step that is allowed, seconds.
        longest: f64,
    },
    /// The trace has too few points.
    #[error("{name}: expected at least two lines of `seconds,records_per_second`, found {found}")]
    Short {
        /// Name of the trace.
        name: String,
        /// Number of lines with numbers.
        found: usize,
    },
}

/// Reads a trace from a file.
pub fn read(path: &Path, gaps: Gaps) -> Result<Points, TraceError> {
    let text = std::fs::read_to_string(path).map_err(|source| TraceError::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &text, gaps)
}

/// Parses a trace; `name` is for messages. Blank lines and lines that begin with `#` are skipped; the first other line
/// may name the columns.
pub fn parse(name: &str, text: &str, gaps: Gaps) -> Result<Points, TraceError> {
    let mut points = Points::new();
    // The line of each point, for errors that can only be found once all points are known.
    let mut lines = Vec::new();
    let mut first = true;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let wrong = |expected: String| {
            // A binary file has lines of any length, and a message must not.
            TraceError::Line { name: name.to_owned(), line: number, expected, found: shortened(line, 60) }
        };
        let is_first = std::mem::replace(&mut first, false);
        if is_first && names_columns(line).map_err(wrong)? {
            continue;
        }
        let last = points.last().map(|(time, _)| *time);
        points.push(point(line, last).map_err(wrong)?);
        lines.push(number);
    }
    if points.len() < 2 {
        return Err(TraceError::Short { name: name.to_owned(), found: points.len() });
    }
    match gap(&points).filter(|_| gaps == Gaps::Refused) {
        Some((index, longest)) => {
            let line = lines.get(index).copied().unwrap_or_default();
            let time = |index: usize| points.get(index).map_or(0.0, |(time, _)| *time);
            Err(TraceError::Gap { name: name.to_owned(), line, after: time(index - 1), found: time(index), longest })
        }
        None => Ok(points),
    }
}

/// Returns whether the line names the columns; an error if it names others.
fn names_columns(line: &str) -> Result<bool, String> {
    if line.split(',').any(|cell| cell.trim().parse::<f64>().is_ok()) {
        return Ok(false);
    }
    let cells: Vec<String> = line.split(',').map(|cell| cell.trim().trim_matches('"').to_ascii_lowercase()).collect();
    let known = |names: &[&str], cell: &String| names.contains(&cell.as_str());
    match cells.as_slice() {
        [time, rate] if known(&TIMES, time) && known(&RATES, rate) => Ok(true),
        _ => Err("the columns `seconds,records_per_second`, or numbers such as `60,1500`".to_owned()),
    }
}

fn point(line: &str, last: Option<f64>) -> Result<(f64, f64), String> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    let [time, rate] = cells.as_slice() else {
        return Err(format!("two columns, `seconds,records_per_second`, and not {}", cells.len()));
    };
    let number = |cell: &str| cell.parse::<f64>().ok().filter(|number| (0.0..=ABSURD).contains(number));
    let time = number(time).ok_or("a number of seconds before the comma, from 0 to 1e12")?;
    let rate = number(rate).ok_or("a number of records per second after the comma, from 0 to 1e12")?;
    match last {
        Some(last) if time <= last => Err(format!("a time after {last}, that of the line before")),
        _ => Ok((time, rate)),
    }
}

/// Returns the first point after a gap, and how long a step may be.
fn gap(points: &[(f64, f64)]) -> Option<(usize, f64)> {
    let steps: Vec<f64> = points.windows(2).filter_map(|pair| Some(pair.last()?.0 - pair.first()?.0)).collect();
    let mut sorted = steps.clone();
    sorted.sort_by(f64::total_cmp);
    let longest = GAP * sorted.get(sorted.len() / 2)?;
    let index = steps.iter().position(|step| *step > longest)?;
    Some((index + 1, longest))
}

/// Returns the rate that is exceeded for a thousandth of the time: the peak without single outliers. Each rate holds
/// until the next point.
pub fn peak(points: &[(f64, f64)]) -> f64 {
    let mut held: Vec<(f64, f64)> =
        points.windows(2).filter_map(|pair| Some((pair.first()?.1, pair.last()?.0 - pair.first()?.0))).collect();
    held.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut left = held.iter().map(|(_, seconds)| seconds).sum::<f64>() / 1000.0;
    for (rate, seconds) in &held {
        left -= seconds;
        if left < 0.0 {
            return *rate;
        }
    }
    points.first().map_or(0.0, |(_, rate)| *rate)
}

/// Multiplies every rate so that [`peak`] becomes `peak`; a load of zero stays zero.
pub fn scale_to(points: &mut [(f64, f64)], peak: f64) {
    let present = self::peak(points);
    if present > 0.0 {
        for (_, rate) in points {
            *rate *= peak / present;
        }
    }
}

/// Cuts the trace to a number of seconds from its first point.
pub fn cut(points: &mut Points, seconds: f64) {
    let Some(end) = points.first().map(|(first, _)| first + seconds) else { return };
    let kept = points.partition_point(|(time, _)| *time <= end);
    if let (Some(&(time, rate)), Some(&(next, then))) = (points.get(kept.saturating_sub(1)), points.get(kept)) {
        points.truncate(kept);
        if time < end {
            points.push((end, rate + (then - rate) * (end - time) / (next - time)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_with_and_without_a_heading() {
        let expected = [(0.0, 100.0), (60.0, 250.5), (90.0, 0.0)];
        for text in [
            "t_seconds,records_per_second\n0,100\n60, 250.5\n\n90,0\n",
            "\u{feff}Seconds , Rate\r\n0,100\r\n60,250.5\r\n90,0",
            "# made by hand\n0,100\n# a comment\n6e1,2505e-1\n90,0",
        ] {
            assert_eq!(parse("t.csv", text, Gaps::Refused).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn wrong_line_is_named_with_the_expected_form() {
        for (text, message) in [
            (
                "0,1\nsixty,2",
                "t.csv:2: expected a number of seconds before the comma, from 0 to 1e12, found \"sixty,2\"",
            ),
            ("0,1\n60", "t.csv:2: expected two columns, `seconds,records_per_second`, and not 1"),
            ("0,1\n60,1,2", "t.csv:2: expected two columns, `seconds,records_per_second`, and not 3"),
            ("0,1\n60,-5", "t.csv:2: expected a number of records per second after the comma"),
            ("0,1\n60,NaN", "t.csv:2: expected a number of records per second after the comma"),
            ("NaN,1\n60,1", "t.csv:1: expected a number of seconds before the comma"),
            ("0,1\n60,inf", "t.csv:2: expected a number of records per second"),
            ("0,1\n60,1e13", "from 0 to 1e12"),
            ("-1,1\n60,1", "t.csv:1: expected a number of seconds"),
            ("0,1\n60,", "t.csv:2: expected a number of records per second"),
            ("0,1\n60,2\n60,3", "t.csv:3: expected a time after 60, that of the line before, found \"60,3\""),
            ("0,1\n60,2\n# so\n30,3", "t.csv:4: expected a time after 60"),
            ("records_per_second,seconds\n0,1\n1,1", "t.csv:1: expected the columns `seconds,records_per_second`"),
            ("time,value\n0,1\n1,1", "t.csv:1: expected the columns"),
            ("0,1\nt,rate\n1,1", "t.csv:2: expected a number of seconds"),
            ("", "t.csv: expected at least two lines of `seconds,records_per_second`, found 0"),
            ("t_seconds,records_per_second\n0,5", "found 1"),
            (
                "0,1\n1,1\n2,1\n15,1",
                "t.csv:4: expected a time within 10s of 2, ten times the usual step, found 15: records of 13s are likely to be missing",
            ),
        ] {
            let error = parse("t.csv", text, Gaps::Refused).unwrap_err().to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
        let missing = read(Path::new("/nonexistent.csv"), Gaps::Refused).unwrap_err().to_string();
        assert!(missing.starts_with("failed to read the trace /nonexistent.csv"), "{missing}");
    }

    #[test]
    fn gap_can_be_allowed_and_ten_steps_are_not_a_gap() {
        assert_eq!(parse("t", "0,1\n1,1\n2,1\n15,1", Gaps::Allowed).unwrap().len(), 4);
        assert_eq!(parse("t", "0,1\n1,1\n2,1\n12,1", Gaps::Refused).unwrap().len(), 4);
        assert_eq!(parse("t", "0,1\n3600,1", Gaps::Refused).unwrap().len(), 2, "a single step is the usual one");
    }

    #[test]
    fn peak_ignores_single_outliers() {
        let mut points: Points = (0..5000).map(|second| (f64::from(second), f64::from(second % 100))).collect();
        points[777].1 = 1e6;
        assert!((peak(&points) - 99.0).abs() < 1e-9, "{}", peak(&points));
        scale_to(&mut points, 990.0);
        assert!((peak(&points) - 990.0).abs() < 1e-6 && (points[50].1 - 500.0).abs() < 1e-6);
        let mut nothing = vec![(0.0, 0.0), (1.0, 0.0)];
        scale_to(&mut nothing, 5.0);
        assert_eq!(nothing, [(0.0, 0.0), (1.0, 0.0)]);
        assert!((peak(&[(0.0, 5.0), (10.0, 1.0), (20.0, 1.0)]) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_cut_ends_on_the_line_between_two_points() {
        let points = vec![(5.0, 10.0), (15.0, 20.0), (25.0, 20.0)];
        for (seconds, kept) in [
            (5.0, vec![(5.0, 10.0), (10.0, 15.0)]),
            (10.0, vec![(5.0, 10.0), (15.0, 20.0)]),
            (20.0, points.clone()),
            (99.0, points.clone()),
        ] {
            let mut points = points.clone();
            cut(&mut points, seconds);
            assert_eq!(points, kept, "{seconds}");
        }
    }

    /// The traces that come with Sluice: each can be read, and is named with its licence.
    #[test]
    fn every_example_is_read_and_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/traces");
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "csv") {
                continue;
            }
            count += 1;
            let points = read(&path, Gaps::Refused).unwrap_or_else(|error| panic!("{error}"));
            assert!(points.len() > 1000, "{}", path.display());
            let name = path.file_name().unwrap().to_str().unwrap();
            let row = readme.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_else(|| {
                panic!("examples/traces/README.md has no row for {name}: where is it from, and under which licence?")
            });
            assert!(["Apache-2.0", "MIT", "CC-BY-4.0", "made here"].iter().any(|l| row.contains(l)), "{row}");
        }
        assert!(count >= 11, "{count}");
    }
}
