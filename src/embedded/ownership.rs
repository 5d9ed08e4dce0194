//! Who owns which field: `metadata.managedFields`.

use serde_json::Value;

use super::kinds::Kind;
use super::meta;
use super::status::Status;

/// Notes that a manager has changed an object by anything but an apply.
pub fn updated(_kind: &Kind, live: Option<&Value>, new: &mut Value, _manager: &str, _subresource: &str, _now: &str) {
    match live.and_then(|live| live.pointer("/metadata/managedFields")) {
        Some(fields) => meta::set(new, "managedFields", fields.clone()),
        None => meta::remove(new, "managedFields"),
    }
}

/// Applies an object on the one that is there, if any.
pub fn applied(
    _kind: &Kind,
    live: Option<&Value>,
    applied: &Value,
    _manager: &str,
    _force: bool,
    _subresource: &str,
    _now: &str,
) -> Result<Value, Status> {
    let _ = live;
    Ok(applied.clone())
}

/// Whether two states of an object differ in nothing but the times at which managers have written.
pub fn same(live: &Value, new: &Value) -> bool {
    if live == new {
        return true;
    }
    let without_times = |object: &Value| {
        let mut object = object.clone();
        let fields = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
        fields.into_iter().flatten().for_each(|entry| {
            meta::as_map(entry).remove("time");
        });
        object
    };
    without_times(live) == without_times(new)
}
