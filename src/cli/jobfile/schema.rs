//! A document against the resource definition: what an API server with strict field validation would refuse, all of it
//! at once, and the defaults that it would fill in.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};

use super::super::nearest::nearest;
use super::Finding;
use super::tree::{Field, Node, Place, Tree};

/// The schema of a StreamJob, with the fields that every object has.
pub(super) fn stream_job() -> JSONSchemaProps {
    use kube::CustomResourceExt as _;
    let version = sluice_api::StreamJob::crd().spec.versions.into_iter().next();
    let mut schema = version.and_then(|version| version.schema?.open_api_v3_schema).unwrap_or_default();
    let text = || JSONSchemaProps { type_: Some("string".into()), ..JSONSchemaProps::default() };
    let any = || JSONSchemaProps { x_kubernetes_preserve_unknown_fields: Some(true), ..JSONSchemaProps::default() };
    let texts = || JSONSchemaProps {
        type_: Some("object".into()),
        additional_properties: Some(JSONSchemaPropsOrBool::Schema(Box::new(text()))),
        ..JSONSchemaProps::default()
    };
    let name = JSONSchemaProps {
        pattern: Some("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$".into()),
        min_length: Some(1),
        max_length: Some(253),
        ..text()
    };
    let mut metadata = vec![
        ("name", name),
        ("namespace", text()),
        ("generateName", text()),
        ("labels", texts()),
        ("annotations", texts()),
    ];
    // What a server wrote, as in the answer of `kubectl get -o yaml`.
    for field in [
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ] {
        metadata.push((field, any()));
    }
    let metadata = JSONSchemaProps {
        type_: Some("object".into()),
        properties: Some(metadata.into_iter().map(|(field, schema)| (field.to_owned(), schema)).collect()),
        required: Some(vec!["name".into()]),
        ..JSONSchemaProps::default()
    };
    let properties = schema.properties.get_or_insert_default();
    properties.extend([("apiVersion".into(), text()), ("kind".into(), text()), ("metadata".into(), metadata)]);
    // The operator writes it, and nothing decides from it.
    properties.insert("status".into(), any());
    schema.required = Some(vec!["apiVersion".into(), "kind".into(), "metadata".into(), "spec".into()]);
    schema
}

/// A look at a document.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
    /// A value is missing or was left out because it is wrong: what depends on it cannot be judged.
    pub(super) broken: bool,
    paths: Vec<(String, String)>,
}

impl Check {
    /// Checks a whole document. Returns it with the defaults, without what is wrong.
    pub(super) fn document(node: &Node, schema: &JSONSchemaProps) -> (Self, Value) {
        let mut check = Self::default();
        collect_paths(schema, "", &mut check.paths);
        let value = check.value(node, schema, "", node.place).unwrap_or_default();
        (check, value)
    }

    fn add(&mut self, place: Place, field: &str, message: String, help: Option<String>) {
        self.findings.push(Finding { place, field: field.to_owned(), message, help });
    }

    fn wrong(&mut self, node: &Node, field: &str, message: String, help: Option<String>) -> Option<Value> {
        self.broken = true;
        self.add(node.place, field, message, help);
        None
    }

    /// `parent` is the place of the key, for what is missing inside.
    fn value(&mut self, node: &Node, schema: &JSONSchemaProps, path: &str, parent: Place) -> Option<Value> {
        if schema.x_kubernetes_int_or_string == Some(true) {
            return self.integer_or_text(node, path);
        }
        match (schema.type_.as_deref(), &node.tree) {
            (Some("object"), Tree::Fields(fields)) => Some(self.fields(fields, schema, path, parent)),
            (Some("array"), Tree::List(items)) => self.list(node, items, schema, path),
            (Some("string"), Tree::Text(text)) => self.text(node, text, schema, path),
            (Some("integer"), Tree::Integer(number)) => self.integer(node, *number, schema, path),
            (Some("boolean"), Tree::Bool(truth)) => Some((*truth).into()),
            (None, _) => Some(node.plain()),
            (Some(kind), found) => {
                let help = help(kind, found, schema);
                self.wrong(node, path, format!("expected {}, found {found}", words(kind)), help)
            }
        }
    }

