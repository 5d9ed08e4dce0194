//! The resource definition of a StreamJob, applied to a document by the schema engine of the embedded API server: the
//! same pruning, defaults, bounds and rules, with the same messages. Only the hints are added here.

use std::sync::LazyLock;

use embedded_kubernetes::schema::Schema;
use embedded_kubernetes::status::{FieldError, FieldErrorKind};
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::super::nearest::nearest;
use super::Finding;
use super::tree::{Node, Tree};

static STREAM_JOB: LazyLock<Result<Definition, String>> = LazyLock::new(Definition::stream_job);

/// Returns the definition of this version of the StreamJob. Errors: it is not a valid definition, which is a bug.
pub(super) fn stream_job() -> Result<&'static Definition, String> {
    STREAM_JOB.as_ref().map_err(Clone::clone)
}

/// The field path of errors about the object as a whole.
const WHOLE_OBJECT: &str = "<nil>";

/// The definition: the schema of the whole object, and that of its metadata.
pub(super) struct Definition {
    object: Schema,
    metadata: Schema,
    /// Both schemas in one, as JSON, for the hints.
    json: Value,
}

impl Definition {
    fn stream_job() -> Result<Self, String> {
        let failed = |errors: Vec<FieldError>| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("the resource definition in this program is invalid: {}", errors.join(", "))
        };
        let mut version = serde_json::to_value(sluice_api::StreamJob::crd())
            .map_err(|error| format!("the resource definition in this program is invalid: {error}"))?
            .pointer_mut("/spec/versions/0")
            .map(Value::take)
            .unwrap_or_default();
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
            for (name, property) in [
                ("apiVersion", json!({"type": "string"})),
                ("kind", json!({"type": "string"})),
                ("metadata", metadata()),
            ] {
                schema["properties"][name] = property;
            }
        }
        // The scale subresource is left out: it rejects `replicas: null`, which in a file counts as absent.
        if let Some(version) = version.as_object_mut() {
            version.remove("subresources");
        }
        let object = Schema::from_crd_version(&version).map_err(failed)?;
        let metadata = Schema::from_crd_version(&json!({"schema": {"openAPIV3Schema": metadata()}})).map_err(failed)?;
        let json = version.pointer_mut("/schema/openAPIV3Schema").map(Value::take).unwrap_or_default();
        Ok(Self { object, metadata, json })
    }

    /// Does to the document what an API server with strict field validation does to an object: removes unknown fields,
    /// fills in defaults and validates. Returns the resulting object and everything that is wrong.
    pub(super) fn apply(&self, document: &Node) -> (Value, Vec<Finding>) {
        let mut object = document.to_value();
        if let Some(object) = object.as_object_mut() {
            // Written by the operator; it does not affect decisions.
            object.remove("status");
        }
        let mut unknown = self.object.prune(&mut object);
        // A schema keeps all metadata, as it does in the API server, where the fields of metadata are checked by other
        // code.
        if let Some(metadata) = object.get_mut("metadata") {
            unknown.extend(self.metadata.prune(metadata).into_iter().map(|field| format!("metadata.{field}")));
        }
        self.object.default(&mut object);
        let mut findings: Vec<Finding> = unknown.iter().map(|field| self.unknown_field(document, field)).collect();
        for error in self.object.validate(&object, None) {
            // This error only reports that rules were skipped because of the other errors.
            if error.field == WHOLE_OBJECT && error.value == Some(Value::Null) {
                continue;
            }
            let field = error_field(&error, document);
            // The cause of a broken rule is probably the unknown field, if there is one in the same object.
            let is_rule = error.kind == FieldErrorKind::Invalid;
            if is_rule && unknown.iter().any(|unknown| parent(unknown) == field) {
                continue;
            }
            let help = self.help(document, &error);
            findings.push(Finding { place: document.place_of(&field), field, message: error.body(), help });
        }
        (object, findings)
    }

    fn unknown_field(&self, document: &Node, field: &str) -> Finding {
        let (place, name) = (document.key_place(field), field.rsplit('.').next().unwrap_or(field));
        let help = self.intended_field(parent(field), name);
        Finding { place, field: field.to_owned(), message: "unknown field".to_owned(), help: Some(help) }
    }

    /// Describes what an unknown field should have been.
    fn intended_field(&self, parent: &str, name: &str) -> String {
        let schema = self.schema_at(parent);
        let known = || {
            let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
            properties.into_iter().flatten().map(|(name, _)| name.as_str())
        };
        if let Some(near) = nearest(name, known()) {
            return format!("did you mean `{near}`?");
        }
        if let Some(elsewhere) = find_parent(&self.json, "", name) {
            return format!("`{name}` belongs to `{elsewhere}`");
        }
        let place = if parent.is_empty() { "the top level" } else { parent };
        format!("the fields of {place} are {}", known().collect::<Vec<_>>().join(", "))
    }

    /// Describes what to write instead of a wrong or missing value.
    fn help(&self, document: &Node, error: &FieldError) -> Option<String> {
        let schema = self.schema_at(&error.field);
        let scalar = match document.value_at(&error.field).map(|node| &node.tree) {
            Some(Tree::Scalar(value)) => Some(value),
            _ => None,
        };
        match error.kind {
            FieldErrorKind::Required => first_sentence(schema?.get("description")?.as_str()?).map(str::to_owned),
            FieldErrorKind::NotSupported => {
                let choices = schema?.get("enum")?.as_array()?.iter().filter_map(Value::as_str);
                nearest(scalar?.as_str()?, choices).map(|near| format!("did you mean `{near}`?"))
            }
            FieldErrorKind::TypeInvalid => type_help(schema?, scalar),
            FieldErrorKind::Invalid if is_duration(schema?) && error.detail.contains("should match") => {
                Some("write a duration such as 500ms, 10s or 1h30m".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the schema of the field at a path such as `spec.sources[0].name`.
    fn schema_at(&self, path: &str) -> Option<&Value> {
        path.split(['.', '[']).filter(|step| !step.is_empty()).try_fold(&self.json, |schema, step| {
            if step.ends_with(']') {
                return schema.get("items");
            }
            let named = schema.get("properties").and_then(|properties| properties.get(step));
            named.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object()))
        })
    }
}

/// The schema of `metadata`: what a user writes, and what a server adds, as in the output of `kubectl get -o yaml`.
fn metadata() -> Value {
    let (text, any) = (json!({"type": "string"}), json!({"x-kubernetes-preserve-unknown-fields": true}));
    let texts = json!({"type": "object", "additionalProperties": text});
    let name =
        json!({"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "minLength": 1, "maxLength": 253});
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": name, "namespace": text, "generateName": text, "labels": texts, "annotations": texts,
            "creationTimestamp": any, "deletionGracePeriodSeconds": any, "deletionTimestamp": any, "finalizers": any,
            "generation": any, "managedFields": any, "ownerReferences": any, "resourceVersion": any, "selfLink": any,
            "uid": any,
        },
    })
}

