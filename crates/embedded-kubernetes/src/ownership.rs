//! Who owns which field, for the server: what [`apply`](super::apply) needs to know of a kind, and whether anything has
//! changed.

use serde_json::Value;

use super::apply::{self, Types, Write};
use super::kinds::Kind;
use super::meta;
use super::status::Status;

/// Who writes, and when.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// Empty: the object itself.
    pub subresource: &'a str,
    /// As `metav1.Time` is written.
    pub now: &'a str,
}

fn write<T>(kind: &Kind, writer: Writer<'_>, then: impl FnOnce(&Write<'_>) -> T) -> T {
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

/// Notes that a manager has changed an object by anything but an apply. `live`: the object before.
pub fn updated(kind: &Kind, live: Option<&Value>, new: &mut Value, writer: Writer<'_>) {
    write(kind, writer, |write| apply::update(write, live, new));
}

/// Applies an object, or a Scale, onto the object that is there, if any.
pub fn applied(
    kind: &Kind,
    live: Option<&Value>,
    applied: &Value,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, Status> {
    write(kind, writer, |write| apply::apply(write, live, applied, force))
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
