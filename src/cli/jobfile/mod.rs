//! A StreamJob from a file, read as strictly as an API server would, for commands that work without one.
//!
//! Every mistake is reported at once, with its line and column and what was probably meant: the YAML is read into a tree
//! that remembers places, the tree is checked against the resource definition, which also fills in the defaults, and
//! what is left to check is `operator::validate`, as for an object from a cluster.

mod rules;
mod schema;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};
use serde_json::Value;

use self::schema::Check;
use self::tree::{Node, Place, Tree};
use sluice_api::StreamJob;
use sluice_operator::validate::{Job, validate};

const API_VERSION: &str = "sluice.dev/v1alpha1";
const KIND: &str = "StreamJob";

/// Why a file gives no job.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobFileError {
    /// The file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not exactly one of the documents is meant.
    #[error("{file}: {message}")]
    Choice {
        /// The file.
        file: String,
        /// What there is, and what to do.
        message: String,
    },
    /// Something in it is wrong.
    #[error("{}", lines(.file, .findings))]
    Wrong {
        /// The file.
        file: String,
        /// What is in it.
        text: String,
        /// What is wrong, in the order of the file.
        findings: Vec<Finding>,
    },
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    place: Place,
    /// As a path from the document's root; empty for the file as a whole.
    field: String,
    message: String,
    /// What was meant, or what to write instead.
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
    /// For a person at a terminal: each mistake with the lines around it.
    pub(super) fn picture(&self, colours: bool) -> String {
        let Self::Wrong { file, text, findings } = self else { return format!("sluice: {self}\n") };
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

    /// To stderr, as a person or a program reads it.
    pub(super) fn print(&self) {
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            eprint!("{}", self.picture(std::env::var_os("NO_COLOR").is_none()));
        } else if matches!(self, Self::Wrong { .. }) {
            eprintln!("{self}");
        } else {
            eprintln!("sluice: {self}");
        }
    }
}

/// Reads the job of a file; `name` says which one if there are several.
pub(super) fn read(path: &Path, name: Option<&str>) -> Result<Job, JobFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| JobFileError::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &text, name)
}

/// Parses the job of a text; `file` is for the messages.
pub(super) fn parse(file: &str, text: &str, name: Option<&str>) -> Result<Job, JobFileError> {
    let wrong = |mut findings: Vec<Finding>| {
        findings.sort_by_key(|finding| (finding.place.line, finding.place.column));
        JobFileError::Wrong { file: file.to_owned(), text: text.to_owned(), findings }
    };
    let documents: Vec<Node> = serde_saphyr::from_multiple(text).map_err(|error| wrong(vec![not_yaml(&error)]))?;
    let document =
        choose(&documents, name).map_err(|message| JobFileError::Choice { file: file.to_owned(), message })?;
    job(document).map_err(wrong)
}

/// An object of a file, of whatever kind.
#[derive(Debug)]
pub(super) struct Document {
    /// As it is written.
    pub(super) object: Value,
    /// Where it begins.
    pub(super) line: u64,
}

/// Reads all objects of a file. Of jobs everything is checked, of others that they say what they are: the rest is for
/// the API server to judge.
pub(super) fn documents(path: &Path) -> Result<Vec<Document>, JobFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| JobFileError::Read { path: path.to_owned(), source })?;
    let wrong = |findings| JobFileError::Wrong { file: path.display().to_string(), text: text.clone(), findings };
    let nodes: Vec<Node> = serde_saphyr::from_multiple(&text).map_err(|error| wrong(vec![not_yaml(&error)]))?;
    // Between two lines of `---` there may be nothing.
    let nodes: Vec<Node> = nodes.into_iter().filter(|node| !matches!(node.tree, Tree::Null)).collect();
    let mut findings = Vec::new();
    for node in &nodes {
        let mut found = match (node.text("kind"), node.text("apiVersion")) {
            (Some(KIND), Some(API_VERSION)) => job(node).err().unwrap_or_default(),
            _ => nameless(node),
        };
        found.sort_by_key(|finding| (finding.place.line, finding.place.column));
        findings.append(&mut found);
    }
    if !findings.is_empty() {
        return Err(wrong(findings));
    }
    Ok(nodes.iter().map(|node| Document { object: node.plain(), line: node.place.line }).collect())
}

