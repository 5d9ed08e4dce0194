//! Parts of cells that the tables of several built-in kinds share.

use serde_json::{Map, Value};

use super::since::since;
pub(crate) use crate::meta::text;

/// Returns the number at a JSON pointer, or 0.
pub(crate) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// Returns the items of the list at a JSON pointer.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Returns the number of entries of the map at a JSON pointer.
pub(crate) fn count(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, Map::len)
}

/// Returns the condition of this type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

/// Returns whether the condition of this type is true.
pub(crate) fn condition_holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

/// The cell with the name.
pub(crate) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

/// The cell with the time since the creation.
pub(crate) fn age(object: &Value, now: &str) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now).into()
}

/// The cell with a field of each container of the pod template.
pub(crate) fn containers(object: &Value, field: &str) -> Value {
    let all: Vec<&str> = items(object, "/spec/template/spec/containers").iter().map(|item| text(item, field)).collect();
    all.join(",").into()
}

/// The cell with the number of ready and of wanted replicas.
pub(crate) fn ready_replicas(object: &Value) -> Value {
    format!("{}/{}", number(object, "/status/readyReplicas"), number(object, "/spec/replicas")).into()
}

/// The cell with `spec.selector`, in the syntax of a query.
pub(crate) fn selector(object: &Value) -> Value {
    let mut terms = pairs(object.pointer("/spec/selector/matchLabels"));
    for expression in items(object, "/spec/selector/matchExpressions") {
        let values: Vec<&str> = items(expression, "/values").iter().filter_map(Value::as_str).collect();
        let (key, values) = (text(expression, "/key"), values.join(","));
        terms.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    joined_or_none(&terms)
}

/// Returns the entries of a map of text, each as `key=value`.
pub(crate) fn pairs(labels: Option<&Value>) -> Vec<String> {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect()
}

/// The cell with these terms, or with `<none>`.
pub(crate) fn joined_or_none(terms: &[String]) -> Value {
    if terms.is_empty() { "<none>".into() } else { terms.join(",").into() }
}
