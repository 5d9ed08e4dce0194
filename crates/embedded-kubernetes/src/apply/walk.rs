//! Walks over values beside what is known of them: the fields of one, the difference of two, one put onto another, one
//! without some fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::place::Place;
use super::set::{self, Set};
use crate::schema::node::Node;

/// The fields that `value` has. An error names the field.
pub(super) fn fields(value: &Value, place: &Place<'_>) -> Set {
    let mut fields = Set::default();
    gather(value, place, &mut Vec::new(), &mut fields);
    fields
}

fn gather(value: &Value, place: &Place<'_>, path: &mut Vec<String>, fields: &mut Set) {
    if place.is_leaf(value) {
        fields.insert(path);
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let below = place.field(name);
                path.push(set::field(name));
                gather(value, &below, path, fields);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if empty || !place.names(name) {
                    fields.insert(path);
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            let below = place.item();
            for item in items {
                let Ok(step) = place.step_to(item) else { continue };
                path.push(step);
                gather(item, &below, path, fields);
                fields.insert(path);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Refuses what cannot be applied: an item without its keys, an item twice, a field that the schema does not name.
pub(super) fn check(value: &Value, place: &Place<'_>, path: &mut Vec<String>) -> Result<(), String> {
    let failed = |path: &[String], why: String| Err(format!("{}: {why}", set::in_words(path)));
    if let Place::Custom(node, _) = place
        && let Some(expected) = mistyped(node, value)
    {
        return failed(path, format!("expected {expected}, got {value}"));
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                path.push(set::field(name));
                if let Place::Custom(node, resource) = place
                    && node.field(name).is_none()
                    && !place.names(name)
                    && !node.preserve
                    && (*resource || !node.properties.is_empty())
                {
                    return failed(path, "field not declared in schema".to_owned());
                }
                check(value, &place.field(name), path)?;
                path.pop();
            }
            Ok(())
        }
        Value::Array(items) if !place.whole_list() => {
            let mut seen = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let step = match place.step_to(item) {
                    Ok(step) => step,
                    Err(why) => return failed(path, format!("element {index}: {why}")),
                };
                if seen.contains(&step) {
                    let key = set::in_words(&[step]);
                    return failed(path, format!("duplicate entries for key {key}"));
                }
                path.push(step.clone());
                check(item, &place.item(), path)?;
                path.pop();
                seen.push(step);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What stands in the schema where `value` is something else.
fn mistyped(node: &Node, value: &Value) -> Option<&'static str> {
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

/// How a value has changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

/// How `new` differs from `old`.
pub(super) fn compare(old: &Value, new: &Value, place: &Place<'_>) -> Changes {
    let mut changes = Changes::default();
    changes.compare(Some(old), Some(new), place, &mut Vec::new());
    changes
}

impl Changes {
    /// Less these fields and everything below them.
    pub(super) fn without(&self, fields: &Set) -> Self {
        Self {
            added: self.added.without(fields),
            modified: self.modified.without(fields),
            removed: self.removed.without(fields),
        }
    }

    fn compare(&mut self, old: Option<&Value>, new: Option<&Value>, place: &Place<'_>, path: &mut Vec<String>) {
        if old == new {
            return;
        }
        let both = old.is_some() && new.is_some();
        match (old, new) {
            (Some(old), Some(new)) if place.is_leaf(old) && place.is_leaf(new) => {
                self.modified.insert(path);
                return;
            }
            // Null against something with members is nothing with members.
            (Some(Value::Null), Some(_)) | (Some(_), Some(Value::Null)) => {}
            (Some(old), Some(new)) if place.is_leaf(old) || place.is_leaf(new) || old.is_array() != new.is_array() => {
                // Not the same kind of thing: the one goes and the other comes.
                self.compare(Some(old), None, place, path);
                self.compare(None, Some(new), place, path);
                return;
            }
            _ => {}
        }
        if ![old, new].into_iter().flatten().any(|value| place.is_leaf(value) && !(value.is_null() && both)) {
            for (step, old, new) in pairs(old, new, place) {
                let below = place.step(&step);
                path.push(step);
                self.compare(old, new, &below, path);
                path.pop();
            }
            if place.given() {
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

/// The members of both by their steps. Of an item that is there twice the first counts.
fn pairs<'a>(old: Option<&'a Value>, new: Option<&'a Value>, place: &Place<'_>) -> Vec<Pair<'a>> {
    let members = |value: Option<&'a Value>| -> BTreeMap<String, &'a Value> {
        match value {
            Some(Value::Object(map)) => map.iter().map(|(name, value)| (set::field(name), value)).collect(),
            Some(Value::Array(items)) => {
                items.iter().rev().filter_map(|item| Some((place.step_to(item).ok()?, item))).collect()
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

/// `applied` put onto `live`.
pub(super) fn merge(live: &Value, applied: &Value, place: &Place<'_>) -> Value {
    match (live, applied) {
        (Value::Object(old), Value::Object(new)) if !place.whole_map() => {
            let mut merged = old.clone();
            for (name, value) in new {
                let below = place.field(name);
                let value = old.get(name).map_or_else(|| value.clone(), |old| merge(old, value, &below));
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(old), Value::Array(new)) if !place.whole_list() => Value::Array(merge_items(old, new, place)),
        _ => applied.clone(),
    }
}

/// The items of both. Those of `new` are in its order; each of the others stays behind what it stood behind, as far as
/// the new order lets it.
fn merge_items(old: &[Value], new: &[Value], place: &Place<'_>) -> Vec<Value> {
    let steps = |items: &[Value]| -> Vec<String> {
        items.iter().map(|item| place.step_to(item).unwrap_or_else(|_| item.to_string())).collect()
    };
    let (old_steps, new_steps) = (steps(old), steps(new));
    let below = place.item();
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
            // In both, but another of those comes first now: it will be put where that stands.
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
            // In both, and taken from the right: nothing is left there only when it has been taken.
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

/// `value` less the fields of `set`; null when nothing is left of what was something.
///
/// That null is the real server's: a map that others still have when its last member goes becomes null, and a custom
/// resource is refused for it where its schema wants a map.
pub(super) fn remove(value: &Value, set: &Set, place: &Place<'_>) -> Value {
    if place.is_leaf(value) {
        return value.clone();
    }
    let keep = |step: &str, value: &Value| -> Option<Value> {
        if set.ends(step) {
            return None;
        }
        match set.below(step) {
            Some(below) => Some(remove(value, below, &place.step(step))),
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
                .filter_map(|item| match place.step_to(item) {
                    Ok(step) => keep(&step, item),
                    Err(_) => Some(item.clone()),
                })
                .collect();
            if left.is_empty() && !items.is_empty() { Value::Null } else { Value::Array(left) }
        }
        scalar => scalar.clone(),
    }
}

/// `value` without the nulls of its objects, as decoding into a structure leaves it.
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
