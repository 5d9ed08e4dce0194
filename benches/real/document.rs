//! Writes the table of the results into docs/benchmark.md.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::Failure;

const BEGIN: &str = "<!-- real: begin -->";
const END: &str = "<!-- real: end -->";

/// Replaces the text between the markers. `now` is in Unix seconds.
pub(crate) fn write(table: &str, now: f64, minutes: f64) -> Result<(), Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmark.md");
    let text = fs::read_to_string(&path)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("docs/benchmark.md lacks the lines {BEGIN} and {END}"))?;
    let day = jiff::Timestamp::UNIX_EPOCH.checked_add(Duration::from_secs_f64(now.max(0.0)))?.strftime("%Y-%m-%d");
    let part = format!("`make bench-real`, {day}, {minutes} min.\n\n{table}");
    fs::write(&path, format!("{before}{BEGIN}\n{part}{END}{after}"))?;
    Ok(())
}
