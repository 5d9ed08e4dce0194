//! Reads a container's log.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::Logs;

/// A line of a container's output, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When the container wrote it.
    pub time: Timestamp,
    /// The text, with its line feed if the line is complete.
    pub text: Vec<u8>,
}

/// Which lines of a log to return, and how.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// The most lines, counted from the end.
    pub tail: Option<usize>,
    /// The time before which lines are left out.
    pub since: Option<Timestamp>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// The most bytes.
    pub bytes: Option<usize>,
}

impl LogOptions {
    /// Returns the selected lines as they are sent to a client.
    pub fn render<'a>(&self, lines: impl IntoIterator<Item = &'a Line>) -> Vec<u8> {
        let mut rendered = Vec::new();
        for line in lines.into_iter().filter(|line| self.since.is_none_or(|since| line.time >= since)) {
            if self.timestamps {
                rendered.extend_from_slice(format!("{} ", line.time).as_bytes());
            }
            rendered.extend_from_slice(&line.text);
        }
        rendered
    }
}

/// Parses a line of a log file, without its line feed. `None`: it does not have the format of a log.
pub fn parse(line: &[u8]) -> Option<Line> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let _stream = parts.next()?;
    let whole = parts.next()? == b"F";
    let mut text = parts.next()?.to_vec();
    if whole {
        text.push(b'\n');
    }
    Some(Line { time, text })
}

/// Returns all lines of a log, the older half first. A missing file is an empty log: the container has written
/// nothing.
pub fn read(file: &Path) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for path in [Logs::older(file), file.to_owned()] {
        match std::fs::read(&path) {
            Ok(bytes) => lines.extend(bytes.split(|byte| *byte == b'\n').filter_map(parse)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lines)
}

/// Returns the last `count` lines. Parts of one line count as one.
pub fn last(lines: &[Line], count: usize) -> &[Line] {
    let ends = |at: usize| lines.get(at).is_some_and(|line| line.text.ends_with(b"\n"));
    let mut from = lines.len();
    let mut found = 0;
    while from > 0 {
        let starts_after_an_end = from == lines.len() || ends(from - 1);
        if starts_after_an_end && found == count {
            break;
        }
        if starts_after_an_end {
            found += 1;
        }
        from -= 1;
    }
    lines.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        let line = |text: &&str| Line { time: Timestamp::UNIX_EPOCH, text: text.as_bytes().to_vec() };
        texts.iter().map(line).collect()
    }

    fn tail(texts: &[&str], count: usize) -> String {
        String::from_utf8(LogOptions::default().render(last(&lines(texts), count))).unwrap()
    }

    #[test]
    fn tail_counts_whole_lines() {
        assert_eq!(tail(&["a\n", "b\n", "c\n"], 2), "b\nc\n");
        assert_eq!(tail(&["a\n", "b", "b\n", "c\n"], 2), "bb\nc\n");
        assert_eq!(tail(&["a\n", "b", "b\n", "c"], 2), "bb\nc");
        assert_eq!(tail(&["a\n"], 5), "a\n");
        assert_eq!(tail(&["a\n"], 0), "");
    }

    #[test]
    fn lines_parse_as_a_runtime_writes_them() {
        let line = parse(b"2026-01-02T03:04:05.5Z stdout F two words").unwrap();
        assert_eq!(line.text, b"two words\n");
        assert_eq!(line.time.as_millisecond() % 1000, 500);
        assert_eq!(parse(b"2026-01-02T03:04:05.5Z stderr P part").unwrap().text, b"part");
        assert_eq!(parse(b"something else"), None);
        assert_eq!(parse(b""), None);
    }
}
