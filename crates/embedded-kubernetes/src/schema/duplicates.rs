//! Finds duplicates in lists that are sets or maps.

use serde_json::{Map, Value};

use super::node::{ListType, SchemaNode};
use crate::status::{FieldError, FieldErrorKind};

/// Returns an error for each item that occurs for the second time in a list of `value` that is a set or a map.
pub(super) fn find(node: &SchemaNode, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(node, value, "", &mut errors);
    errors
}

fn walk(node: &SchemaNode, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(node) = node.field(name) {
                    walk(node, value, &super::validate::child(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            list(&node.list, items, path, errors);
            if let Some(node) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    walk(node, item, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

fn list(kind: &ListType, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let keys: Vec<Value> = match kind {
        ListType::Atomic => return,
        ListType::Set => items.to_vec(),
        ListType::Map(keys) => {
            if let Some(index) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
                let why = "must be an object for an array of list-type map";
                let item = items.get(index).cloned().unwrap_or_default();
                errors.push(FieldError::invalid(format!("{path}[{index}]"), item, why));
                return;
            }
            items.iter().map(|item| key_of(item, keys)).collect()
        }
    };
    let mut seen: std::collections::HashMap<String, u32> = std::collections::HashMap::new();
    for (index, key) in keys.into_iter().enumerate() {
        let times = seen.entry(key.to_string()).or_default();
        *times += 1;
        // A third occurrence is not reported again.
        if *times == 2 {
            let at = format!("{path}[{index}]");
            errors.push(FieldError::new(FieldErrorKind::Duplicate, at, Some(key), ""));
        }
    }
}

fn key_of(item: &Value, keys: &[String]) -> Value {
    let key: Map<String, Value> = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect();
    Value::Object(key)
}
