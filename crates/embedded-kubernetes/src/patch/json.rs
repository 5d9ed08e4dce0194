//! JSON patch, RFC 6902, with the deviations of the real server's library, on which clients rely:
//!
//! - `replace` of a missing key adds it; `copy` of a missing key copies null; `test` of a missing key for null
//!   succeeds.
//! - Indices may be negative: -1 is the last item and, for `add`, the position after it.
//! - Text before the first slash of a pointer is ignored.

use serde_json::Value;

use super::{MAX_DEPTH, depth, go_type};
use crate::status::Status;

/// The most operations in a patch, as on the real server.
const MAX_OPERATIONS: usize = 10_000;
/// The most bytes that the copies of a patch may add, as on the real server.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies all operations, or none if one of them fails.
///
/// Errors: 400 if `patch` is not a list of operations. 413 for too many operations. 422, always with the same message
/// as on the real server, if an operation does not apply or a test fails.
pub fn json_patch(object: &Value, patch: &Value) -> Result<Value, Status> {
    let operations = match patch {
        Value::Array(operations) => operations.as_slice(),
        Value::Null => &[],
        other => return Err(decode_error(other, "value of type []handlers.jsonPatchOp")),
    };
    for operation in operations {
        check_types(operation)?;
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut result = object.clone();
    let mut copied = 0;
    for operation in operations {
        apply(&mut result, operation, &mut copied).ok_or_else(does_not_apply)?;
    }
    Ok(result)
}

fn decode_error(value: &Value, what: &str) -> Status {
    Status::bad_request(format!("error decoding patch: json: cannot unmarshal {} into Go {what}", go_type(value)))
}

fn does_not_apply() -> Status {
    Status::unprocessable("the server rejected our request due to an error in our request")
}

fn check_types(operation: &Value) -> Result<(), Status> {
    match operation {
        Value::Object(fields) => ["op", "path", "from"]
            .into_iter()
            .filter_map(|name| fields.get(name).map(|value| (name, value)))
            .find(|(_, value)| !value.is_string() && !value.is_null())
            .map_or(Ok(()), |(name, value)| {
                Err(decode_error(value, &format!("struct field jsonPatchOp.{name} of type string")))
            }),
        Value::Null => Ok(()),
        other => Err(decode_error(other, "value of type handlers.jsonPatchOp")),
    }
}

/// Applies one operation. `None`: it does not apply.
fn apply(document: &mut Value, operation: &Value, copied: &mut usize) -> Option<()> {
    let text = |name| operation.get(name).and_then(Value::as_str);
    let value = operation.get("value");
    let path = text("path")?;
    match text("op")? {
        "add" => add(document, path, value.cloned().unwrap_or_default()),
        "remove" => remove(document, path).map(drop),
        "replace" => replace(document, path, value.cloned().unwrap_or_default()),
        "move" => {
            let moved = remove(document, text("from")?)?;
            add(document, path, moved)
        }
        "copy" => {
            let value = get(document, text("from")?)?.clone();
            *copied += value.to_string().len();
            (*copied <= MAX_COPIED).then_some(())?;
            add(document, path, value)
        }
        "test" => test(document, path, value),
        _ => None,
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// Splits a pointer into the tokens of the parents and the last token.
fn pointer(path: &str) -> Option<(Vec<String>, String)> {
    let mut tokens: Vec<String> = path.split('/').skip(1).map(unescape).collect();
    let last = tokens.pop()?;
    Some((tokens, last))
}

fn container<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parents, last) = pointer(path)?;
    let mut at = document;
    for token in parents {
        at = match at {
            Value::Object(map) => map.get_mut(&token)?,
            Value::Array(items) => {
                let index = item_index(&token, items.len())?;
                items.get_mut(index)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then_some((at, last))
}

/// Returns the index of an existing item.
fn item_index(token: &str, length: usize) -> Option<usize> {
    let index: i64 = token.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index.checked_add(length)? } else { index };
    (0..length).contains(&index).then_some(index).and_then(|index| usize::try_from(index).ok())
}

/// Returns the value at a path. A missing key of an existing object is null.
fn get<'a>(document: &'a mut Value, path: &str) -> Option<&'a Value> {
    match container(document, path)? {
        (Value::Object(map), key) => Some(map.get(&key).unwrap_or(&Value::Null)),
        (Value::Array(items), token) => {
            let index = item_index(&token, items.len())?;
            items.get(index)
        }
        _ => None,
    }
}

/// Returns `Some` if `value` can be put at `path` without exceeding the depth limit.
fn check_depth(path: &str, value: &Value) -> Option<()> {
    let above = path.split('/').count();
    (above < MAX_DEPTH && depth(value, MAX_DEPTH - above + 1) <= MAX_DEPTH - above).then_some(())
}

fn add(document: &mut Value, path: &str, value: Value) -> Option<()> {
    check_depth(path, &value)?;
    match container(document, path)? {
        (Value::Object(map), key) => drop(map.insert(key, value)),
        (Value::Array(items), token) => {
            let index = if token == "-" { items.len() } else { item_index(&token, items.len() + 1)? };
            items.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &str) -> Option<Value> {
    match container(document, path)? {
        (Value::Object(map), key) => map.remove(&key),
        (Value::Array(items), token) => item_index(&token, items.len()).map(|index| items.remove(index)),
        _ => None,
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Option<()> {
    check_depth(path, &value)?;
    if path.is_empty() {
        // Any other value than an object or a list is accepted without effect.
        if value.is_object() || value.is_array() {
            *document = value;
        }
        return Some(());
    }
    match container(document, path)? {
        (Value::Object(map), key) => drop(map.insert(key, value)),
        (Value::Array(items), token) => {
            let index = item_index(&token, items.len())?;
            *items.get_mut(index)? = value;
        }
        _ => return None,
    }
    Some(())
}

fn test(document: &mut Value, path: &str, value: Option<&Value>) -> Option<()> {
    let wanted = value.unwrap_or(&Value::Null);
    if path.is_empty() {
        return (document == wanted).then_some(());
    }
    let found = get(document, path)?;
    (found == wanted && (value.is_some() || found.is_null())).then_some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn start() -> Value {
        json!({"metadata": {"annotations": {"x/y": "1", "m~n": "2"}}, "data": {"k": "v"}, "list": ["a", "b"], "empty": []})
    }

    /// All cases were sent to a real 1.34 server. `None`: 422.
    #[test]
    fn operations_apply_as_on_the_real_server() {
        let data = |path: &str, value: &str| {
            let mut object = start();
            *object.pointer_mut(path).unwrap() = json!(value);
            Some(object)
        };
        let with = |path: &'static str, key: &str, value: Value| {
            let mut object = start();
            object.pointer_mut(path).unwrap()[key] = value;
            Some(object)
        };
        let list = |items: Value| with("", "list", items);
        let cases = [
            (json!({"op": "remove", "path": "/data/none"}), None),
            (json!({"op": "remove", "path": "/nope/none"}), None),
            (json!({"op": "add", "path": "/nope/none", "value": "1"}), None),
            (json!({"op": "replace", "path": "/data/k", "value": "w"}), data("/data/k", "w")),
            (json!({"op": "replace", "path": "/data/none", "value": "1"}), with("/data", "none", json!("1"))),
            (json!({"op": "replace", "path": "/nope/none", "value": "1"}), None),
            (json!({"op": "test", "path": "/data/k", "value": "v"}), Some(start())),
            (json!({"op": "test", "path": "/data/k", "value": "w"}), None),
            (json!({"op": "test", "path": "/data/none", "value": null}), Some(start())),
            (json!({"op": "test", "path": "/data/none", "value": "w"}), None),
            (json!({"op": "test", "path": "/nope/k", "value": "w"}), None),
            (json!({"op": "test", "path": "/data/k"}), None),
            (json!({"op": "move", "from": "/data/none", "path": "/data/b"}), None),
            (json!({"op": "move", "from": "/data/k", "path": "/nope/b"}), None),
            (json!({"op": "move", "from": "/list/0", "path": "/list/1"}), list(json!(["b", "a"]))),
            (json!({"op": "copy", "from": "/data/none", "path": "/data/b"}), with("/data", "b", Value::Null)),
            (json!({"op": "copy", "from": "/data/k", "path": "/data/b"}), with("/data", "b", json!("v"))),
            (json!({"op": "frob", "path": "/data/b"}), None),
            (json!({"path": "/data/b"}), None),
            (json!({"op": "add", "value": 1}), None),
            (json!({"op": "remove"}), None),
            (json!({"op": "move", "path": "/data/x"}), None),
            (json!({"op": "add", "path": "nothing/x", "value": "1"}), with("", "x", json!("1"))),
            (json!({"op": "add", "path": "", "value": {}}), None),
            (json!({"op": "replace", "path": "", "value": 1}), Some(start())),
            (json!({"op": "replace", "path": "", "value": {"a": 1}}), Some(json!({"a": 1}))),
            (json!({"op": "test", "path": "/metadata/annotations/x~1y", "value": "1"}), Some(start())),
            (json!({"op": "test", "path": "/metadata/annotations/m~0n", "value": "2"}), Some(start())),
            (json!({"op": "add", "path": "/list/1", "value": "x"}), list(json!(["a", "x", "b"]))),
            (json!({"op": "add", "path": "/list/-", "value": "x"}), list(json!(["a", "b", "x"]))),
            (json!({"op": "add", "path": "/list/-1", "value": "x"}), list(json!(["a", "b", "x"]))),
            (json!({"op": "add", "path": "/list/3", "value": "x"}), None),
            (json!({"op": "add", "path": "/list/x", "value": "x"}), None),
            (json!({"op": "remove", "path": "/empty/0"}), None),
            (json!({"op": "replace", "path": "/empty/0", "value": "x"}), None),
            (json!({"op": "test", "path": "/list/-1", "value": "b"}), Some(start())),
            (json!({"op": "add", "path": "/data/q"}), with("/data", "q", Value::Null)),
            (json!({"op": "add", "path": "/data/k/z", "value": "1"}), None),
        ];
        for (operation, expected) in cases {
            let got = json_patch(&start(), &json!([operation]));
            match (&got, &expected) {
                (Ok(got), Some(expected)) => assert_eq!(got, expected, "{operation}"),
                (Err(status), None) => assert_eq!((status.code, status.reason), (422, "Invalid"), "{operation}"),
                _ => panic!("{operation}: {got:?}"),
            }
        }
    }

    /// The messages are recorded from a real 1.34 server.
    #[test]
    fn malformed_patches_get_the_real_servers_errors() {
        let go = "error decoding patch: json: cannot unmarshal";
        for (patch, message) in [
            (json!({"op": "add"}), format!("{go} object into Go value of type []handlers.jsonPatchOp")),
            (json!(["x"]), format!("{go} string into Go value of type handlers.jsonPatchOp")),
            (
                json!([{"op": "add", "path": 5}]),
                format!("{go} number into Go struct field jsonPatchOp.path of type string"),
            ),
        ] {
            let error = json_patch(&start(), &patch).unwrap_err();
            assert_eq!((error.code, error.message), (400, message), "{patch}");
        }
        assert_eq!(json_patch(&start(), &Value::Null).unwrap(), start());
        let many = Value::Array(vec![json!({"op": "test", "path": "/x", "value": null}); 10_001]);
        let error = json_patch(&start(), &many).unwrap_err();
        assert_eq!(error.message, "The allowed maximum operations in a JSON patch is 10000, got 10001");
        assert_eq!(error.code, 413);
    }

    #[test]
    fn failed_test_undoes_earlier_operations() {
        let patch = json!([{"op": "remove", "path": "/data/k"}, {"op": "test", "path": "/list/0", "value": "z"}]);
        assert_eq!(json_patch(&start(), &patch).unwrap_err().code, 422);
    }

    #[test]
    fn copies_that_grow_exponentially_are_stopped() {
        let double = |i| json!({"op": "copy", "from": "/data", "path": format!("/data/{i}")});
        let error = json_patch(&start(), &(0..60).map(double).collect()).unwrap_err();
        assert_eq!(error.code, 422);
    }

    #[test]
    fn nested_additions_end_at_the_depth_limit() {
        let mut path = String::new();
        let mut operations = Vec::new();
        for _ in 0..MAX_DEPTH + 10 {
            path.push_str("/a");
            operations.push(json!({"op": "add", "path": path, "value": {}}));
        }
        assert_eq!(json_patch(&json!({}), &Value::Array(operations.clone())).unwrap_err().code, 422);
        operations.truncate(MAX_DEPTH - 10);
        let made = json_patch(&json!({}), &Value::Array(operations)).unwrap();
        assert!(depth(&made, MAX_DEPTH * 2) <= MAX_DEPTH);
    }
}
