//! Merge patch, RFC 7386.

use serde_json::{Map, Value};

use super::go_type;
use crate::status::Status;

/// Applies the merge patch of a request, which must be an object.
pub fn merge_patch(object: &Value, patch: &Value) -> Result<Value, Status> {
    match patch {
        Value::Object(_) => Ok(merge(object, patch)),
        Value::Null => Err(Status::bad_request("Invalid JSON Patch")),
        other => Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            go_type(other)
        ))),
    }
}

/// Merges `patch` into `object`: objects are merged key by key, null removes a key, and other values replace the old
/// one.
pub fn merge(object: &Value, patch: &Value) -> Value {
    let mut result = object.clone();
    merge_into(&mut result, patch);
    result
}

fn merge_into(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        // If a list replaces an object, the real server keeps nulls in the objects of the list, and only in that case.
        *target = if target.is_object() { patch.clone() } else { without_nulls(patch) };
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
            continue;
        }
        match fields.get_mut(key) {
            Some(field) => merge_into(field, change),
            None => drop(fields.insert(key.clone(), without_nulls(change))),
        }
    }
}

/// Returns a copy without the nulls of its objects. The RFC leaves lists unchanged; the real server also cleans the
/// objects in them.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn examples_of_the_rfc_hold() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (object, patch, expected) in cases {
            assert_eq!(merge(&object, &patch), expected, "{object} + {patch}");
        }
    }

    /// The messages are recorded from a real 1.34 server.
    #[test]
    fn malformed_patches_get_the_real_servers_errors() {
        let go = "error decoding patch: json: cannot unmarshal";
        for (patch, message) in [
            (json!([]), format!("{go} array into Go value of type map[string]interface {{}}")),
            (json!("x"), format!("{go} string into Go value of type map[string]interface {{}}")),
            (json!(5), format!("{go} number into Go value of type map[string]interface {{}}")),
            (json!(null), "Invalid JSON Patch".to_owned()),
        ] {
            let error = merge_patch(&json!({}), &patch).unwrap_err();
            assert_eq!((error.code, error.message), (400, message), "{patch}");
        }
    }
}
