//! `sluice decide`: the decision core without Kubernetes. Reads observations as JSON lines from standard input and
//! writes one decision for each to standard output; `docs/decide.md` is the contract.

mod lines;
mod place;
mod reading;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::Error as _;

use self::lines::{LONGEST, Line, Lines};
use self::reading::Unknown;
use super::jobfile;
use sluice_policy::{Memory, Observation, Settings, decide};

/// Wrong usage.
const USAGE: u8 = 2;

/// Arguments of `sluice decide`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line of standard input is an observation; each is answered by a line of standard output, in the same order. \
A line that cannot be used is answered by {\"error\": …} and changes nothing; a blank one is skipped. \
A field that is not known is not read, and is warned of once. The same lines give the same decisions, byte for byte.

Exit codes: 0 every line was good, 1 some were not, 2 wrong usage.")]
pub(super) struct Args {
    /// File with the StreamJob to decide for
    #[arg(long, value_name = "FILE")]
    job: PathBuf,
    /// Which StreamJob of the file, if it has several
    #[arg(long)]
    name: Option<String>,
}

pub(super) fn run(args: &Args) -> super::Outcome {
    let job = match jobfile::read(&args.job, args.name.as_deref()) {
        Ok(job) => job,
        Err(error) => {
            error.print();
            return Ok(ExitCode::from(USAGE));
        }
    };
    let input = io::stdin().lock();
    if input.is_terminal() {
        eprintln!("sluice: reading observations, one JSON object a line, from the terminal; Ctrl-D ends");
    }
    let warn = |warning: &str| eprintln!("sluice: {warning}");
    match answer(input, io::stdout().lock(), &job.settings, Memory::default(), warn) {
        Ok(counts) if counts.refused == 0 => Ok(ExitCode::SUCCESS),
        Ok(counts) => {
            eprintln!("sluice: {} of {} lines could not be used", counts.refused, counts.lines);
            Ok(ExitCode::FAILURE)
        }
        // Whoever reads the decisions has seen enough, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}

/// Lines that were answered, and those of them that could not be used.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    lines: u64,
    refused: u64,
}

/// Why a line could not be used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    /// From 1.
    line: u64,
    /// In bytes, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// Such as `partitions[3].end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    reason: String,
    expected: Option<String>,
}

#[derive(Debug, Serialize)]
struct Refused {
    error: Refusal,
}

/// Answers every line of `input`, beginning with what is in `memory`.
fn answer(
    input: impl Read,
    output: impl Write,
    settings: &Settings,
    mut memory: Memory,
    warn: impl Fn(&str),
) -> io::Result<Counts> {
    let mut output = BufWriter::with_capacity(1 << 16, output);
    let mut lines = Lines::new(input, LONGEST);
    let mut unknown = Unknown::default();
    let mut observation = Observation::default();
    let mut counts = Counts::default();
    while let Some((number, line)) = lines.next(|| output.flush())? {
        let outcome = match line {
            Line::Text(line) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Line::Text(line) => {
                read(line, &mut observation, &mut unknown).map_err(|error| refusal(number, line, &error))
            }
            Line::TooLong => Err(Refusal {
                line: number,
                column: None,
                field: None,
                reason: "the line is too long".to_owned(),
                expected: Some(format!("at most {LONGEST} bytes")),
            }),
        };
        counts.lines += 1;
        match outcome {
            Ok(()) => serde_json::to_writer(&mut output, &decide(&mut memory, &observation, settings))?,
            Err(error) => {
                counts.refused += 1;
                serde_json::to_writer(&mut output, &Refused { error })?;
            }
        }
        output.write_all(b"\n")?;
        for warning in unknown.warnings.drain(..) {
            warn(&format!("line {number}: {warning}"));
        }
    }
    output.flush()?;
    Ok(counts)
}

fn read(line: &[u8], observation: &mut Observation, unknown: &mut Unknown) -> serde_json::Result<()> {
    // Once for the whole line is cheaper than once for each of its texts.
    let line = std::str::from_utf8(line).map_err(|error| serde_json::Error::custom(format!("not UTF-8: {error}")))?;
    reading::read(line, observation, unknown)
}

fn refusal(number: u64, line: &[u8], error: &serde_json::Error) -> Refusal {
    let column = error.column();
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let (reason, expected) = match message.split_once(", expected ") {
        Some((reason, expected)) => (reason, Some(in_words(expected))),
        None => match message.strip_prefix("expected ") {
            Some(expected) => ("this is not JSON", Some(in_words(expected))),
            None => (message, error.is_syntax().then(|| "one JSON object".to_owned())),
        },
    };
    let expected = expected.or_else(|| error.is_eof().then(|| "one whole JSON object".to_owned()));
    let field = Some(place::path(line, column)).filter(|path| !path.is_empty());
    Refusal {
        line: number,
        column: Some(column).filter(|column| *column > 0),
        field,
        reason: reason.to_owned(),
        expected,
    }
}

/// Types as people call them.
fn in_words(expected: &str) -> String {
    match expected {
        "u32" => "a whole number from 0 to 4294967295, or null",
        "i64" => "a whole number, or null",
        "f64" => "a number",
        "a string" => "a text",
        "a boolean" => "true or false",
        "value" => "a value; NaN and infinity are none, write null for what is unknown",
        "ident" => "true, false or null",
        other => other,
    }
    .to_owned()
}