    fn fields(&mut self, fields: &[Field], schema: &JSONSchemaProps, path: &str, parent: Place) -> Value {
        let empty = std::collections::BTreeMap::new();
        let known = schema.properties.as_ref().unwrap_or(&empty);
        let open = schema.x_kubernetes_preserve_unknown_fields == Some(true);
        let mut object = Map::new();
        for Field { name, place, value } in fields {
            let field = join(path, name);
            let free = match &schema.additional_properties {
                Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(schema.as_ref()),
                _ => None,
            };
            match known.get(name).or(free) {
                // Absent: this API's fields take no null.
                _ if matches!(value.tree, Tree::Null) && !open => {}
                Some(schema) => {
                    if let Some(value) = self.value(value, schema, &field, *place) {
                        object.insert(name.clone(), value);
                    }
                }
                None if open => drop(object.insert(name.clone(), value.plain())),
                None => {
                    let help = self.meant(name, path, known.keys().map(String::as_str));
                    self.add(*place, &field, "unknown field".to_owned(), Some(help));
                }
            }
        }
        for name in schema.required.iter().flatten() {
            if !fields.iter().any(|field| field.name == *name && !matches!(field.value.tree, Tree::Null)) {
                self.broken = true;
                let what = known.get(name).and_then(|schema| schema.description.as_deref()).and_then(first_sentence);
                self.add(parent, &join(path, name), "is missing".to_owned(), what.map(str::to_owned));
            }
        }
        for (name, schema) in known {
            if let Some(default) = &schema.default {
                object.entry(name.clone()).or_insert_with(|| default.0.clone());
            }
        }
        Value::Object(object)
    }

    /// What an unknown field should have been.
    fn meant<'a>(&self, name: &str, path: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
        if let Some(near) = nearest(name, known.clone()) {
            return format!("did you mean `{near}`?");
        }
        let place = if path.is_empty() { "the top" } else { path };
        if let Some((elsewhere, _)) = self.paths.iter().find(|(_, last)| last == name) {
            return format!("`{name}` belongs to `{elsewhere}`");
        }
        format!("the fields of {place} are {}", known.collect::<Vec<_>>().join(", "))
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &JSONSchemaProps, path: &str) -> Option<Value> {
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let (least, most) = (schema.min_items.unwrap_or(0), schema.max_items.unwrap_or(i64::MAX));
        if !(least..=most).contains(&count) {
            let message = format!("expected {} entries, found {count}", between(least, most));
            return self.wrong(node, path, message, None);
        }
        let item_schema = match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(schema)) => schema.as_ref(),
            _ => return Some(node.plain()),
        };
        let mut seen = BTreeSet::new();
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let field = format!("{path}[{index}]");
            for key in schema.x_kubernetes_list_map_keys.iter().flatten() {
                let Some(name) = item.text(key) else { continue };
                if !seen.insert(name) {
                    let place = item.get(key).map_or(item.place, |node| node.place);
                    self.broken = true;
                    self.add(place, &join(&field, key), format!("{name:?} is used twice in this list"), None);
                }
            }
            list.extend(self.value(item, item_schema, &field, item.place));
        }
        Some(Value::Array(list))
    }

    fn text(&mut self, node: &Node, text: &str, schema: &JSONSchemaProps, path: &str) -> Option<Value> {
        if let Some(choices) = &schema.enum_ {
            let choices: Vec<&str> = choices.iter().filter_map(|choice| choice.0.as_str()).collect();
            if !choices.contains(&text) {
                let help = nearest(text, choices.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                let message = format!("expected one of {}, found {}", choices.join(", "), node.tree);
                return self.wrong(node, path, message, help);
            }
        }
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        let (least, most) = (schema.min_length.unwrap_or(0), schema.max_length.unwrap_or(i64::MAX));
        if !(least..=most).contains(&length) {
            let message = format!("expected {} characters, found {length}", between(least, most));
            return self.wrong(node, path, message, None);
        }
        let fits = |pattern: &String| regex::Regex::new(pattern).map_or(true, |pattern| pattern.is_match(text));
        match &schema.pattern {
            Some(pattern) if !fits(pattern) => {
                let message = if is_duration(schema) {
                    format!("expected a duration such as 500ms, 10s or 1h30m, found {}", node.tree)
                } else {
                    format!("expected a text like {pattern}, found {}", node.tree)
                };
                self.wrong(node, path, message, None)
            }
            _ => Some(text.into()),
        }
    }

    fn integer(&mut self, node: &Node, number: i64, schema: &JSONSchemaProps, path: &str) -> Option<Value> {
        // Bounds are whole numbers that a float holds exactly.
        #[allow(clippy::cast_precision_loss, reason = "only compared; rounding keeps the order")]
        let inside = schema.minimum.is_none_or(|least| number as f64 >= least)
            && schema.maximum.is_none_or(|most| number as f64 <= most);
        if inside {
            return Some(number.into());
        }
        let bounds = match (schema.minimum, schema.maximum) {
            (Some(least), Some(most)) => format!("between {least} and {most}"),
            (Some(least), None) => format!("of at least {least}"),
            (_, most) => format!("of at most {}", most.unwrap_or(f64::INFINITY)),
        };
        self.wrong(node, path, format!("expected a whole number {bounds}, found {number}"), None)
    }

    fn integer_or_text(&mut self, node: &Node, path: &str) -> Option<Value> {
        match &node.tree {
            Tree::Integer(number) if i32::try_from(*number).is_ok() => Some((*number).into()),
            Tree::Text(text) => Some(text.clone().into()),
            found => {
                let help = match found {
                    Tree::Number(number) => Some(format!("put it in quotes: \"{number}\"")),
                    _ => None,
                };
                self.wrong(node, path, format!("expected a whole number or a text, found {found}"), help)
            }
        }
    }
}

