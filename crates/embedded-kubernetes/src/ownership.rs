//! Field ownership for the server: passes to [`apply`](super::apply) what it needs to know about a kind, and compares
//! versions of an object.

use serde_json::Value;

use super::apply::{self, Types, Write};
use super::kinds::Kind;
use super::meta;
use super::status::Status;

/// The identity of a writer, and the time of its write.
#[derive(Debug, Clone, Copy)]
pub struct FieldWriter<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The subresource that is written. Empty: the object itself.
    pub subresource: &'a str,
    /// The time of the write, as `metav1.Time` is written.
    pub now: &'a str,
}

fn with_write<T>(kind: &Kind, writer: FieldWriter<'_>, then: impl FnOnce(&Write<'_>) -> T) -> T {
    let schema = kind.custom().and_then(|custom| custom.schema.as_deref());
    let api_version = kind.api_version();
    then(&Write {
        types: schema.map_or_else(|| Types::Builtin(kind.merge_rules()), Types::Custom),
        api_version: &api_version,
        kind: &kind.kind,
        manager: writer.manager,
        subresource: writer.subresource,
        has_status: kind.status,
        replicas: kind.scale.as_ref().map(|paths| paths.spec.as_str()),
        now: writer.now,
    })
}

/// Records that a manager has changed an object other than by an apply. `live` is the object before the change.
pub fn record_update(kind: &Kind, live: Option<&Value>, new: &mut Value, writer: FieldWriter<'_>) {
    with_write(kind, writer, |write| apply::update(write, live, new));
}

/// Applies an object or a Scale to the live object, if there is one.
pub fn apply_object(
    kind: &Kind,
    live: Option<&Value>,
    applied: &Value,
    writer: FieldWriter<'_>,
    force: bool,
) -> Result<Value, Status> {
    with_write(kind, writer, |write| apply::apply(write, live, applied, force))
}

/// Returns whether two versions of an object are equal apart from the times in `managedFields`.
pub fn unchanged(live: &Value, new: &Value) -> bool {
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
