//! `sluice decide`: the decision core without Kubernetes. Reads observations as JSON lines from standard input and
//! writes one decision for each to standard output. `docs/decide.md` specifies both formats.

mod json_path;
mod lines;
mod reading;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::Error as _;

use self::lines::{Line, Lines, MAX_LINE_BYTES};
use self::reading::UnknownFields;
use super::jobfile;
use sluice_policy::{Memory, Observation, Settings, decide};

/// Exit code of wrong usage.
const USAGE: u8 = 2;

/// Arguments of `sluice decide`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line of standard input is an observation; the decision for it is printed as one line of standard output, in the same \
order. For an invalid line, {\"error\": …} is printed and later decisions do not change; blank lines are skipped. \
Unknown fields are ignored with one warning on standard error. The same lines give the same decisions, byte for byte.

Exit codes: 0 all lines were valid, 1 some lines were invalid, 2 wrong usage.")]
pub(super) struct Args {
    /// Decide for the StreamJob in FILE
    #[arg(long, value_name = "FILE")]
    job: PathBuf,
    /// Use the StreamJob NAME if the file contains several
    #[arg(long, value_name = "NAME")]
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
        eprintln!("sluice: reading observations from the terminal, one JSON object per line; press Ctrl-D to end");
    }
    let warn = |warning: &str| eprintln!("sluice: {warning}");
    match decide_lines(input, io::stdout().lock(), &job.settings, Memory::default(), warn) {
        Ok(counts) if counts.invalid == 0 => Ok(ExitCode::SUCCESS),
        Ok(counts) => {
            eprintln!("sluice: {} of {} lines were invalid", counts.invalid, counts.lines);
            Ok(ExitCode::FAILURE)
        }
        // The reader of the decisions has closed the pipe, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}

/// Numbers of processed lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Lines that are not blank.
    lines: u64,
    /// Lines that are not valid observations.
    invalid: u64,
}

/// The error of an invalid line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LineError {
    /// Number of the line, from 1.
    line: u64,
    /// Position in the line, bytes from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// Path of the field, such as `partitions[3].end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    reason: String,
    expected: Option<String>,
}

/// The output for an invalid line.
#[derive(Debug, Serialize)]
struct ErrorLine {
    error: LineError,
}

/// Decides for every line of `input`, starting with the state in `memory`.
fn decide_lines(
    input: impl Read,
    output: impl Write,
    settings: &Settings,
    mut memory: Memory,
    warn: impl Fn(&str),
) -> io::Result<Counts> {
    let mut output = BufWriter::with_capacity(1 << 16, output);
    let mut lines = Lines::new(input, MAX_LINE_BYTES);
    let mut unknown = UnknownFields::default();
    let mut observation = Observation::default();
    let mut counts = Counts::default();
    while let Some((number, line)) = lines.next(|| output.flush())? {
        let outcome = match line {
            Line::Text(line) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Line::Text(line) => {
                read(line, &mut observation, &mut unknown).map_err(|error| line_error(number, line, &error))
            }
            Line::TooLong => Err(LineError {
                line: number,
                column: None,
                field: None,
                reason: "the line is too long".to_owned(),
                expected: Some(format!("at most {MAX_LINE_BYTES} bytes")),
            }),
        };
        counts.lines += 1;
        match outcome {
            Ok(()) => serde_json::to_writer(&mut output, &decide(&mut memory, &observation, settings))?,
            Err(error) => {
                counts.invalid += 1;
                serde_json::to_writer(&mut output, &ErrorLine { error })?;
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

fn read(line: &[u8], observation: &mut Observation, unknown: &mut UnknownFields) -> serde_json::Result<()> {
    // One check of the whole line is cheaper than one for each string in it.
    let line = std::str::from_utf8(line).map_err(|error| serde_json::Error::custom(format!("not UTF-8: {error}")))?;
    reading::read(line, observation, unknown)
}

fn line_error(number: u64, line: &[u8], error: &serde_json::Error) -> LineError {
    let column = error.column();
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let (reason, expected) = match message.split_once(", expected ") {
        Some((reason, expected)) => (reason, Some(describe(expected))),
        None => match message.strip_prefix("expected ") {
            Some(expected) => ("invalid JSON", Some(describe(expected))),
            None => (message, error.is_syntax().then(|| "one JSON object".to_owned())),
        },
    };
    let expected = expected.or_else(|| error.is_eof().then(|| "one complete JSON object".to_owned()));
    let field = Some(json_path::path_at(line, column)).filter(|path| !path.is_empty());
    LineError {
        line: number,
        column: Some(column).filter(|column| *column > 0),
        field,
        reason: reason.to_owned(),
        expected,
    }
}

/// Describes a type that serde expected.
fn describe(expected: &str) -> String {
    match expected {
        "u32" => "a whole number from 0 to 4294967295, or null",
        "i64" => "a whole number, or null",
        "f64" => "a number",
        "a string" => "a string",
        "a boolean" => "true or false",
        "value" => "a value; NaN and infinity are not JSON, write null for unknown numbers",
        "ident" => "true, false or null",
        other => other,
    }
    .to_owned()
}