/// Every field below `spec` that could be named in the wrong place: (parent, name).
fn collect_paths(schema: &JSONSchemaProps, path: &str, paths: &mut Vec<(String, String)>) {
    for (name, property) in schema.properties.iter().flatten() {
        let field = join(path, name);
        if !path.is_empty() && !path.starts_with("metadata") {
            paths.push((path.to_owned(), name.clone()));
        }
        collect_paths(property, &field, paths);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &property.items {
            collect_paths(items, &format!("{field}[]"), paths);
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn words(kind: &str) -> &str {
    match kind {
        "object" => "fields",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        other => other,
    }
}

fn between(least: i64, most: i64) -> String {
    match (least, most) {
        (_, i64::MAX) => format!("at least {least}"),
        (0, _) => format!("at most {most}"),
        _ => format!("{least} to {most}"),
    }
}

fn is_duration(schema: &JSONSchemaProps) -> bool {
    schema.pattern.as_deref().is_some_and(|pattern| pattern.contains("(ms|s|m|h)"))
}

/// What to write instead of a value of the wrong kind.
fn help(kind: &str, found: &Tree, schema: &JSONSchemaProps) -> Option<String> {
    match (kind, found) {
        ("string", Tree::Integer(number)) if is_duration(schema) => Some(format!("give it a unit: {number}s")),
        ("string", Tree::Integer(_) | Tree::Number(_) | Tree::Bool(_)) => Some("put it in quotes".to_owned()),
        ("integer", Tree::Text(text)) if text.parse::<i64>().is_ok() => Some("leave out the quotes".to_owned()),
        ("boolean", Tree::Text(text)) if matches!(text.as_str(), "true" | "false") => {
            Some("leave out the quotes".to_owned())
        }
        ("array", _) => Some("begin each entry with `- `".to_owned()),
        _ => None,
    }
}

fn first_sentence(description: &str) -> Option<&str> {
    description.split(". ").next().map(|sentence| sentence.trim_end_matches('.')).filter(|text| !text.contains('\n'))
}
