//! Label and field selectors, which restrict a list or a watch.

use serde_json::Value;

use super::kinds::Kind;
use super::meta;
use super::names;
use super::status::Status;

/// The conditions that a selected object meets. An empty selector selects all objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

/// The condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The value is one of these.
    In(String, Vec<String>),
    /// The label is missing, or its value is none of these.
    NotIn(String, Vec<String>),
    /// The label exists, with any value.
    Exists(String),
    /// The label is missing.
    Missing(String),
    /// The value is a whole number above this.
    Above(String, i64),
    /// The value is a whole number below this.
    Below(String, i64),
}

impl Requirement {
    fn holds(&self, labels: Option<&Value>) -> bool {
        let value = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let number = |key: &str| value(key).and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(key, wanted) => value(key).is_some_and(|value| wanted.iter().any(|wanted| wanted == value)),
            Self::NotIn(key, not) => value(key).is_none_or(|value| not.iter().all(|not| not != value)),
            Self::Exists(key) => value(key).is_some(),
            Self::Missing(key) => value(key).is_none(),
            Self::Above(key, bound) => number(key).is_some_and(|number| number > *bound),
            Self::Below(key, bound) => number(key).is_some_and(|number| number < *bound),
        }
    }
}

impl Selector {
    /// Parses the two selectors of a request. Errors are 400.
    pub fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = parse_labels(labels).map_err(Status::bad_request)?;
        let fields = parse_fields(fields)?;
        for (field, ..) in &fields {
            check_supported(kind, field)?;
        }
        Ok(Self { labels, fields })
    }

    /// Reads the `spec.selector` of an object: `matchLabels` and `matchExpressions`.
    pub fn from_label_selector(selector: &Value) -> Self {
        let equal = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
        let equal = equal.filter_map(|(key, value)| Some(Requirement::In(key.clone(), vec![value.as_str()?.into()])));
        let expressions = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
        let expressions = expressions.filter_map(|expression| {
            let key = meta::text(expression, "/key").to_owned();
            let values = meta::texts(expression, "/values");
            match meta::text(expression, "/operator") {
                "In" => Some(Requirement::In(key, values)),
                "NotIn" => Some(Requirement::NotIn(key, values)),
                "Exists" => Some(Requirement::Exists(key)),
                "DoesNotExist" => Some(Requirement::Missing(key)),
                // Only the node affinity of pods has these operators.
                "Gt" => Some(Requirement::Above(key, values.first()?.parse().ok()?)),
                "Lt" => Some(Requirement::Below(key, values.first()?.parse().ok()?)),
                _ => None,
            }
        });
        Self { labels: equal.chain(expressions).collect(), fields: Vec::new() }
    }

    /// Restricts the selector to the object of this name.
    pub fn add_name(&mut self, name: &str) {
        self.fields.push(("metadata.name".to_owned(), true, name.to_owned()));
    }

    /// Returns whether it selects all objects.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Returns whether it selects this object.
    pub fn selects(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.labels.iter().all(|requirement| requirement.holds(labels))
            && self.fields.iter().all(|(field, equal, wanted)| (field_value(object, field) == *wanted) == *equal)
    }
}

fn field_value(object: &Value, field: &str) -> String {
    match object.pointer(&format!("/{}", field.trim_start_matches('.').replace('.', "/"))) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => match field {
            "spec.unschedulable" | "spec.hostNetwork" => "false".to_owned(),
            "status.successful" | "status.replicas" => "0".to_owned(),
            _ => String::new(),
        },
        Some(other) => other.to_string(),
    }
}

fn check_supported(kind: &Kind, field: &str) -> Result<(), Status> {
    if field == "metadata.name" || (field == "metadata.namespace" && kind.namespaced) {
        return Ok(());
    }
    if let Some(custom) = kind.custom() {
        if custom.selectable_fields.iter().any(|path| path.trim_start_matches('.') == field) {
            return Ok(());
        }
        return Err(Status::bad_request(format!("field label not supported: {field}")));
    }
    let fields = kind.builtin().map_or(&[][..], |builtin| builtin.field_selectors);
    if fields.is_empty() {
        let message = format!(
            "{field:?} is not a known field selector: only \"metadata.name\"{}",
            if kind.namespaced { ", \"metadata.namespace\"" } else { "" }
        );
        return Err(Status::bad_request(message));
    }
    if fields.contains(&field) {
        Ok(())
    } else {
        Err(Status::bad_request(format!("field label not supported: {field}")))
    }
}

