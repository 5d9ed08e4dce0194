//! JSON patch, RFC 6902, as far as the real server keeps to it. Where its library does not, this does as the library
//! does: clients have been seen to rely on it.
//!
//! - `replace` of a key that is not there adds it; `copy` of one copies null; `test` for null holds.
//! - Indices may be negative: -1 is the last item, and for `add` the place behind it.
//! - What stands before the first slash of a pointer is not looked at.

use serde_json::Value;

use super::{MAX_DEPTH, depth, go_type};
use crate::status::Status;

/// Most operations in one patch, and most bytes that its copies may add up to; as on the real server.
const MAX_OPERATIONS: usize = 10_000;
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// The object after all operations, or why one of them cannot be done: then none has been.
///
/// 400: it is no list of operations. 413: too many. 422, in the same words whatever it was, as the real server has it:
/// an operation does not apply, or a test failed.
pub fn json_patch(object: &Value, patch: &Value) -> Result<Value, Status> {
    let operations = match patch {
        Value::Array(operations) => operations.as_slice(),
        Value::Null => &[],
        other => return Err(not_decoded(other, "value of type []handlers.jsonPatchOp")),
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

fn not_decoded(value: &Value, what: &str) -> Status {
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
                Err(not_decoded(value, &format!("struct field jsonPatchOp.{name} of type string")))
            }),
        Value::Null => Ok(()),
        other => Err(not_decoded(other, "value of type handlers.jsonPatchOp")),
    }
}

/// `None`: the operation does not apply.
fn apply(document: &mut Value, operation: &Value, copied: &mut usize) -> Option<()> {
    let text = |name| operation.get(name).and_then(Value::as_str);
    let value = operation.get("value");
    let path = text("path")?;
    match text("op")? {
        "add" => add(document, path, value.cloned().unwrap_or_default()),
        "remove" => remove(document, path).map(drop),
        "replace" => replace(document, path, value.cloned().unwrap_or_default()),
        "move" => {
            let taken = remove(document, text("from")?)?;
            add(document, path, taken)
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

/// The tokens of the containers on the way, and the last one.
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
                let index = existing(&token, items.len())?;
                items.get_mut(index)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then_some((at, last))
}

/// The index of an item that is there.
fn existing(token: &str, length: usize) -> Option<usize> {
    let index: i64 = token.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index.checked_add(length)? } else { index };
    (0..length).contains(&index).then_some(index).and_then(|index| usize::try_from(index).ok())
}

/// What is there; null for a key that is not, where its object is.
fn get<'a>(document: &'a mut Value, path: &str) -> Option<&'a Value> {
    match container(document, path)? {
        (Value::Object(map), key) => Some(map.get(&key).unwrap_or(&Value::Null)),
        (Value::Array(items), token) => {
            let index = existing(&token, items.len())?;
            items.get(index)
        }
        _ => None,
    }
}

/// Whether `value` may be put at `path`: not too deep.
fn fits(path: &str, value: &Value) -> Option<()> {
    let above = path.split('/').count();
    (above < MAX_DEPTH && depth(value, MAX_DEPTH - above + 1) <= MAX_DEPTH - above).then_some(())
}

fn add(document: &mut Value, path: &str, value: Value) -> Option<()> {
    fits(path, &value)?;
    match container(document, path)? {
        (Value::Object(map), key) => drop(map.insert(key, value)),
        (Value::Array(items), token) => {
            let index = if token == "-" { items.len() } else { existing(&token, items.len() + 1)? };
            items.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &str) -> Option<Value> {
    match container(document, path)? {
        (Value::Object(map), key) => map.remove(&key),
        (Value::Array(items), token) => existing(&token, items.len()).map(|index| items.remove(index)),
        _ => None,
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Option<()> {
    fits(path, &value)?;
    if path.is_empty() {
        // Anything but an object or a list is let through without effect.
        if value.is_object() || value.is_array() {
            *document = value;
        }
        return Some(());
    }
    match container(document, path)? {
        (Value::Object(map), key) => drop(map.insert(key, value)),
        (Value::Array(items), token) => {
            let index = existing(&token, items.len())?;
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

    /// Each was sent to a real 1.34 server. `None`: 422.
    #[test]
    fn what_applies_and_what_does_not() {
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

    /// Recorded from a real 1.34 server.
    #[test]
    fn what_is_no_patch_is_refused_in_the_real_servers_words() {
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
    fn a_failed_test_undoes_what_came_before_it() {
        let patch = json!([{"op": "remove", "path": "/data/k"}, {"op": "test", "path": "/list/0", "value": "z"}]);
        assert_eq!(json_patch(&start(), &patch).unwrap_err().code, 422);
    }

    #[test]
    fn copies_that_double_are_stopped() {
        let double = |i| json!({"op": "copy", "from": "/data", "path": format!("/data/{i}")});
        let error = json_patch(&start(), &(0..60).map(double).collect()).unwrap_err();
        assert_eq!(error.code, 422);
    }

    #[test]
    fn adding_to_what_was_added_ends_at_the_greatest_depth() {
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
