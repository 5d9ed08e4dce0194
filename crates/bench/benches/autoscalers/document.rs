//! Writes the tables into a document that has other text as well.

use std::fs;
use std::path::Path;

use super::args::Args;

/// Facts about the run itself.
pub(crate) struct Facts<'a> {
    pub(crate) args: &'a Args,
    /// Duration of the run.
    pub(crate) seconds: f64,
    /// Unix time of the run.
    pub(crate) now: f64,
}

/// Replaces the text between the markers of the tables.
pub(crate) fn write(path: &Path, facts: &Facts<'_>, report: &str) -> Result<(), String> {
    let failed = |error| format!("failed to write the tables to {}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(failed)?;
    let (begin, end) = ("<!-- autoscalers: begin -->", "<!-- autoscalers: end -->");
    let text = replaced(&text, (begin, end), &format!("{}\n{report}", heading(facts)))
        .ok_or_else(|| format!("{} lacks the lines {begin} and {end}", path.display()))?;
    fs::write(path, text).map_err(failed)
}

fn heading(facts: &Facts<'_>) -> String {
    let Args { quick, filter, seeds, threads, date, .. } = facts.args;
    let mut command = "cargo bench --bench autoscalers".to_owned();
    if *quick || filter.is_some() {
        command.push_str(" --");
        command.push_str(if *quick { " --quick" } else { "" });
        command.push_str(&filter.as_ref().map_or_else(String::new, |filter| format!(" --filter {filter}")));
    }
    let today = || {
        let now = std::time::Duration::from_secs_f64(facts.now);
        let now = jiff::Timestamp::UNIX_EPOCH.checked_add(now).unwrap_or_default();
        now.strftime("%Y-%m-%d").to_string()
    };
    let date = date.clone().unwrap_or_else(today);
    let seeds = if *quick { 1 } else { *seeds };
    let minutes = (facts.seconds / 60.0).ceil();
    format!("`{command}`, {date}, {threads} threads, {seeds} seeds, {minutes} min.\n")
}

fn replaced(text: &str, (begin, end): (&str, &str), part: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{part}{end}{after}"))
}
