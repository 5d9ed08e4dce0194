//! Prunes unknown fields and fills in defaults.

use serde_json::{Map, Value};

use super::node::{Additional, SchemaNode};

/// The fields at the root of each object and embedded resource, which are kept whatever the schema declares.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes the fields that `node` does not declare from `value`, and adds their paths to `unknown`.
///
/// `keep`: fields directly in `value` are kept even if they are unknown.
pub(super) fn prune(value: &mut Value, node: Option<&SchemaNode>, keep: bool, path: &str, unknown: &mut Vec<String>) {
    let keep = keep || node.is_some_and(|node| node.preserve);
    match value {
        Value::Object(map) => prune_map(map, node, keep, path, unknown),
        Value::Array(items) => {
            let item_node = node.and_then(|node| node.items.as_deref());
            if keep && item_node.is_none() {
                return;
            }
            for (index, item) in items.iter_mut().enumerate() {
                prune(item, item_node, keep, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn prune_map(
    map: &mut Map<String, Value>,
    node: Option<&SchemaNode>,
    keep: bool,
    path: &str,
    unknown: &mut Vec<String>,
) {
    let resource = path.is_empty() || node.is_some_and(|node| node.embedded);
    map.retain(|key, value| {
        if resource && META.contains(&key.as_str()) {
            return true;
        }
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let below = node.and_then(|node| node.field(key));
        let any = node.is_some_and(|node| matches!(node.additional, Additional::Any));
        if below.is_some() || any && !keep {
            // `additionalProperties: true` declares nothing below it, so unknown fields below it are removed.
            prune(value, below, false, &at, unknown);
        } else if !keep {
            unknown.push(at);
            return false;
        }
        true
    });
}

/// Removes each null that `node` neither allows nor has a default for. Nulls in lists stay, and are refused later.
pub(super) fn drop_nulls(value: &mut Value, node: &SchemaNode) {
    match value {
        Value::Object(map) => map.retain(|key, value| {
            let Some(node) = node.field(key) else { return true };
            if value.is_null() {
                return node.nullable || node.default.is_some();
            }
            drop_nulls(value, node);
            true
        }),
        Value::Array(items) => {
            if let Some(node) = &node.items {
                for item in items {
                    drop_nulls(item, node);
                }
            }
        }
        _ => {}
    }
}

/// Fills in the defaults, including those in objects that come from defaults.
pub(super) fn fill_in(value: &mut Value, node: &SchemaNode) {
    let missing = |value: &Value, node: &SchemaNode| value.is_null() && !node.nullable;
    match value {
        Value::Object(map) => {
            for (name, node) in &node.properties {
                if let Some(default) = &node.default
                    && map.get(name).is_none_or(|value| missing(value, node))
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                let Some(node) = node.field(name) else { continue };
                if missing(value, node) {
                    *value = node.default.clone().unwrap_or_default();
                }
                fill_in(value, node);
            }
        }
        Value::Array(items) => {
            let Some(node) = &node.items else { return };
            for value in items {
                if missing(value, node) {
                    *value = node.default.clone().unwrap_or_default();
                }
                fill_in(value, node);
            }
        }
        _ => {}
    }
}
