//! Ownership of one number through the subresource scale.
//!
//! A `Scale` has managers of its own, made of those of the object who have the number, and what becomes of them is
//! carried back. So a write over /scale can own nothing but the number, and takes it from whoever had it. An update of a
//! number that nobody has is not noted, as nothing is of a `Scale` without managers.

use serde_json::Value;

use super::managers::{self, Manager, Managers, Owned};
use super::set::{self, Set};
use super::{BEFORE, Conflicts, Types, Write};
use crate::status::Status;

pub(super) const VERSION: &str = "autoscaling/v1";
pub(super) const KIND: &str = "Scale";

fn path(write: &Write<'_>) -> Vec<String> {
    write.replicas.unwrap_or(".spec.replicas").trim_start_matches('.').split('.').map(set::field).collect()
}

fn pointer(write: &Write<'_>) -> String {
    format!("/{}", write.replicas.unwrap_or(".spec.replicas").trim_start_matches('.').replace('.', "/"))
}

/// The number of `object`; 0 counts as none, as a `Scale` does not write it.
fn number(write: &Write<'_>, object: &Value) -> Option<i64> {
    object.pointer(&pointer(write)).and_then(Value::as_i64).filter(|number| *number != 0)
}

fn owners(managers: &Managers, path: &[String]) -> Vec<Manager> {
    managers.iter().filter(|(_, owned)| owned.fields.has(path)).map(|(manager, _)| manager.clone()).collect()
}

/// The managers of a `Scale` update by its version, whatever the object's is.
fn seen(manager: &Manager) -> Manager {
    let version = if manager.applies { String::new() } else { VERSION.to_owned() };
    Manager { version, ..manager.clone() }
}

fn give(write: &Write<'_>, managers: &mut Managers, manager: &Manager, path: &[String]) {
    let owned = Owned { fields: Set::of(path), version: write.api_version.to_owned(), time: write.now.to_owned() };
    managers.insert(manager.clone(), owned);
}

/// Notes an update over /scale.
pub(super) fn update(write: &Write<'_>, live: Option<&Value>, new: &Value, managers: &mut Managers) {
    let path = path(write);
    if owners(managers, &path).is_empty() || live.and_then(|live| number(write, live)) == number(write, new) {
        return;
    }
    super::take(managers, &Set::of(&path), None);
    if number(write, new).is_some() {
        give(write, managers, &write.manager(false), &path);
    }
}

/// Applies a `Scale`.
pub(super) fn apply(
    write: &Write<'_>,
    live: Option<&Value>,
    applied: &Value,
    mut managers: Managers,
    manager: &Manager,
    force: bool,
) -> Result<Value, Status> {
    let Some(live) = live else { return Err(Status::new(404, "NotFound", "there is nothing to scale")) };
    let path = path(write);
    // Null is a number that is not written, and yet a wish.
    let none = Value::from(0);
    let named = applied.pointer("/spec/replicas");
    let wished = named.map(|number| if number.is_null() { &none } else { number });
    if let Some(other) = wished.filter(|number| !number.is_number()) {
        let name = |key: &str| applied.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
        let what = format!("({}/{}; {VERSION}, Kind={KIND})", name("namespace"), name("name"));
        let why = format!(".spec.replicas: expected numeric (int or float), got {other}");
        return Err(Status::new(500, "", format!("failed to create typed patch object {what}: {why}")));
    }
    let before = number(write, live);
    let custom = matches!(write.types, Types::Custom(_));
    if custom && owners(&managers, &path).is_empty() {
        return Err(cannot_convert("create manager for existing fields: failed to convert live object (/"));
    }
    if owners(&managers, &path).is_empty() && before.is_some() {
        let unknown = Manager { name: BEFORE.to_owned(), ..write.manager(false) };
        give(write, &mut managers, &unknown, &path);
    }
    let mut others = owners(&managers, &path);
    others.retain(|other| other != manager);
    let mut changed = wished.is_some_and(|wished| wished.as_i64() != before);
    if named.is_some_and(Value::is_null) || wished == Some(&none) && live.pointer(&pointer(write)) == Some(&none) {
        // To the merge, a number that is not written and one that is are not the same.
        changed = true;
    }
    if changed && !force && !others.is_empty() {
        let conflicts =
            others.iter().map(|other| (seen(other), Set::of(&[set::field("spec"), set::field("replicas")])));
        return Err(Conflicts(conflicts.collect()).into_status());
    }
    if custom && changed {
        let name = |key: &str| live.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
        return Err(cannot_convert(&format!("convert new object ({}/{}", name("namespace"), name("name"))));
    }
    let mut new = super::without_managed(live);
    if changed {
        super::take(&mut managers, &Set::of(&path), None);
    }
    match wished {
        Some(wished) => {
            if let Some(number) = new.pointer_mut(&pointer(write)) {
                *number = wished.clone();
            } else {
                put(&mut new, &path, wished.clone());
            }
            if changed || !managers.contains_key(manager) {
                give(write, &mut managers, manager, &path);
            }
        }
        None => {
            // What is no longer applied goes, when nobody else has it.
            if managers.remove(manager).is_some() && others.is_empty() {
                put(&mut new, &path, 0.into());
            }
        }
    }
    super::set_managed(&mut new, managers::write(&managers));
    Ok(new)
}

/// What the real server answers to a `Scale` that is applied to a custom resource, unless it changes nothing: updates are
/// the only way.
fn cannot_convert(what: &str) -> Status {
    let why = "request to convert CR to an invalid group/version: autoscaling/v1";
    Status::new(500, "", format!("failed to {what}; {VERSION}, Kind={KIND}) to proper version: {why}"))
}

/// Puts a number at a path of fields.
fn put(object: &mut Value, path: &[String], number: Value) {
    let mut at = object;
    for (index, step) in path.iter().enumerate() {
        let name = step.strip_prefix("f:").unwrap_or(step);
        let Value::Object(map) = at else { return };
        if index + 1 == path.len() {
            map.insert(name.to_owned(), number);
            return;
        }
        at = map.entry(name).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
}
