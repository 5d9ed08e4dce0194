//! What the API server refuses in built-in objects: the rules that operators and tests run into.

use serde_json::{Value, json};

use super::pods;
use crate::kinds::Kind;
use crate::meta;
use crate::names;
use crate::selector::Selector;
use crate::status::{FieldError, FieldErrorKind};

const IMMUTABLE: &str = "field is immutable";

/// What is wrong with a new object.
pub fn on_create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    always(kind, object, &mut errors);
    errors
}

/// What is wrong with an object that takes the place of another.
pub fn on_update(kind: &Kind, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let frozen = |field: &str, errors: &mut Vec<FieldError>| {
        let pointer = format!("/{}", field.replace('.', "/"));
        if old.pointer(&pointer) != new.pointer(&pointer) {
            let value = new.pointer(&pointer).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(field, value, IMMUTABLE));
        }
    };
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet") => frozen("spec.selector", &mut errors),
        ("apps", "StatefulSet") => stateful_set(old, new, &mut errors),
        ("batch", "Job") => {
            frozen("spec.selector", &mut errors);
            frozen("spec.completionMode", &mut errors);
        }
        ("", "Pod") => pods::update(old, new, &mut errors),
        ("apps", "ControllerRevision") if old.get("data") != new.get("data") => {
            let data = new.get("data").cloned().unwrap_or_default();
            errors.push(FieldError::invalid("data", data, IMMUTABLE));
        }
        ("", "Secret") => frozen("type", &mut errors),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding")
            if old.get("roleRef") != new.get("roleRef") =>
        {
            let value = new.get("roleRef").cloned().unwrap_or_default();
            errors.push(FieldError::invalid("roleRef", value, "cannot change roleRef"));
        }
        _ => {}
    }
    if matches!(kind.kind.as_str(), "ConfigMap" | "Secret") && old.get("immutable") == Some(&Value::Bool(true)) {
        for field in ["data", "binaryData", "immutable"] {
            if old.get(field) != new.get(field) {
                errors.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
    always(kind, new, &mut errors);
    errors
}

fn always(kind: &Kind, object: &Value, errors: &mut Vec<FieldError>) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pod_spec(object, "spec", errors),
        ("apps", "ReplicaSet" | "StatefulSet") => workload(object, errors),
        ("apps", "Deployment") => {
            workload(object, errors);
            deployment(object, errors);
        }
        ("batch", "Job") => {
            not_negative(object, &["spec.parallelism", "spec.completions", "spec.backoffLimit"], errors);
            pod_spec(object, "spec.template.spec", errors);
            if meta::text(object, "/spec/template/spec/restartPolicy") == "Always" {
                let field = "spec.template.spec.restartPolicy";
                errors.push(FieldError::not_supported(field, "Always", &["OnFailure", "Never"]));
            }
        }
        ("coordination.k8s.io", "Lease") => {
            let duration = object.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64);
            if let Some(duration) = duration.filter(|duration| *duration <= 0) {
                errors.push(FieldError::invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"));
            }
        }
        ("", "ConfigMap") => {
            keys(object, "data", errors);
            keys(object, "binaryData", errors);
        }
        ("", "Secret") => keys(object, "data", errors),
        _ => {}
    }
}

fn keys(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
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

fn not_negative(object: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    for field in fields {
        let value = object.pointer(&format!("/{}", field.replace('.', "/")));
        if let Some(number) = value.and_then(Value::as_i64)
            && number < 0
        {
            errors.push(FieldError::invalid(*field, number, "must be greater than or equal to 0"));
        }
    }
}

fn workload(object: &Value, errors: &mut Vec<FieldError>) {
    not_negative(object, &["spec.replicas", "spec.minReadySeconds"], errors);
    let selector = object.pointer("/spec/selector");
    match selector {
        None => {
            errors.push(FieldError::required("spec.selector", ""));
            // None is one that selects nothing.
            unselected(object, errors);
        }
        Some(selector) => {
            let parsed = Selector::from_label_selector(selector);
            if parsed.is_empty() {
                let why = "empty selector is invalid for deployment";
                errors.push(FieldError::invalid("spec.selector", selector.clone(), why));
            } else if !object.pointer("/spec/template").is_some_and(|template| parsed.selects(template)) {
                unselected(object, errors);
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

fn unselected(object: &Value, errors: &mut Vec<FieldError>) {
    let labels = object.pointer("/spec/template/metadata/labels").cloned().unwrap_or_default();
    let why = "`selector` does not match template `labels`";
    errors.push(FieldError::invalid("spec.template.metadata.labels", labels, why));
}

fn deployment(object: &Value, errors: &mut Vec<FieldError>) {
    not_negative(object, &["spec.revisionHistoryLimit", "spec.progressDeadlineSeconds"], errors);
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let (deadline, ready) = (number("/spec/progressDeadlineSeconds"), number("/spec/minReadySeconds"));
    if let Some(deadline) = deadline.filter(|deadline| *deadline <= ready.unwrap_or_default()) {
        let why = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, why));
    }
    let strategy = object.pointer("/spec/strategy").unwrap_or(&Value::Null);
    let rolling = strategy.get("rollingUpdate");
    match meta::text(strategy, "/type") {
        "Recreate" if rolling.is_some() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", why));
        }
        "Recreate" => {}
        "RollingUpdate" => rolling_update(rolling.unwrap_or(&Value::Null), errors),
        _ => errors.push(FieldError::not_supported("spec.strategy", strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}

fn rolling_update(rolling: &Value, errors: &mut Vec<FieldError>) {
    let at = |field: &str| format!("spec.strategy.rollingUpdate.{field}");
    let mut numbers = [0, 0];
    for (field, number) in ["maxUnavailable", "maxSurge"].into_iter().zip(&mut numbers) {
        let value = rolling.get(field).unwrap_or(&Value::Null);
        let percent = value.as_str().map(|text| text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok()));
        match percent {
            Some(Some(percent)) if percent >= 0 => {
                if field == "maxUnavailable" && percent > 100 {
                    errors.push(FieldError::invalid(at(field), value.clone(), "must not be greater than 100%"));
                }
            }
            Some(_) => {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                           '93%', regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(at(field), value.clone(), why));
            }
            None => not_negative(&json!({"spec": {"strategy": {"rollingUpdate": rolling}}}), &[&at(field)], errors),
        }
        *number = percent.map_or(value.as_i64(), |percent| percent).unwrap_or_default();
    }
    if numbers == [0, 0] {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(at("maxUnavailable"), value, "may not be 0 when `maxSurge` is 0"));
    }
}

fn pod_spec(object: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let spec = object.pointer(&format!("/{}", at.replace('.', "/")));
    let containers = spec.and_then(|spec| spec.get("containers")).and_then(Value::as_array);
    let Some(containers) = containers.filter(|containers| !containers.is_empty()) else {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
        return;
    };
    let mut seen = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let field = format!("{at}.containers[{index}]");
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

fn stateful_set(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    const MUTABLE: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for field in MUTABLE {
            meta::as_map(&mut spec).remove(*field);
        }
        spec
    };
    if fixed(old) != fixed(new) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        errors.push(FieldError::forbidden("spec", why));
    }
}