/// What every object must say of itself.
fn nameless(node: &Node) -> Vec<Finding> {
    let mut findings = Vec::new();
    for field in ["apiVersion", "kind", "metadata.name"] {
        let found = match field.split_once('.') {
            Some((outer, inner)) => node.get(outer).and_then(|node| node.get(inner)),
            None => node.get(field),
        };
        let (message, help) = match found.map(|node| &node.tree) {
            Some(Tree::Text(_)) => continue,
            Some(other) => (format!("expected a text, found {other}"), Some("put it in quotes".to_owned())),
            None => ("is missing".to_owned(), None),
        };
        findings.push(Finding { place: node.place_of(field), field: field.to_owned(), message, help });
    }
    findings
}

fn not_yaml(error: &serde_saphyr::Error) -> Finding {
    let message = error.without_snippet().to_string();
    // The place is in the finding; the message says it again, in other words.
    let message = message.lines().next().and_then(|line| line.split(" at line ").next()).unwrap_or_default();
    Finding {
        place: error.location().map(Place::from).unwrap_or_default(),
        field: String::new(),
        message: format!("this is not YAML that can be used: {message}"),
        help: None,
    }
}

/// The document that is meant: the only one, the only StreamJob, or the one with the name.
fn choose<'a>(documents: &'a [Node], name: Option<&str>) -> Result<&'a Node, String> {
    let jobs: Vec<&Node> = match documents {
        // Whatever it is: that it is no StreamJob is better said with its line.
        [only] => vec![only],
        _ => documents.iter().filter(|document| document.text("kind") == Some(KIND)).collect(),
    };
    let name_of = |job: &Node| job.get("metadata").and_then(|metadata| metadata.text("name")).map(str::to_owned);
    let all_names = || jobs.iter().filter_map(|job| name_of(job)).collect::<Vec<_>>().join(", ");
    let meant: Vec<&Node> =
        jobs.iter().copied().filter(|job| name.is_none_or(|name| name_of(job).as_deref() == Some(name))).collect();
    match (meant.as_slice(), name) {
        ([job], _) => Ok(job),
        ([], Some(name)) if !jobs.is_empty() => Err(format!("no {KIND} is named {name}; there is {}", all_names())),
        ([], _) if documents.is_empty() => Err(format!("expected a {KIND}, found an empty file")),
        ([], _) => {
            let kinds: Vec<&str> = documents.iter().filter_map(|document| document.text("kind")).collect();
            Err(format!("expected a {KIND}, found {}", kinds.join(", ")))
        }
        (_, Some(name)) => Err(format!("more than one {KIND} is named {name}")),
        (_, None) => Err(format!("more than one {KIND}: pick one with --name: {}", all_names())),
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
    let (check, mut value) = Check::document(document, &schema::stream_job());
    let mut findings = check.findings;
    if check.broken {
        return Err(findings);
    }
    // No server has given it a namespace and a uid; nothing that is decided depends on them.
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| "default".into());
        metadata.entry("uid").or_insert_with(|| "from-a-file".into());
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    let mut breaches: Vec<(String, String)> =
        rules::broken(&value).into_iter().map(|(field, message)| (field, message.to_owned())).collect();
    let outcome =
        serde_json::from_value::<StreamJob>(value).map_err(|error| vec![("spec".to_owned(), error.to_string())]);
    let outcome = outcome.and_then(|object| {
        validate(&object).map_err(|wrong| wrong.into_iter().map(|problem| (problem.field, problem.message)).collect())
    });
    let outcome = outcome.map_err(|mut wrong: Vec<(String, String)>| breaches.append(&mut wrong));
    for (field, message) in breaches {
        // What is wrong with a whole may come from an unknown field in it: one report of it will do.
        let said = findings.iter().any(|finding| finding.field.starts_with(&field));
        if !said {
            findings.push(finding(&field, message, None));
        }
    }
    match (outcome, findings.is_empty()) {
        (Ok(job), true) => Ok(job),
        _ => Err(findings),
    }
}
