//! JSON patch, merge patch and strategic merge patch. Server-side apply is in [`apply`](super::apply).
//!
//! The functions here are pure: they take an object and a patch, and return the patched object or the real server's
//! error. They do not check names, versions or field ownership; the caller validates the result like an update.

mod json;
mod merge;
mod strategic;

pub use json::json_patch;
pub use merge::{merge, merge_patch};
pub use strategic::strategic;

use serde_json::Value;

/// The deepest value that a patch may create. Requests are parsed with a lower limit; only a JSON patch that adds to
/// its own additions reaches this one. It exists because functions that walk objects recurse.
pub(super) const MAX_DEPTH: usize = 256;

/// Returns the depth of `value`: 0 for a scalar. Does not count beyond `limit`.
pub(super) fn depth(value: &Value, limit: usize) -> usize {
    if limit == 0 {
        return 0;
    }
    let nested = |inner: &Value| 1 + depth(inner, limit - 1);
    match value {
        Value::Object(map) => map.values().map(nested).max().unwrap_or(1),
        Value::Array(items) => items.iter().map(nested).max().unwrap_or(1),
        _ => 0,
    }
}

/// Returns the name of a JSON type in the errors of Go's decoder.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod laws;