fn parse_fields(text: &str) -> Result<Vec<(String, bool, String)>, Status> {
    let terms = text.split(',').map(str::trim).filter(|term| !term.is_empty());
    let parsed = terms.map(|term| {
        let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
            (field, false, value)
        } else if let Some((field, value)) = term.split_once("==") {
            (field, true, value)
        } else if let Some((field, value)) = term.split_once('=') {
            (field, true, value)
        } else {
            let message = format!("invalid selector: '{term}'; can't understand '{term}'");
            return Err(Status::bad_request(message));
        };
        Ok((field.trim().to_owned(), equal, value.trim().to_owned()))
    });
    parsed.collect()
}

/// Parses a label selector as written in a query: `a=b,c in (d,e),!f`.
pub fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    terms(text).into_iter().map(requirement).collect()
}

/// Splits the selector at the commas that are not in parentheses.
fn terms(text: &str) -> Vec<&str> {
    let (mut terms, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(text.get(start..).unwrap_or_default());
    if text.trim().is_empty() { Vec::new() } else { terms }
}

fn requirement(term: &str) -> Result<Requirement, String> {
    let term = term.trim();
    let unparsed = |why: String| format!("unable to parse requirement: {why}");
    let key = |key: &str| {
        let key = key.trim();
        match names::qualified_name(key) {
            None => Ok(key.to_owned()),
            Some(why) => Err(unparsed(format!("<nil>: Invalid value: {key:?}: {why}"))),
        }
    };
    let value = |value: &str| {
        let value = value.trim();
        match names::label_value(value) {
            None => Ok(value.to_owned()),
            Some(why) => Err(unparsed(format!("values[0][{value}]: Invalid value: {value:?}: {why}"))),
        }
    };
    if let Some(missing) = term.strip_prefix('!') {
        return Ok(Requirement::Missing(key(missing)?));
    }
    if let Some((left, right)) = term.split_once("!=") {
        return Ok(Requirement::NotIn(key(left)?, vec![value(right)?]));
    }
    if let Some((left, right)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Requirement::In(key(left)?, vec![value(right)?]));
    }
    for (sign, above) in [('>', true), ('<', false)] {
        if let Some((left, right)) = term.split_once(sign) {
            let bound = right
                .trim()
                .parse()
                .map_err(|_| unparsed("for 'Gt', 'Lt' operators, the value must be an integer".to_owned()))?;
            let left = key(left)?;
            return Ok(if above { Requirement::Above(left, bound) } else { Requirement::Below(left, bound) });
        }
    }
    let mut words = term.splitn(2, char::is_whitespace);
    let name = words.next().unwrap_or_default();
    let Some(rest) = words.next().map(str::trim) else { return Ok(Requirement::Exists(key(name)?)) };
    let (operator, list) = match (rest.strip_prefix("notin"), rest.strip_prefix("in")) {
        (Some(list), _) => ("notin", list.trim()),
        (None, Some(list)) => ("in", list.trim()),
        (None, None) => {
            let word = rest.split_whitespace().next().unwrap_or_default();
            return Err(unparsed(format!("found '{word}', expected: in, notin, =, ==, !=, gt, lt")));
        }
    };
    let Some(list) = list.strip_prefix('(') else {
        return Err(unparsed(format!("found '{list}' expected: '('")));
    };
    let Some(list) = list.strip_suffix(')') else {
        return Err(unparsed("found '', expected: ',', or ')'".to_owned()));
    };
    let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
    let name = key(name)?;
    Ok(if operator == "in" { Requirement::In(name, values) } else { Requirement::NotIn(name, values) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selects(selector: &str, labels: &Value) -> bool {
        let selector = Selector { labels: parse_labels(selector).unwrap(), fields: Vec::new() };
        selector.selects(&json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn labels_are_selected_by_equality_set_and_presence() {
        let labels = json!({"app": "web", "tier": "a", "size": "12"});
        for yes in
            ["", "app=web", "app==web,tier!=b", "app in (web, db)", "tier notin (b,c)", "app", "!gone", "none!=x"]
        {
            assert!(selects(yes, &labels), "{yes}");
        }
        for no in ["app=db", "app!=web", "app in (db)", "gone", "!app", "app=web,tier=b", "size>12", "size<3"] {
            assert!(!selects(no, &labels), "{no}");
        }
        assert!(selects("size>3,size<13", &labels));
    }

    #[test]
    fn malformed_selectors_get_the_real_servers_errors() {
        assert_eq!(parse_labels("a in").unwrap_err(), "unable to parse requirement: found '' expected: '('");
        assert!(parse_labels("a b c").is_err());
        assert!(parse_labels("a=b=c").is_err());
        assert!(parse_labels("-a=b").is_err());
    }

    #[test]
    fn selector_of_an_object_has_labels_and_expressions() {
        let selector = Selector::from_label_selector(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["b"]}],
        }));
        assert!(selector.selects(&json!({"metadata": {"labels": {"app": "web"}}})));
        assert!(!selector.selects(&json!({"metadata": {"labels": {"app": "web", "tier": "b"}}})));
    }
}
