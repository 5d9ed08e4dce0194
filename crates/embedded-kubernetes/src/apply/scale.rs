//! Ownership of the replica count through the scale subresource.
//!
//! As in the real server, a `Scale` has managers of its own: those managers of the object that own the replica count.
//! Changes of their ownership are written back to the object. A write over /scale can therefore own nothing but the
//! replica count, and takes it from all other managers. An update of a count without an owner is not recorded, because
//! a `Scale` without managers records no ownership.

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

/// Returns the replica count of `object`. 0 counts as none, because a `Scale` leaves it out.
fn number(write: &Write<'_>, object: &Value) -> Option<i64> {
    object.pointer(&pointer(write)).and_then(Value::as_i64).filter(|number| *number != 0)
}

fn owners(managers: &Managers, path: &[String]) -> Vec<Manager> {
    managers.iter().filter(|(_, owned)| owned.fields.has(path)).map(|(manager, _)| manager.clone()).collect()
}

/// Returns a manager as it appears in a `Scale`: managers that update have the version of `Scale`, whatever that of
/// the object is.
fn scale_manager(manager: &Manager) -> Manager {
    let version = if manager.applies { String::new() } else { VERSION.to_owned() };
    Manager { version, ..manager.clone() }
}

fn set_owner(write: &Write<'_>, managers: &mut Managers, manager: &Manager, path: &[String]) {
    let owned =
        Owned { fields: Set::from_path(path), version: write.api_version.to_owned(), time: write.now.to_owned() };
    managers.insert(manager.clone(), owned);
}

/// Records an update over /scale.
pub(super) fn update(write: &Write<'_>, live: Option<&Value>, new: &Value, managers: &mut Managers) {
    let path = path(write);
    if owners(managers, &path).is_empty() || live.and_then(|live| number(write, live)) == number(write, new) {
        return;
    }
    super::take_fields(managers, &Set::from_path(&path), None);
    if number(write, new).is_some() {
        set_owner(write, managers, &write.manager(false), &path);
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
    // A null count is not written, but still counts as applied.
    let none = Value::from(0);
    let named = applied.pointer("/spec/replicas");
    let desired = named.map(|number| if number.is_null() { &none } else { number });
    if let Some(other) = desired.filter(|number| !number.is_number()) {
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
        set_owner(write, &mut managers, &unknown, &path);
    }
    let mut others = owners(&managers, &path);
    others.retain(|other| other != manager);
    let mut changed = desired.is_some_and(|desired| desired.as_i64() != before);
    if named.is_some_and(Value::is_null) || desired == Some(&none) && live.pointer(&pointer(write)) == Some(&none) {
        // The merge distinguishes between an unwritten count and 0.
        changed = true;
    }
    if changed && !force && !others.is_empty() {
        let conflicts = others
            .iter()
            .map(|other| (scale_manager(other), Set::from_path(&[set::field("spec"), set::field("replicas")])));
        return Err(Conflicts(conflicts.collect()).into_status());
    }
    if custom && changed {
        let name = |key: &str| live.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
        return Err(cannot_convert(&format!("convert new object ({}/{}", name("namespace"), name("name"))));
    }
    let mut new = super::without_managed(live);
    if changed {
        super::take_fields(&mut managers, &Set::from_path(&path), None);
    }
    match desired {
        Some(desired) => {
            if let Some(number) = new.pointer_mut(&pointer(write)) {
                *number = desired.clone();
            } else {
                set_number(&mut new, &path, desired.clone());
            }
            if changed || !managers.contains_key(manager) {
                set_owner(write, &mut managers, manager, &path);
            }
        }
        None => {
            // A count that is no longer applied is removed, unless another manager owns it.
            if managers.remove(manager).is_some() && others.is_empty() {
                set_number(&mut new, &path, 0.into());
            }
        }
    }
    super::set_managed(&mut new, managers::write(&managers));
    Ok(new)
}

/// Creates the real server's answer to a `Scale` that is applied to a custom resource and would change it. Only
/// updates of the scale of a custom resource are supported.
fn cannot_convert(what: &str) -> Status {
    let why = "request to convert CR to an invalid group/version: autoscaling/v1";
    Status::new(500, "", format!("failed to {what}; {VERSION}, Kind={KIND}) to proper version: {why}"))
}

/// Sets the number at a path of fields.
fn set_number(object: &mut Value, path: &[String], number: Value) {
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
