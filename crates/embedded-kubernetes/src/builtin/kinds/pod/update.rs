//! What may change in a pod: images, deadlines, and a few fields in one direction only.

use serde_json::Value;

use crate::meta;
use crate::status::FieldError;

/// Adds what is wrong with a pod that replaces another.
pub(super) fn check(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    for list in ["containers", "initContainers"] {
        if !check_images(old, new, list, errors) {
            return;
        }
    }
    if !check_deadline(old, new, errors) {
        return;
    }
    check_tolerations(old, new, errors);
    if immutable_part(old) != immutable_part(new) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";
        errors.push(FieldError::forbidden("spec", why));
    }
}

fn list<'a>(pod: &'a Value, field: &str) -> &'a [Value] {
    pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Checks the images of a list of containers. Returns whether the real server checks the rest after that.
fn check_images(old: &Value, new: &Value, field: &str, errors: &mut Vec<FieldError>) -> bool {
    let containers = list(new, field);
    if containers.len() != list(old, field).len() {
        let why = "pod updates may not add or remove containers";
        errors.push(FieldError::forbidden(format!("spec.{field}"), why));
        return false;
    }
    for (index, container) in containers.iter().enumerate() {
        let (image, at) = (meta::text(container, "/image"), format!("spec.{field}[{index}].image"));
        if image.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if image.trim() != image {
            errors.push(FieldError::invalid(at, image, "must not have leading or trailing whitespace"));
        }
    }
    true
}

/// Checks that a deadline is set for the first time, or becomes earlier. Returns whether the real server checks the rest
/// after that.
fn check_deadline(old: &Value, new: &Value, errors: &mut Vec<FieldError>) -> bool {
    let field = "spec.activeDeadlineSeconds";
    let seconds = |pod: &Value| pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64);
    match (seconds(old), seconds(new)) {
        (_, Some(new)) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.push(FieldError::invalid(field, new, "must be between 0 and 2147483647, inclusive"));
            false
        }
        (Some(old), Some(new)) if old < new => {
            errors.push(FieldError::invalid(field, new, "must be less than or equal to previous value"));
            false
        }
        (Some(_), None) => {
            errors.push(FieldError::invalid(
                field,
                Value::Null,
                "must not update from a positive integer to nil value",
            ));
            true
        }
        _ => true,
    }
}

/// Checks that only the time of an existing toleration changes.
fn check_tolerations(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let timeless = |toleration: &Value| {
        let mut toleration = toleration.clone();
        meta::as_map(&mut toleration).remove("tolerationSeconds");
        toleration
    };
    let stays = |old: &Value| list(new, "tolerations").iter().any(|new| timeless(new) == timeless(old));
    if !list(old, "tolerations").iter().all(stays) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", why));
    }
}

/// Returns the part of the specification that cannot change at all.
fn immutable_part(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    let map = meta::as_map(&mut spec);
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        map.remove(field);
    }
    for field in ["containers", "initContainers"] {
        for container in map.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            meta::as_map(container).remove("image");
        }
    }
    spec
}
