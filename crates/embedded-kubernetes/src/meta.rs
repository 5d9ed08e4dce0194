//! Reads and writes the fields of `metadata`, which every object has.

use serde_json::{Map, Value};

/// Returns the text at a JSON pointer. Empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the texts of the list at a JSON pointer.
pub fn texts(object: &Value, pointer: &str) -> Vec<String> {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Returns the object's name. Empty if it has none.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Returns the object's namespace. Empty if it has none.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// Returns the object's uid. Empty if it has none.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// Returns the object's resource version. Empty if it has none.
pub fn resource_version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

/// Returns the object's generation. 0 if it has none.
pub fn generation(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
}

/// Returns whether the object is being deleted.
pub fn deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
}

/// Returns the object's finalizers.
pub fn finalizers(object: &Value) -> Vec<String> {
    texts(object, "/metadata/finalizers")
}

/// Returns the object's owner references.
pub fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten()
}

/// Returns the whole number at a JSON pointer.
pub fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// Returns the owner reference of the object's controller, if it has one.
pub fn controller(object: &Value) -> Option<&Value> {
    owners(object).find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Returns whether the object with this uid is the controller.
pub fn controlled_by(object: &Value, uid: &str) -> bool {
    controller(object).is_some_and(|owner| text(owner, "/uid") == uid)
}

/// Returns the value of an annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// Returns the object's key in the store.
pub fn key(object: &Value) -> String {
    super::store::key(namespace(object), name(object))
}

/// Returns the value of a label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

/// Returns the status of a condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text(condition, "/type") == kind)?.get("status")?.as_str()
}

/// Returns the object at a key of a map. Replaces a missing value, or one that is not an object, with an empty object.
pub fn entry<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    as_map(value)
}

/// Returns the value as a map. Replaces a value that is not an object with an empty one.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("the value was made an object two lines above"),
    }
}

/// Returns `metadata`, and creates it if it is missing.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    entry(as_map(object), "metadata")
}

/// Sets a field of `metadata`.
pub fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    metadata(object).insert(key.to_owned(), value.into());
}

/// Removes a field of `metadata`.
pub fn remove(object: &mut Value, key: &str) {
    metadata(object).remove(key);
}

/// Sets the finalizers, or removes the field if the list is empty.
pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        remove(object, "finalizers");
    } else {
        set(object, "finalizers", finalizers);
    }
}

/// Copies a field from one object to another, or removes it if the source lacks it.
pub fn copy(from: Option<&Value>, to: &mut Value, field: &str) {
    match from.and_then(|from| from.get(field)) {
        Some(value) => {
            as_map(to).insert(field.to_owned(), value.clone());
        }
        None => {
            as_map(to).remove(field);
        }
    }
}
