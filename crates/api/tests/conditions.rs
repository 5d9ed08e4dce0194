//! Checks that the README lists the reasons of the constants, in the paragraph of each condition.

use std::collections::{BTreeMap, BTreeSet};

const README: &str = include_str!("../../../README.md");
const CONSTANTS: &str = include_str!("../src/conditions.rs");

/// Reasons of a condition in its normal state, or without a measurement, which the README does not list.
const NOT_LISTED: [&str; 8] = ["Ready", "RolledOut", "Progressing", "Met", "Unknown", "Active", "NotLimited", "Fresh"];

/// Kinds of Kubernetes, which look like reasons.
const KINDS: [&str; 2] = ["StreamJob", "StatefulSet"];

/// The reasons of each condition.
type Reasons = BTreeMap<String, BTreeSet<String>>;

/// Returns the reasons of the constants, by the conditions that their doc comments name before the colon.
fn reasons_of_the_constants() -> Reasons {
    let (_, reasons) = CONSTANTS.split_once("pub mod reasons {").unwrap_or_default();
    let (mut all, mut doc) = (Reasons::new(), String::new());
    for line in reasons.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if let Some((_, text)) = line.split_once(": &str = \"") {
            let reason = text.trim_end_matches("\";");
            let conditions = doc.split(':').next().unwrap_or_default();
            let names = conditions.split(',').map(|condition| condition.split('(').next().unwrap_or_default());
            for name in names.map(|name| name.trim().trim_matches('`')) {
                assert!(sluice_api::conditions::ALL.contains(&name), "{reason}: {name:?} is not a condition");
                all.entry(name.to_owned()).or_default().insert(reason.to_owned());
            }
            doc.clear();
        }
    }
    for reasons in all.values_mut() {
        reasons.retain(|reason| !NOT_LISTED.contains(&reason.as_str()));
    }
    all
}

/// Returns the reasons in the README, by the condition whose name in bold begins the paragraph. The list that follows a paragraph
/// belongs to it. `known`: the reasons of the constants.
fn reasons_of_the_readme(known: &BTreeSet<&String>) -> Reasons {
    let mut all = Reasons::new();
    let mut condition = "";
    for line in README.lines() {
        let heading = line.strip_prefix("**").and_then(|rest| rest.split_once("**"));
        let text = match heading {
            Some((name, rest)) => {
                condition = name;
                rest
            }
            None => line,
        };
        if line.starts_with('#') {
            condition = "";
        }
        if !sluice_api::conditions::ALL.contains(&condition) {
            continue;
        }
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
        for word in words.filter(|word| word.starts_with(|letter: char| letter.is_ascii_uppercase())) {
            let is_camel_case = word.chars().filter(char::is_ascii_uppercase).count() > 1
                && word.contains(|letter: char| letter.is_ascii_lowercase());
            let is_known = known.iter().any(|reason| *reason == word);
            let is_allowed = KINDS.contains(&word) || NOT_LISTED.contains(&word);
            assert!(is_known || !is_camel_case || is_allowed, "{condition}: {word} is not a reason");
            if is_known {
                all.entry(condition.to_owned()).or_default().insert(word.to_owned());
            }
        }
    }
    all
}

#[test]
fn readme_lists_the_reasons_of_each_condition() {
    let constants = reasons_of_the_constants();
    let known: BTreeSet<&String> = constants.values().flatten().collect();
    assert!(known.len() > 40, "only {} reasons found", known.len());
    let readme = reasons_of_the_readme(&known);
    for (condition, reasons) in &constants {
        let listed = readme.get(condition).cloned().unwrap_or_default();
        let missing: Vec<&String> = reasons.difference(&listed).collect();
        let unknown: Vec<&String> = listed.difference(reasons).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "{condition}: not in README: {missing:?}; not in conditions.rs: {unknown:?}"
        );
    }
}
