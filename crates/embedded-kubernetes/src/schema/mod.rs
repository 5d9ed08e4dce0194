//! The schema of a custom resource: what an API server does with an object before it stores it.
//!
//! The order is [`Schema::prune`], [`Schema::default`], [`Schema::validate`]. The errors have the texts of the real
//! server, because users see them through `kubectl`. Where the real server reports fields in random order, this one
//! sorts them by name.

mod cel;
mod cel_input;
mod duplicates;
mod formats;
pub(super) mod node;
mod rules;
mod shape;
mod validate;

use serde_json::Value;

use self::node::{Role, SchemaNode, SchemaReader};
use self::validate::Check;
use super::status::FieldError;

/// The path that errors in the schema itself start with.
const ROOT: &str = "spec.validation.openAPIV3Schema";

/// The schema of one version of a custom resource.
#[derive(Debug)]
pub struct Schema {
    root: SchemaNode,
    scale: Option<Scale>,
}

/// The paths of the scale subresource.
#[derive(Debug)]
struct Scale {
    spec_replicas: String,
    status_replicas: String,
    selector: Option<String>,
}

impl Schema {
    /// Reads one entry of `spec.versions` of a `CustomResourceDefinition`.
    ///
    /// The errors are all violations of the rules for structural schemas, and all rules that this server does not
    /// support in full.
    pub fn from_crd_version(version: &Value) -> Result<Self, Vec<FieldError>> {
        let missing = || vec![FieldError::required("spec.versions[0].schema.openAPIV3Schema", "schemas are required")];
        let json = version.pointer("/schema/openAPIV3Schema").ok_or_else(missing)?;
        let mut reader = SchemaReader::new();
        let root = reader.node(json, ROOT, Role::Root);
        let mut errors = reader.errors;
        validate::defaults(&root, ROOT, &mut errors);
        let path = |name: &str| version.pointer(&format!("/subresources/scale/{name}")).and_then(Value::as_str);
        let scale = version.pointer("/subresources/scale").map(|_| Scale {
            spec_replicas: path("specReplicasPath").unwrap_or_default().to_owned(),
            status_replicas: path("statusReplicasPath").unwrap_or_default().to_owned(),
            selector: path("labelSelectorPath").map(str::to_owned),
        });
        if errors.is_empty() { Ok(Self { root, scale }) } else { Err(errors) }
    }

    /// Removes the fields that the schema does not declare. Returns their paths, sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        shape::prune(object, Some(&self.root), false, "", &mut unknown);
        unknown.sort();
        unknown
    }

    /// Removes meaningless nulls, and fills in the defaults.
    pub fn default(&self, object: &mut Value) {
        shape::drop_nulls(object, &self.root);
        shape::fill_in(object, &self.root);
    }

    /// Returns the errors of `new`. On an update, `old` is the previous version: transition rules need it, and old
    /// errors in unchanged fields are not reported.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Check::default().all(&self.root, new, old);
        if let Some(scale) = &self.scale {
            scale.check(new, &mut errors);
        }
        self.invariants(new, old, &mut errors);
        errors
    }

    /// Checks what concerns more than one field: duplicates in lists, and the rules, unless one of the `errors` so far
    /// prevents their evaluation.
    pub fn invariants(&self, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        if old.is_none_or(|old| duplicates::find(&self.root, old).is_empty()) {
            errors.extend(duplicates::find(&self.root, new));
        }
        if !errors.iter().any(rules::blocking) {
            errors.extend(rules::check(&self.root, new, old));
        } else if rules::has_rules(&self.root) {
            errors.push(rules::not_checked());
        }
    }
}

impl Schema {
    /// Returns the node of the whole object, which server-side apply needs to know how lists are keyed.
    pub(crate) fn root(&self) -> &SchemaNode {
        &self.root
    }
}

impl Scale {
    fn check(&self, object: &Value, errors: &mut Vec<FieldError>) {
        for path in [&self.spec_replicas, &self.status_replicas] {
            let why = match at(object, path) {
                Ok(None) => continue,
                Ok(Some(Value::Number(number))) if number.is_i64() => match number.as_i64().unwrap_or_default() {
                    replicas if replicas < 0 => (replicas, "should be a non-negative integer".to_owned()),
                    replicas if replicas > i64::from(i32::MAX) => {
                        (replicas, format!("should be less than or equal to {}", i32::MAX))
                    }
                    _ => continue,
                },
                Ok(Some(other)) => (0, accessor_error(path, other, "int64")),
                Err(other) => (0, accessor_error(path, other, "map[string]interface{}")),
            };
            errors.push(FieldError::invalid(path.as_str(), why.0, why.1));
        }
        if let Some(path) = &self.selector {
            let why = match at(object, path) {
                Ok(None | Some(Value::String(_))) => return,
                Ok(Some(other)) => accessor_error(path, other, "string"),
                Err(other) => accessor_error(path, other, "map[string]interface{}"),
            };
            errors.push(FieldError::invalid(path.as_str(), "", why));
        }
    }
}

/// Returns the value at a path such as `.spec.replicas`. The error is a value on the way that is not an object.
fn at<'a>(object: &'a Value, path: &str) -> Result<Option<&'a Value>, &'a Value> {
    let mut at = object;
    for name in path.trim_start_matches('.').split('.') {
        let Value::Object(map) = at else { return Err(at) };
        match map.get(name) {
            Some(value) => at = value,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn accessor_error(path: &str, found: &Value, expected: &str) -> String {
    let (shown, go_type) = match found {
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Bool(value) => (value.to_string(), "bool"),
        Value::Number(value) if value.is_i64() => (value.to_string(), "int64"),
        // Go formats 1.0 as 1.
        Value::Number(value) => (value.as_f64().unwrap_or_default().to_string(), "float64"),
        Value::String(value) => (value.clone(), "string"),
        Value::Array(_) => (found.to_string(), "[]interface {}"),
        Value::Object(_) => (found.to_string(), "map[string]interface {}"),
    };
    format!("{path} accessor error: {shown} is of the type {go_type}, expected {expected}")
}

#[cfg(test)]
mod tests;
