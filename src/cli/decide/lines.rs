//! Reads the lines of a stream one at a time, with bounded memory.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read};

/// Maximum length of a line, bytes; a longer one is rejected without being stored. 100 partitions and 40 workers take
/// 30 KB.
pub(super) const MAX_LINE_BYTES: usize = 16 << 20;

/// Size of the read buffer, bytes: a few dozen lines.
const BUFFER_BYTES: usize = 1 << 18;

/// Reads lines and counts them.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    max_bytes: usize,
    line: Vec<u8>,
    number: u64,
}

/// A line of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// The bytes of the line, without the line break.
    Text(&'a [u8]),
    /// The line exceeds the maximum length.
    TooLong,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R, max_bytes: usize) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER_BYTES, input), max_bytes, line: Vec::new(), number: 0 }
    }

    /// Returns the next line and its number, from 1; `None` at the end. `before_waiting` is called before each read
    /// that may block, so that a client that waits for the decision before it sends the next line gets it.
    pub(super) fn next(
        &mut self,
        mut before_waiting: impl FnMut() -> io::Result<()>,
    ) -> io::Result<Option<(u64, Line<'_>)>> {
        self.line.clear();
        let (mut begun, mut too_long) = (false, false);
        loop {
            if self.reader.buffer().is_empty() {
                before_waiting()?;
            }
            let bytes = match self.reader.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            let end = memchr::memchr(b'\n', bytes);
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            begun |= !bytes.is_empty();
            too_long |= self.line.len() + part.len() > self.max_bytes;
            if !too_long {
                self.line.extend_from_slice(part);
            }
            let (taken, over) = (part.len() + usize::from(end.is_some()), end.is_some() || bytes.is_empty());
            self.reader.consume(taken);
            if over {
                break;
            }
        }
        if !begun {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some((self.number, if too_long { Line::TooLong } else { Line::Text(&self.line) })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, max_bytes: usize) -> Vec<String> {
        let mut lines = Lines::new(text.as_bytes(), max_bytes);
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next(|| Ok(())).unwrap() {
            all.push(match line {
                Line::Text(line) => format!("{number} {}", String::from_utf8_lossy(line)),
                Line::TooLong => format!("{number} too long"),
            });
        }
        all
    }

    #[test]
    fn lines_are_numbered_and_the_last_needs_no_break() {
        assert_eq!(all("a\n\nbc", 10), ["1 a", "2 ", "3 bc"]);
        assert_eq!(all("a\n", 10), ["1 a"]);
        assert!(all("", 10).is_empty());
    }

    #[test]
    fn a_too_long_line_is_not_stored_and_the_next_is_read() {
        let long = "x".repeat(3 * BUFFER_BYTES);
        let mut lines = Lines::new(io::Cursor::new(format!("{long}\nshort\n{long}")), 100);
        assert_eq!(lines.next(|| Ok(())).unwrap(), Some((1, Line::TooLong)));
        assert!(lines.line.capacity() <= 200, "{}", lines.line.capacity());
        assert_eq!(lines.next(|| Ok(())).unwrap(), Some((2, Line::Text(b"short"))));
        assert_eq!(lines.next(|| Ok(())).unwrap(), Some((3, Line::TooLong)));
        assert_eq!(lines.next(|| Ok(())).unwrap(), None);
        assert_eq!(all("12345\n123456\n", 5), ["1 12345", "2 too long"]);
    }
}
