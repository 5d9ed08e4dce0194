//! Load traces: `t_seconds,records_per_second` per line, each rate holding until the next line's time.

use std::path::{Path, PathBuf};

/// A rate that holds for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Seconds; more than 0.
    pub seconds: f64,
    /// Records per second; 0 or more.
    pub rate: f64,
}

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read the trace {path}: {source}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("{path}:{line}: expected {expected}, found {found:?}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// There are no rates in it.
    #[error("{path}: expected lines with `t_seconds,records_per_second`, found fewer than two")]
    Short {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a trace from a file.
pub fn read(path: &Path) -> Result<Vec<Step>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&text, path)
}

/// Parses a trace; `path` is for the messages. The last rate holds as long as the one before it.
pub fn parse(text: &str, path: &Path) -> Result<Vec<Step>, Error> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') || (index == 0 && trimmed.starts_with("t_seconds")) {
            continue;
        }
        let wrong = |expected| {
            // A binary file has lines of any length; the message has not.
            let found = trimmed.chars().take(60).collect();
            Error::Line { path: path.to_owned(), line: index + 1, expected, found }
        };
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let (time, rate) =
            trimmed.split_once(',').ok_or_else(|| wrong("`t_seconds,records_per_second`, such as `60,1500`"))?;
        let time = number(time).ok_or_else(|| wrong("a number of seconds before the comma"))?;
        let rate = number(rate)
            .filter(|rate| *rate >= 0.0)
            .ok_or_else(|| wrong("a number of records per second, 0 or more, after the comma"))?;
        if points.last().is_some_and(|(last, _)| time <= *last) {
            return Err(wrong("a time after that of the line before"));
        }
        points.push((time, rate));
    }
    if points.len() < 2 {
        return Err(Error::Short { path: path.to_owned() });
    }
    let mut steps: Vec<Step> = points
        .iter()
        .zip(points.iter().skip(1))
        .map(|((time, rate), (next, _))| Step { seconds: next - time, rate: *rate })
        .collect();
    if let (Some(seconds), Some((_, rate))) = (steps.last().map(|step| step.seconds), points.last()) {
        steps.push(Step { seconds, rate: *rate });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rate_holds_until_the_next_line() {
        let steps = parse("t_seconds,records_per_second\n0,100\n60, 250.5\n\n90,0\n", Path::new("t.csv")).unwrap();
        assert_eq!(
            steps,
            [
                Step { seconds: 60.0, rate: 100.0 },
                Step { seconds: 30.0, rate: 250.5 },
                Step { seconds: 30.0, rate: 0.0 }
            ]
        );
    }

    #[test]
    fn a_wrong_line_is_named_with_what_was_expected() {
        for (text, message) in [
            ("0,1\nsixty,2", "t.csv:2: expected a number of seconds before the comma, found \"sixty,2\""),
            ("0,1\n60", "t.csv:2: expected `t_seconds,records_per_second`"),
            ("0,1\n60,-5", "t.csv:2: expected a number of records per second, 0 or more"),
            ("0,1\n60,NaN", "t.csv:2: expected a number of records per second"),
            ("0,1\n60,1,2", "t.csv:2: expected a number of records per second"),
            ("0,1\n60,2\n60,3", "t.csv:3: expected a time after that of the line before"),
            ("", "t.csv: expected lines with"),
            ("t_seconds,records_per_second\n0,5", "found fewer than two"),
        ] {
            let error = parse(text, Path::new("t.csv")).unwrap_err().to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}
