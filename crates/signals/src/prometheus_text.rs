//! A parser of the Prometheus text format, as far as a scraper of a few known metrics needs it.
//!
//! Written by hand because no published parser handled all of it correctly (escapes, commas and braces inside label
//! values, exemplars, CRLF, trailing commas), and because most lines of a page need no parsing at all: the metric's
//! name decides before the labels are read. Accepts the classic format and OpenMetrics. A line that cannot be parsed is
//! an error of that line only.
//!
//! Grammar: <https://prometheus.io/docs/instrumenting/exposition_formats/>, <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

/// Maximum length of a line, in bytes. A longer line is an error, and is skipped without being kept.
pub const LONGEST_LINE: usize = 64 << 10;

/// A parsed line.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    /// A blank line, a comment, or a metric that is not wanted (of which only the name was read).
    Other,
    /// A wanted sample.
    Sample(MetricSample<'a>),
    /// A wanted sample that cannot be parsed.
    Malformed {
        /// Name of the metric.
        name: &'a str,
    },
}

/// One sample. Timestamps and exemplars are parsed and dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricSample<'a> {
    /// Name of the metric.
    pub name: &'a str,
    /// Labels of the sample.
    pub labels: Labels<'a>,
    /// Value of the sample: any float, including NaN and the infinities.
    pub value: f64,
}

/// The text between the braces, known to be well-formed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Labels<'a>(&'a str);

impl<'a> Labels<'a> {
    /// Returns the value of a label, unescaped; borrowed unless it has escapes.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.iter().find_map(|(each, value)| (each == name).then_some(value))
    }

    /// Returns every label with its value, in the order of the page.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (label, after) = label(rest)?;
            rest = after;
            Some((label.name, unescape(label.value)))
        })
    }
}

/// Parses one line, without its line feed. `wanted` decides by the metric's name.
pub fn parse_line(line: &[u8], wanted: impl FnOnce(&str) -> bool) -> Line<'_> {
    let line = line.trim_ascii();
    let end = memchr3(b'{', b' ', b'\t', line).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    // A comment, or `{"a name in quotes"}`: no wanted metric needs quotes.
    if name.is_empty() || name[0] == b'#' {
        return Line::Other;
    }
    let Ok(name) = std::str::from_utf8(name) else { return Line::Other };
    if !wanted(name) {
        return Line::Other;
    }
    match std::str::from_utf8(rest).ok().and_then(labels_and_value) {
        Some((labels, value)) => Line::Sample(MetricSample { name, labels, value }),
        None => Line::Malformed { name },
    }
}

fn labels_and_value(rest: &str) -> Option<(Labels<'_>, f64)> {
    let rest = rest.trim_ascii_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => {
            let end = closing_brace(inside)?;
            let (labels, rest) = inside.split_at(end);
            (Labels(labels), &rest[1..])
        }
        None => (Labels::default(), rest),
    };
    let (value, rest) = token(rest)?;
    // Rust parses everything that Go writes, such as 1e+09, +Inf and NaN, and ignores case.
    let value = value.parse().ok()?;
    match token(rest) {
        None => {}
        Some((exemplar, _)) if exemplar.starts_with('#') => {}
        Some((timestamp, rest)) => {
            timestamp.parse::<f64>().ok()?;
            if token(rest).is_some_and(|(exemplar, _)| !exemplar.starts_with('#')) {
                return None;
            }
        }
    }
    Some((labels, value))
}

/// Returns the next word, and the text after it.
fn token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_ascii_start();
    let end = memchr2(b' ', b'\t', text.as_bytes()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Returns where the labels end, if all of them are well-formed.
fn closing_brace(inside: &str) -> Option<usize> {
    let mut rest = inside;
    while let Some((_, after)) = label(rest) {
        rest = after;
    }
    let rest = rest.trim_ascii_start();
    rest.starts_with('}').then(|| inside.len() - rest.len())
}

/// A label whose value is still escaped.
struct Label<'a> {
    name: &'a str,
    value: &'a str,
}

/// Returns the next label, and the text after it and its comma; `None` if no label begins here.
fn label(text: &str) -> Option<(Label<'_>, &str)> {
    let text = text.trim_ascii_start();
    let equals = memchr(b'=', text.as_bytes())?;
    let name = text[..equals].trim_ascii_end();
    let mut letters = name.bytes();
    let begins = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    if !begins || !letters.all(|each| each.is_ascii_alphanumeric() || each == b'_') {
        return None;
    }
    let quoted = text[equals + 1..].trim_ascii_start().strip_prefix('"')?;
    let end = closing_quote(quoted)?;
    let rest = quoted[end + 1..].trim_ascii_start();
    let after = match rest.strip_prefix(',') {
        Some(after) => after,
        // The last label.
        None if rest.starts_with('}') || rest.is_empty() => rest,
        None => return None,
    };
    Some((Label { name, value: &quoted[..end] }, after))
}

fn closing_quote(quoted: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let found = from + memchr2(b'"', b'\\', quoted.as_bytes().get(from..)?)?;
        if quoted.as_bytes()[found] == b'"' {
            return Some(found);
        }
        // Skips the escaped character, whatever it is.
        from = found + 2;
    }
}

/// Replaces the escapes `\\`, `\"` and `\n`. A backslash before any other character stands for itself, as in
/// Prometheus.
fn unescape(value: &str) -> Cow<'_, str> {
    if memchr(b'\\', value.as_bytes()).is_none() {
        return Cow::Borrowed(value);
    }
    let mut plain = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match (letter, letters.clone().next()) {
            ('\\', Some(escaped @ ('\\' | '"' | 'n'))) => {
                plain.push(if escaped == 'n' { '\n' } else { escaped });
                letters.next();
            }
            (letter, _) => plain.push(letter),
        }
    }
    Cow::Owned(plain)
}

/// Splits a page that arrives in pieces into lines. Keeps at most one line.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The beginning of a line that has not ended yet.
    begun: Vec<u8>,
    /// Whether the rest of the line is skipped because the line is too long.
    skipping: bool,
    too_long: usize,
}

impl LineSplitter {
    /// Passes every line that ends in `piece` to `each`, without its line feed.
    pub fn feed(&mut self, mut piece: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            piece = rest;
            if self.begun.is_empty() && !self.skipping && line.len() <= LONGEST_LINE {
                each(line);
                continue;
            }
            self.keep(line);
            if !self.skipping {
                each(&self.begun);
            }
            self.skipping = false;
            self.begun.clear();
        }
        self.keep(piece);
    }

    /// Passes the last line to `each`, if it has no line feed. Returns how many lines were too long.
    pub fn finish(self, mut each: impl FnMut(&[u8])) -> usize {
        if !self.begun.is_empty() && !self.skipping {
            each(&self.begun);
        }
        self.too_long
    }

    fn keep(&mut self, part: &[u8]) {
        if self.skipping {
            return;
        }
        if self.begun.len() + part.len() > LONGEST_LINE {
            self.skipping = true;
            self.too_long += 1;
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests;
