//! The three kinds of patch of the Kubernetes API, less server-side apply, which is a room of its own.
//!
//! Pure: an object and a patch go in, the patched object or the real server's refusal comes out. Nothing here knows
//! names, versions or owners; whoever calls checks what came out as it would check an update.

mod json;
mod merge;
mod strategic;

pub use json::json_patch;
pub use merge::{merge, merge_patch};
pub use strategic::strategic;

use serde_json::Value;

/// Deepest value that a patch may make. What arrives in a request is less deep by far; only a JSON patch that adds
/// to what it has added gets here, and everything that walks objects walks them recursively.
pub(super) const MAX_DEPTH: usize = 256;

/// How deep `value` is: 0 for a scalar. Stops counting beyond `limit`, so that it ends early on what is too deep.
pub(super) fn depth(value: &Value, limit: usize) -> usize {
    if limit == 0 {
        return 0;
    }
    let of = |inner: &Value| 1 + depth(inner, limit - 1);
    match value {
        Value::Object(map) => map.values().map(of).max().unwrap_or(1),
        Value::Array(items) => items.iter().map(of).max().unwrap_or(1),
        _ => 0,
    }
}

/// The word by which Go's decoder calls a JSON type in its errors.
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
