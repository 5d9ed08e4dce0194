//! Reads and writes the conditions of a status.

use serde_json::{Map, Value, json};

use crate::meta;

/// The new value of a condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition<'a> {
    /// The type of the condition.
    pub(super) kind: &'a str,
    /// `True`, `False` or `Unknown`.
    pub(super) status: &'a str,
    /// The reason, one word in CamelCase.
    pub(super) reason: &'a str,
    /// The message for people.
    pub(super) message: &'a str,
}

/// Returns the conditions of a status.
pub(super) fn list(status: &Map<String, Value>) -> &[Value] {
    status.get("conditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the condition of a type.
pub(super) fn find<'a>(status: &'a Map<String, Value>, kind: &str) -> Option<&'a Value> {
    list(status).iter().find(|condition| meta::text(condition, "/type") == kind)
}

/// Returns whether the condition of a type is true.
pub(super) fn holds(status: &Map<String, Value>, kind: &str) -> bool {
    find(status, kind).is_some_and(|condition| meta::text(condition, "/status") == "True")
}

/// Removes the condition of a type.
pub(super) fn remove(status: &mut Map<String, Value>, kind: &str) {
    if let Some(list) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        list.retain(|condition| meta::text(condition, "/type") != kind);
    }
}

/// Sets a condition. Its transition time is that of the last change of its status. `extra` holds fields that only some
/// kinds have.
pub(super) fn set(status: &mut Map<String, Value>, condition: Condition<'_>, now: &str, extra: Value) {
    let old = find(status, condition.kind);
    let since = old.filter(|old| meta::text(old, "/status") == condition.status);
    let since = since.map_or(now, |old| meta::text(old, "/lastTransitionTime")).to_owned();
    let Condition { kind, status: value, reason, message } = condition;
    let mut new = json!({
        "type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    if let Value::Object(extra) = extra {
        meta::as_map(&mut new).extend(extra);
    }
    let list = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    match list.iter_mut().find(|old| meta::text(old, "/type") == kind) {
        Some(old) => *old = new,
        None => list.push(new),
    }
}