/// Returns the field that an error is about. A rule between several fields belongs to the object that contains them;
/// its message begins with the name of the field to change, and that field is returned if it is in the document.
fn error_field(error: &FieldError, document: &Node) -> String {
    let object = if error.field == WHOLE_OBJECT { "" } else { error.field.as_str() };
    if error.kind != FieldErrorKind::Invalid {
        return object.to_owned();
    }
    let named = error.detail.split(' ').next().unwrap_or_default();
    let below = |object: &str| if object.is_empty() { named.to_owned() } else { format!("{object}.{named}") };
    let candidates = [below(object), below(parent(object))];
    candidates.into_iter().find(|field| document.value_at(field).is_some()).unwrap_or_else(|| object.to_owned())
}

fn parent(field: &str) -> &str {
    field.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// Returns the path of the first object below `spec` that has a field of this name.
fn find_parent(schema: &Value, path: &str, name: &str) -> Option<String> {
    let properties = schema.get("properties").and_then(Value::as_object)?;
    if path.starts_with("spec") && properties.contains_key(name) {
        return Some(path.to_owned());
    }
    properties.iter().filter(|(field, _)| !path.is_empty() || *field == "spec").find_map(|(field, property)| {
        let below = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        find_parent(property, &below, name)
            .or_else(|| property.get("items").and_then(|items| find_parent(items, &format!("{below}[]"), name)))
    })
}

fn is_duration(schema: &Value) -> bool {
    schema.get("pattern").and_then(Value::as_str).is_some_and(|pattern| pattern.contains("(ms|s|m|h)"))
}

/// Describes what to write instead of a value of the wrong type.
fn type_help(schema: &Value, found: Option<&Value>) -> Option<String> {
    let int_or_string = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    match (wanted, found) {
        ("array", _) => Some("begin each entry with `- `".to_owned()),
        (_, Some(number @ Value::Number(_))) if int_or_string => Some(format!("put it in quotes: \"{number}\"")),
        ("string", Some(number @ Value::Number(_))) if is_duration(schema) => {
            Some(format!("add a unit, such as {number}s"))
        }
        ("string", Some(Value::Number(_) | Value::Bool(_))) => Some("put it in quotes".to_owned()),
        ("integer", Some(Value::String(text))) if text.parse::<i64>().is_ok() => Some("remove the quotes".to_owned()),
        ("boolean", Some(Value::String(text))) if matches!(text.as_str(), "true" | "false") => {
            Some("remove the quotes".to_owned())
        }
        _ => None,
    }
}

fn first_sentence(description: &str) -> Option<&str> {
    description.split(". ").next().map(|sentence| sentence.trim_end_matches('.')).filter(|text| !text.contains('\n'))
}
