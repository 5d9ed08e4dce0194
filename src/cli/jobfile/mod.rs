//! Reads a StreamJob from a file as strictly as an API server would, for commands that work without one.
//!
//! All mistakes are reported at once, each with its line and column and a hint. The YAML is read into a [`tree`] with
//! places, the [`definition`] is applied to it by the schema engine of the embedded API server, which also fills in the
//! defaults, and the result is checked by `sluice_operator::validate`, as an object from a cluster is.

mod definition;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};
use serde_json::Value;

use self::tree::{Node, Place, Tree};
use sluice_api::StreamJob;
use sluice_operator::validate::{Job, validate};

const API_VERSION: &str = "sluice.dev/v1alpha1";
const KIND: &str = "StreamJob";

/// The error of a file that does not contain the wanted job.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobFileError {
    /// The file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: std::io::Error,
    },
    /// The selection matches no document, or several.
    #[error("{file}: {message}")]
    Choice {
        /// Name of the file.
        file: String,
        /// The documents there are, and how to choose one.
        message: String,
    },
    /// The content is wrong.
    #[error("{}", lines(.file, .findings))]
    Invalid {
        /// Name of the file.
        file: String,
        /// Content of the file.
        text: String,
        /// The mistakes, in the order of the file.
        findings: Vec<Finding>,
    },
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    place: Place,
    /// Path from the document's root; empty for the document as a whole.
    field: String,
    message: String,
    /// A hint what to write instead.
    help: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(formatter, "{}: ", self.field)?;
        }
        formatter.write_str(&self.message)
    }
}

fn lines(file: &str, findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let help = finding.help.iter().fold(String::new(), |text, help| text + "; " + help);
        format!("{file}:{}:{}: {finding}{help}", finding.place.line, finding.place.column)
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl JobFileError {
    /// Renders each mistake with the lines around it, for a terminal.
    pub(super) fn with_source_lines(&self, colours: bool) -> String {
        let Self::Invalid { file, text, findings } = self else { return format!("sluice: {self}\n") };
        let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme);
        let mut picture = String::new();
        for finding in findings {
            let label = LabeledSpan::new(None, finding.place.offset, finding.place.length);
            let mut diagnostic = MietteDiagnostic::new(finding.to_string()).with_label(label);
            diagnostic.help.clone_from(&finding.help);
            let report = miette::Report::new(diagnostic).with_source_code(NamedSource::new(file, text.clone()));
            if handler.render_report(&mut picture, report.as_ref()).is_err() {
                let _ = writeln!(picture, "{}", lines(file, std::slice::from_ref(finding)));
            }
        }
        picture
    }

    /// Prints the error to stderr, with source lines if that is a terminal.
    pub(super) fn print(&self) {
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            eprint!("{}", self.with_source_lines(std::env::var_os("NO_COLOR").is_none()));
        } else if matches!(self, Self::Invalid { .. }) {
            eprintln!("{self}");
        } else {
            eprintln!("sluice: {self}");
        }
    }
}

/// Reads the job in a file; `name` selects one if there are several.
pub(super) fn read(path: &Path, name: Option<&str>) -> Result<Job, JobFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| JobFileError::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &text, name)
}

/// Parses the job in a text; `file` is the name used in messages.
pub(super) fn parse(file: &str, text: &str, name: Option<&str>) -> Result<Job, JobFileError> {
    let invalid = |mut findings: Vec<Finding>| {
        findings.sort_by_key(|finding| (finding.place.line, finding.place.column));
        JobFileError::Invalid { file: file.to_owned(), text: text.to_owned(), findings }
    };
    let documents: Vec<Node> = serde_saphyr::from_multiple(text).map_err(|error| invalid(vec![yaml_error(&error)]))?;
    let document =
        choose(&documents, name).map_err(|message| JobFileError::Choice { file: file.to_owned(), message })?;
    job(document).map_err(invalid)
}

/// An object of any kind in a file.
#[derive(Debug)]
pub(super) struct Document {
    /// The object as written.
    pub(super) object: Value,
    /// First line of the object, from 1.
    pub(super) line: u64,
}

/// Reads all objects of a file. Jobs are checked completely; of other objects only the identifying fields are checked,
/// and the API server checks the rest.
pub(super) fn documents(path: &Path) -> Result<Vec<Document>, JobFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| JobFileError::Read { path: path.to_owned(), source })?;
    let invalid = |findings| JobFileError::Invalid { file: path.display().to_string(), text: text.clone(), findings };
    let nodes: Vec<Node> = serde_saphyr::from_multiple(&text).map_err(|error| invalid(vec![yaml_error(&error)]))?;
    // A document between two lines of `---` may be empty.
    let nodes: Vec<Node> = nodes.into_iter().filter(|node| !node.is_null()).collect();
    let mut findings = Vec::new();
    for node in &nodes {
        let mut found = match (node.text("kind"), node.text("apiVersion")) {
            (Some(KIND), Some(API_VERSION)) => job(node).err().unwrap_or_default(),
            _ => missing_identity(node),
        };
        found.sort_by_key(|finding| (finding.place.line, finding.place.column));
        findings.append(&mut found);
    }
    if !findings.is_empty() {
        return Err(invalid(findings));
    }
    Ok(nodes.iter().map(|node| Document { object: node.to_value(), line: node.place.line }).collect())
}

