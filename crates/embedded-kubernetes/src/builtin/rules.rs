//! Rules that several built-in kinds share: what the real server refuses, where operators and tests run into it.

use serde_json::Value;

use crate::meta;
use crate::names;
use crate::selector::Selector;
use crate::status::{FieldError, FieldErrorKind};

/// Returns the value at a path such as `spec.replicas`.
pub(super) fn value_at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    object.pointer(&format!("/{}", path.replace('.', "/")))
}

/// Refuses a change of the field at this path.
pub(super) fn immutable(old: &Value, new: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let value = value_at(new, path);
    if value_at(old, path) != value {
        errors.push(FieldError::invalid(path, value.cloned().unwrap_or_default(), "field is immutable"));
    }
}

/// Refuses changes of the data of a `ConfigMap` or `Secret` that is marked as immutable.
pub(super) fn immutable_data(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    for field in ["data", "binaryData", "immutable"] {
        if old.get(field) != new.get(field) {
            errors.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}

/// Checks the keys of the data of a `ConfigMap` or `Secret`.
pub(super) fn data_keys(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let valid = |key: &str| {
        !key.is_empty()
            && key.len() <= 253
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && key != "."
            && !key.starts_with("..")
    };
    for key in object.get(field).and_then(Value::as_object).into_iter().flat_map(|map| map.keys()) {
        if !valid(key) {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
                       or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
            errors.push(FieldError::invalid(format!("{field}[{key}]"), key.as_str(), why));
        }
        if field == "data" && object.get("binaryData").is_some_and(|other| other.get(key).is_some()) {
            let why = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(format!("data[{key}]"), key.as_str(), why));
        }
    }
}

/// Refuses negative numbers at these paths.
pub(super) fn not_negative(object: &Value, paths: &[&str], errors: &mut Vec<FieldError>) {
    for path in paths {
        let number = value_at(object, path).and_then(Value::as_i64);
        if let Some(number) = number.filter(|number| *number < 0) {
            errors.push(FieldError::invalid(*path, number, "must be greater than or equal to 0"));
        }
    }
}

/// Checks what a `Deployment`, a `ReplicaSet` and a `StatefulSet` have in common.
pub(super) fn workload(object: &Value, errors: &mut Vec<FieldError>) {
    not_negative(object, &["spec.replicas", "spec.minReadySeconds"], errors);
    match object.pointer("/spec/selector") {
        None => {
            errors.push(FieldError::required("spec.selector", ""));
            // The real server then also checks an empty selector, which selects nothing.
            template_is_not_selected(object, errors);
        }
        Some(selector) => {
            let parsed = Selector::from_label_selector(selector);
            if parsed.is_empty() {
                let why = "empty selector is invalid for deployment";
                errors.push(FieldError::invalid("spec.selector", selector.clone(), why));
            } else if !object.pointer("/spec/template").is_some_and(|template| parsed.selects(template)) {
                template_is_not_selected(object, errors);
            }
        }
    }
    for (key, value) in
        object.pointer("/spec/template/metadata/labels").and_then(Value::as_object).into_iter().flatten()
    {
        let why = names::qualified_name(key).map(|why| (Value::from(key.as_str()), why));
        let why = why.or_else(|| Some((value.clone(), names::label_value(value.as_str().unwrap_or_default())?)));
        if let Some((value, why)) = why {
            errors.push(FieldError::invalid("spec.template.metadata.labels", value, why));
        }
    }
    pod_spec(object, "spec.template.spec", errors);
    if object.pointer("/spec/template/spec/activeDeadlineSeconds").is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", why));
    }
    let policy = meta::text(object, "/spec/template/spec/restartPolicy");
    if policy != "Always" {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
}

fn template_is_not_selected(object: &Value, errors: &mut Vec<FieldError>) {
    let labels = object.pointer("/spec/template/metadata/labels").cloned().unwrap_or_default();
    let why = "`selector` does not match template `labels`";
    errors.push(FieldError::invalid("spec.template.metadata.labels", labels, why));
}

/// Checks the specification of a pod at this path.
pub(super) fn pod_spec(object: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let containers = value_at(object, path).and_then(|spec| spec.get("containers")).and_then(Value::as_array);
    let Some(containers) = containers.filter(|containers| !containers.is_empty()) else {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
        return;
    };
    let mut seen = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let field = format!("{path}.containers[{index}]");
        let name = meta::text(container, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if let Some(why) = names::label(name) {
            errors.push(FieldError::invalid(format!("{field}.name"), name, why));
        } else if seen.contains(&name) {
            let kind = FieldErrorKind::Duplicate;
            errors.push(FieldError::new(kind, format!("{field}.name"), Some(name.into()), ""));
        }
        seen.push(name);
        if meta::text(container, "/image").is_empty() {
            errors.push(FieldError::required(format!("{field}.image"), ""));
        }
    }
}
