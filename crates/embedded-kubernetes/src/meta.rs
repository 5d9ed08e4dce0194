//! What every object has: reading and writing `metadata`.

use serde_json::{Map, Value};

/// The text at a JSON pointer. Empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The texts of the list at a JSON pointer.
pub fn texts(object: &Value, pointer: &str) -> Vec<String> {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The object's name. Empty if it has none.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// The object's namespace. Empty if it has none.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// The object's uid. Empty if it has none.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// The object's resource version. Empty if it has none.
pub fn resource_version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

/// The object's generation. 0 if it has none.
pub fn generation(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
}

/// Whether it is being deleted.
pub fn deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
}

/// Its finalizers.
pub fn finalizers(object: &Value) -> Vec<String> {
    texts(object, "/metadata/finalizers")
}

/// Its owners.
pub fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten()
}

/// The whole number at a JSON pointer.
pub fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// The owner that controls the object, if one does.
pub fn controller(object: &Value) -> Option<&Value> {
    owners(object).find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Whether the object with this uid controls it.
pub fn controlled_by(object: &Value, uid: &str) -> bool {
    controller(object).is_some_and(|owner| text(owner, "/uid") == uid)
}

/// The value of one of its annotations.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// Where it is in its resource.
pub fn key(object: &Value) -> String {
    super::store::key(namespace(object), name(object))
}

/// The value of one of its labels.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

/// The status of one of its conditions.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text(condition, "/type") == kind)?.get("status")?.as_str()
}

/// The object at a key of a map, made if it is missing or no object.
pub fn entry<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    as_map(value)
}

/// The value as a map; it becomes an empty one if it is none.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object two lines above"),
    }
}

/// `metadata`, made if it is missing.
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

/// Sets the finalizers; none if there are none.
pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        remove(object, "finalizers");
    } else {
        set(object, "finalizers", finalizers);
    }
}

/// Copies a field of the object, or of its absence, from one to another.
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