/// Checks the fields that identify an object of any kind.
fn missing_identity(node: &Node) -> Vec<Finding> {
    let mut findings = Vec::new();
    for field in ["apiVersion", "kind", "metadata.name"] {
        let found = match field.split_once('.') {
            Some((outer, inner)) => node.get(outer).and_then(|node| node.get(inner)),
            None => node.get(field),
        };
        let (message, help) = match found.map(|node| &node.tree) {
            Some(Tree::Scalar(Value::String(_))) => continue,
            Some(_) => ("must be a string".to_owned(), Some("put it in quotes".to_owned())),
            None => ("Required value".to_owned(), None),
        };
        findings.push(Finding { place: node.place_of(field), field: field.to_owned(), message, help });
    }
    findings
}

fn yaml_error(error: &serde_saphyr::Error) -> Finding {
    let message = error.without_snippet().to_string();
    // The message repeats the place, which the finding already has.
    let message = message.lines().next().and_then(|line| line.split(" at line ").next()).unwrap_or_default();
    Finding {
        place: error.location().map(Place::from).unwrap_or_default(),
        field: String::new(),
        message: format!("invalid YAML: {message}"),
        help: None,
    }
}

/// Selects a document: the only one, the only StreamJob, or the one with the name.
fn choose<'a>(documents: &'a [Node], name: Option<&str>) -> Result<&'a Node, String> {
    let jobs: Vec<&Node> = match documents {
        // Of whatever kind: if it is not a StreamJob, the error can name the line.
        [only] => vec![only],
        _ => documents.iter().filter(|document| document.text("kind") == Some(KIND)).collect(),
    };
    let name_of = |job: &Node| job.get("metadata").and_then(|metadata| metadata.text("name")).map(str::to_owned);
    let all_names = || jobs.iter().filter_map(|job| name_of(job)).collect::<Vec<_>>().join(", ");
    let selected: Vec<&Node> =
        jobs.iter().copied().filter(|job| name.is_none_or(|name| name_of(job).as_deref() == Some(name))).collect();
    match (selected.as_slice(), name) {
        ([job], _) => Ok(job),
        ([], Some(name)) if !jobs.is_empty() => {
            Err(format!("no {KIND} is named {name}; choose one of {}", all_names()))
        }
        ([], _) if documents.is_empty() => Err(format!("expected a {KIND}, found an empty file")),
        ([], _) => {
            let kinds: Vec<&str> = documents.iter().filter_map(|document| document.text("kind")).collect();
            Err(format!("expected a {KIND}, found {}", kinds.join(", ")))
        }
        (_, Some(name)) => Err(format!("more than one {KIND} is named {name}")),
        (_, None) => Err(format!("more than one {KIND}; choose one with --name: {}", all_names())),
    }
}

fn job(document: &Node) -> Result<Job, Vec<Finding>> {
    let finding = |field: &str, message: String, help: Option<String>| Finding {
        place: document.place_of(field),
        field: field.to_owned(),
        message,
        help,
    };
    for (field, expected) in [("kind", KIND), ("apiVersion", API_VERSION)] {
        match document.text(field) {
            Some(found) if found != expected => {
                return Err(vec![finding(field, format!("expected {expected}, found {found}"), None)]);
            }
            _ => {}
        }
    }
    let definition = definition::stream_job().map_err(|message| vec![finding("", message, None)])?;
    let (mut object, mut findings) = definition.apply(document);
    // A server would assign a namespace and a uid; no decision depends on them.
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| "default".into());
        metadata.entry("uid").or_insert_with(|| "from-a-file".into());
    }
    let object: StreamJob = match serde_json::from_value(object) {
        Ok(object) => object,
        Err(error) => {
            if findings.is_empty() {
                findings.push(finding("spec", error.to_string(), None));
            }
            return Err(findings);
        }
    };
    let outcome = validate(&object);
    for problem in outcome.as_ref().err().into_iter().flatten() {
        // A problem of an object is not reported in addition to a finding inside it, which may be its cause, and a problem of a
        // field not in addition to a broken rule of its object, which is the same problem.
        let object = problem.field.rsplit_once('.').map_or("", |(object, _)| object);
        let is_reported = |finding: &Finding| finding.field.starts_with(&problem.field) || finding.field == object;
        if !findings.iter().any(is_reported) {
            findings.push(finding(&problem.field, problem.message.clone(), None));
        }
    }
    match outcome {
        Ok(job) if findings.is_empty() => Ok(job),
        _ => Err(findings),
    }
}
