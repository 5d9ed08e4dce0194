//! Operations on values along with their schema: collects the fields of a value, compares and merges two values, and
//! removes fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::position::Position;
use super::set::{self, Set};
use crate::schema::node::SchemaNode;

/// Returns the fields that `value` has.
pub(super) fn fields(value: &Value, position: &Position<'_>) -> Set {
    let mut fields = Set::default();
    collect_fields(value, position, &mut Vec::new(), &mut fields);
    fields
}

fn collect_fields(value: &Value, position: &Position<'_>, path: &mut Vec<String>, fields: &mut Set) {
    if position.is_leaf(value) {
        fields.insert(path);
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let below = position.field(name);
                path.push(set::field(name));
                collect_fields(value, &below, path, fields);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if empty || !position.names(name) {
                    fields.insert(path);
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            let below = position.item();
            for item in items {
                let Ok(step) = position.step_to(item) else { continue };
                path.push(step);
                collect_fields(item, &below, path, fields);
                fields.insert(path);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Refuses values that cannot be applied: an item without its keys, a duplicate item, or an undeclared field.
pub(super) fn check(value: &Value, position: &Position<'_>, path: &mut Vec<String>) -> Result<(), String> {
    let failed = |path: &[String], why: String| Err(format!("{}: {why}", set::display_path(path)));
    if let Position::Custom(node, _) = position
        && let Some(expected) = mistyped(node, value)
    {
        return failed(path, format!("expected {expected}, got {value}"));
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                path.push(set::field(name));
                if let Position::Custom(node, resource) = position
                    && node.field(name).is_none()
                    && !position.names(name)
                    && !node.preserve
                    && (*resource || !node.properties.is_empty())
                {
                    return failed(path, "field not declared in schema".to_owned());
                }
                check(value, &position.field(name), path)?;
                path.pop();
            }
            Ok(())
        }
        Value::Array(items) if !position.is_atomic_list() => {
            let mut steps = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let step = match position.step_to(item) {
                    Ok(step) => step,
                    Err(why) => return failed(path, format!("element {index}: {why}")),
                };
                if steps.contains(&step) {
                    let key = set::display_path(&[step]);
                    return failed(path, format!("duplicate entries for key {key}"));
                }
                path.push(step.clone());
                check(item, &position.item(), path)?;
                path.pop();
                steps.push(step);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Returns the type in the schema if `value` has another type.
fn mistyped(node: &SchemaNode, value: &Value) -> Option<&'static str> {
    let (expected, fits) = match node.kind.as_str() {
        "string" => ("string", value.is_string()),
        "integer" | "number" => ("numeric (int or float)", value.is_number()),
        "boolean" => ("boolean", value.is_boolean()),
        "array" => ("list", value.is_array()),
        "object" => ("map", value.is_object()),
        _ => return None,
    };
    (!fits && !value.is_null() && !node.int_or_string).then_some(expected)
}

/// The differences between two versions of a value.
#[derive(Debug, Default)]
pub(super) struct FieldChanges {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

/// Compares `new` with `old`.
pub(super) fn compare(old: &Value, new: &Value, position: &Position<'_>) -> FieldChanges {
    let mut changes = FieldChanges::default();
    changes.compare(Some(old), Some(new), position, &mut Vec::new());
    changes
}

impl FieldChanges {
    /// Returns the changes without these fields and all fields below them.
    pub(super) fn without(&self, fields: &Set) -> Self {
        Self {
            added: self.added.without(fields),
            modified: self.modified.without(fields),
            removed: self.removed.without(fields),
        }
    }

    fn compare(&mut self, old: Option<&Value>, new: Option<&Value>, position: &Position<'_>, path: &mut Vec<String>) {
        if old == new {
            return;
        }
        let both = old.is_some() && new.is_some();
        match (old, new) {
            (Some(old), Some(new)) if position.is_leaf(old) && position.is_leaf(new) => {
                self.modified.insert(path);
                return;
            }
            // Comparing null with a structure compares an empty structure with it.
            (Some(Value::Null), Some(_)) | (Some(_), Some(Value::Null)) => {}
            (Some(old), Some(new))
                if position.is_leaf(old) || position.is_leaf(new) || old.is_array() != new.is_array() =>
            {
                // The two are of different types: one is removed and the other is added.
                self.compare(Some(old), None, position, path);
                self.compare(None, Some(new), position, path);
                return;
            }
            _ => {}
        }
        if ![old, new].into_iter().flatten().any(|value| position.is_leaf(value) && !(value.is_null() && both)) {
            for (step, old, new) in pairs(old, new, position) {
                let below = position.step(&step);
                path.push(step);
                self.compare(old, new, &below, path);
                path.pop();
            }
            if position.always_exists() {
                return;
            }
        }
        match (old, new) {
            (None, _) => self.added.insert(path),
            (_, None) => self.removed.insert(path),
            _ => {}
        }
    }
}

type Pair<'a> = (String, Option<&'a Value>, Option<&'a Value>);

/// Pairs the members of both values by their steps. Of a duplicate item, the first counts.
fn pairs<'a>(old: Option<&'a Value>, new: Option<&'a Value>, position: &Position<'_>) -> Vec<Pair<'a>> {
    let members = |value: Option<&'a Value>| -> BTreeMap<String, &'a Value> {
        match value {
            Some(Value::Object(map)) => map.iter().map(|(name, value)| (set::field(name), value)).collect(),
            Some(Value::Array(items)) => {
                items.iter().rev().filter_map(|item| Some((position.step_to(item).ok()?, item))).collect()
            }
            _ => BTreeMap::new(),
        }
    };
    let (old, mut new) = (members(old), members(new));
    let mut pairs: Vec<Pair<'_>> = old
        .into_iter()
        .map(|(step, old)| {
            let new = new.remove(&step);
            (step, Some(old), new)
        })
        .collect();
    pairs.extend(new.into_iter().map(|(step, new)| (step, None, Some(new))));
    pairs
}

/// Merges `applied` into `live`.
pub(super) fn merge(live: &Value, applied: &Value, position: &Position<'_>) -> Value {
    match (live, applied) {
        (Value::Object(old), Value::Object(new)) if !position.is_atomic_map() => {
            let mut merged = old.clone();
            for (name, value) in new {
                let below = position.field(name);
                let value = old.get(name).map_or_else(|| value.clone(), |old| merge(old, value, &below));
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(old), Value::Array(new)) if !position.is_atomic_list() => {
            Value::Array(merge_items(old, new, position))
        }
        _ => applied.clone(),
    }
}

/// Merges the items of two lists. The items of `new` keep their order. Each other item stays behind the item that it
/// followed in `old`, as far as the new order allows.
fn merge_items(old: &[Value], new: &[Value], position: &Position<'_>) -> Vec<Value> {
    let steps = |items: &[Value]| -> Vec<String> {
        items.iter().map(|item| position.step_to(item).unwrap_or_else(|_| item.to_string())).collect()
    };
    let (old_steps, new_steps) = (steps(old), steps(new));
    let below = position.item();
    let with_old = |item: &Value, step: &String| {
        let before = old.iter().zip(&old_steps).find(|(_, other)| *other == step);
        before.map_or_else(|| item.clone(), |(old, _)| merge(old, item, &below))
    };
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut done: Vec<&String> = Vec::new();
    let mut left = old.iter().zip(&old_steps).peekable();
    let mut right = new.iter().zip(&new_steps).peekable();
    let mut shared = new_steps.iter().filter(|step| old_steps.contains(step)).peekable();
    loop {
        match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return merged,
            (Some((_, one)), Some((item, other))) if one == other => {
                merged.push(with_old(item, other));
                done.push(other);
                left.next();
                right.next();
                shared.next();
                continue;
            }
            // The item is in both lists, but the new order has another shared item first. It is added where the new
            // order has it.
            (Some((_, one)), Some(_)) if new_steps.contains(one) && shared.peek().is_some_and(|next| *next != one) => {
                left.next();
                continue;
            }
            (Some((item, one)), _) if !new_steps.contains(one) => {
                merged.push(item.clone());
                left.next();
                continue;
            }
            (Some((_, one)), _) if done.contains(&one) => drop(left.next()),
            // The item is in both lists and was already taken from the new one, because the new list is used up.
            (Some(_), None) => drop(left.next()),
            _ => {}
        }
        if let Some((item, step)) = right.next() {
            merged.push(with_old(item, step));
            done.push(step);
            shared.next_if(|next| *next == step);
        }
    }
}

/// Returns `value` without the fields of `set`, and null if nothing is left of a structure.
///
/// The null is the real server's behaviour: a map that other managers still own becomes null when its last member is
/// removed, and a custom resource is refused if its schema requires a map there.
pub(super) fn remove(value: &Value, set: &Set, position: &Position<'_>) -> Value {
    if position.is_leaf(value) {
        return value.clone();
    }
    let keep = |step: &str, value: &Value| -> Option<Value> {
        if set.has_member(step) {
            return None;
        }
        match set.below(step) {
            Some(below) => Some(remove(value, below, &position.step(step))),
            None => Some(value.clone()),
        }
    };
    match value {
        Value::Object(map) => {
            let left: Map<String, Value> =
                map.iter().filter_map(|(name, value)| Some((name.clone(), keep(&set::field(name), value)?))).collect();
            if left.is_empty() && !map.is_empty() { Value::Null } else { Value::Object(left) }
        }
        Value::Array(items) => {
            let left: Vec<Value> = items
                .iter()
                .filter_map(|item| match position.step_to(item) {
                    Ok(step) => keep(&step, item),
                    Err(_) => Some(item.clone()),
                })
                .collect();
            if left.is_empty() && !items.is_empty() { Value::Null } else { Value::Array(left) }
        }
        scalar => scalar.clone(),
    }
}

/// Removes the nulls of all objects in `value`, as decoding into a Go structure does.
pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|_, value| {
            without_nulls(value);
            !value.is_null()
        }),
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
