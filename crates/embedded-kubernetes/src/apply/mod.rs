//! Server-side apply, and the ownership of fields.
//!
//! There are two kinds of write. A manager that *applies* sends all fields that it wants. It owns the fields that it
//! sends, and releases those that it no longer sends; a released field without another owner is removed. A manager
//! that *updates*, by any other request, owns what it changes. An apply that would change a field of another manager
//! is a conflict, unless it is forced.
//!
//! The functions here are pure. The caller reads the object, checks names and versions, fills in defaults after
//! [`apply`], validates, and keeps the old object if nothing but times has changed.

mod managers;
mod position;
mod scale;
mod set;
mod walk;

pub use position::Types;

use serde_json::{Map, Value};

use self::managers::{Manager, Managers, Owned};
use self::position::Position;
use self::set::Set;
use crate::status::{Cause, Details, Status};

/// The context of a write: the kind of object, and the manager.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// The schema of the kind.
    pub types: Types<'a>,
    /// The API version of the kind, such as `apps/v1`.
    pub api_version: &'a str,
    /// The kind, such as `Deployment`.
    pub kind: &'a str,
    /// The field manager.
    pub manager: &'a str,
    /// The subresource that is written. Empty: the object itself.
    pub subresource: &'a str,
    /// Whether the kind has the status subresource. If it has, a write of the object does not own the status.
    pub has_status: bool,
    /// The path of the replica count for the scale subresource, such as `.spec.replicas`.
    pub replicas: Option<&'a str>,
    /// The time of the write, as `metav1.Time` is written.
    pub now: &'a str,
}

/// The manager that owns the fields that existed before the first apply.
const BEFORE: &str = "before-first-apply";

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Write<'_> {
    fn manager(&self, applies: bool) -> Manager {
        Manager {
            name: if self.manager.is_empty() { "unknown" } else { self.manager }.to_owned(),
            applies,
            version: if applies { String::new() } else { self.api_version.to_owned() },
            subresource: self.subresource.to_owned(),
        }
    }

    /// Returns the fields that a write to this subresource does not change.
    fn excluded_fields(&self) -> Set {
        let mut set = Set::default();
        if self.subresource == "status" {
            set.insert(&[set::field("spec")]);
            let kept = match self.types {
                Types::Builtin(rules) => rules.kept_by_status_writes,
                Types::Custom(_) => &[],
            };
            for name in kept {
                set.insert(&[set::field("metadata"), set::field(name)]);
            }
        } else if self.has_status {
            set.insert(&[set::field("status")]);
        }
        set
    }

    fn position(&self) -> Position<'_> {
        Position::root(self.types)
    }
}

/// Returns the fields without an owner: those that the server sets, and the identity of the object.
fn unowned_fields() -> Set {
    let mut set = Set::default();
    for name in ["apiVersion", "kind", "metadata"] {
        set.insert(&[set::field(name)]);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.insert(&[set::field("metadata"), set::field(name)]);
    }
    set
}

fn managed(object: &Value) -> Option<&Value> {
    object.pointer("/metadata/managedFields")
}

fn without_managed(object: &Value) -> Value {
    let mut object = object.clone();
    set_managed(&mut object, None);
    object
}

fn set_managed(object: &mut Value, entries: Option<Value>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    match entries {
        Some(entries) => drop(metadata.insert("managedFields".to_owned(), entries)),
        None => drop(metadata.remove("managedFields")),
    }
}

fn is_named(types: Types<'_>, path: &[String], step: &str) -> bool {
    let position = path.iter().fold(Position::root(types), |position, step| position.step(step));
    step.strip_prefix("f:").is_some_and(|name| position.names(name))
}

/// Records in `new` the ownership of fields after a write other than an apply. `live` is the object before the write;
/// `None`: the object is created.
///
/// `new` may contain managedFields from the request. If it contains none, or they cannot be parsed, those of `live`
/// are kept. An empty list resets them, and ownership is not recorded again until a manager applies.
pub fn update(write: &Write<'_>, live: Option<&Value>, new: &mut Value) {
    let asked = managed(new).cloned();
    let before = managers::read(live.and_then(managed)).unwrap_or_default();
    let mut managers = if write.subresource.is_empty() {
        if managers::resets(asked.as_ref()) {
            Managers::new()
        } else {
            managers::read(asked.as_ref()).filter(|managers| !managers.is_empty()).unwrap_or(before)
        }
    } else {
        before
    };
    set_managed(new, None);
    if write.subresource == "scale" {
        scale::update(write, live, new, &mut managers);
    } else if live.is_none() || !managers.is_empty() {
        let empty = Value::Object(Map::new());
        let old = live.map_or(empty, without_managed);
        record_changes(write, &old, new, &mut managers, &write.manager(false));
    }
    set_managed(new, managers::write(&managers));
}

fn record_changes(write: &Write<'_>, old: &Value, new: &Value, managers: &mut Managers, manager: &Manager) {
    let position = write.position();
    let changes = walk::compare(old, new, &position).without(&write.excluded_fields());
    let touched = changes.modified.union(&changes.added);
    take_fields(managers, &touched.union(&changes.removed), None);
    let fields = touched.difference(&unowned_fields());
    if !fields.is_empty() {
        let fields = managers.get(manager).map_or_else(|| fields.clone(), |own| own.fields.union(&fields));
        let owned = Owned { fields, version: write.api_version.to_owned(), time: write.now.to_owned() };
        managers.insert(manager.clone(), owned);
    }
    managers::cap(managers);
}

/// Removes fields from all managers but `except`.
fn take_fields(managers: &mut Managers, fields: &Set, except: Option<&Manager>) {
    for (manager, owned) in managers.iter_mut() {
        if Some(manager) != except {
            owned.fields = owned.fields.difference(fields);
        }
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
}

/// Applies `applied` to `live`; `None`: the object does not exist yet. Returns the object with its managedFields,
/// before defaults.
///
/// Errors: 400 if `applied` is of another kind or version, or contains managedFields. 409 for conflicts, with one
/// cause for each field. 500, as in the real server, if `applied` does not fit the schema.
pub fn apply(write: &Write<'_>, live: Option<&Value>, applied: &Value, force: bool) -> Result<Value, Status> {
    let text = |key: &str| applied.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) =
        if write.subresource == "scale" { (scale::VERSION, scale::KIND) } else { (write.api_version, write.kind) };
    if text("apiVersion") != version || text("kind") != kind {
        let message = format!("invalid object type: {}, Kind={}", text("apiVersion"), text("kind"));
        return Err(Status::bad_request(message));
    }
    if managed(applied).is_some_and(|entries| !entries.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let mut managers = managers::read(live.and_then(managed))
        .ok_or_else(|| Status::new(500, "", "failed to decode managed fields of the live object"))?;
    let manager = write.manager(true);
    if write.subresource == "scale" {
        return scale::apply(write, live, applied, managers, &manager, force);
    }
    let position = write.position();
    walk::check(applied, &position, &mut Vec::new()).map_err(|why| {
        let name = |key: &str| applied.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
        Status::new(
            500,
            "",
            format!(
                "failed to create typed patch object ({}/{}; {version}, Kind={kind}): {why}",
                name("namespace"),
                name("name")
            ),
        )
    })?;
    let empty = Value::Object(Map::new());
    let old = live.map_or_else(|| empty.clone(), without_managed);
    if live.is_some() && managers.is_empty() {
        let before = Manager { name: BEFORE.to_owned(), ..write.manager(false) };
        record_changes(write, &empty, &old, &mut managers, &before);
    }
    let kept = managers.clone();
    let mut outcome = try_apply(write, &old, applied, managers, &manager, force);
    if let Err(Conflicts(conflicts)) = &outcome
        && write.manager == "kubectl"
        && were_applied_client_side(write, &old, conflicts)
    {
        outcome = try_apply(write, &old, applied, kept, &manager, true);
    }
    let (mut new, mut managers) = outcome.map_err(Conflicts::into_status)?;
    match (write.types, new.get_mut("metadata")) {
        (Types::Builtin(_), _) => walk::without_nulls(&mut new),
        (Types::Custom(_), Some(metadata)) => walk::without_nulls(metadata),
        _ => {}
    }
    if new != old
        && let Some(own) = managers.get_mut(&manager)
    {
        write.now.clone_into(&mut own.time);
    }
    if new.get("metadata").is_none()
        && let Value::Object(new) = &mut new
    {
        new.insert("metadata".to_owned(), Value::Object(Map::new()));
    }
    set_managed(&mut new, managers::write(&managers));
    Ok(new)
}

/// The fields of other managers that an apply would change.
struct Conflicts(Vec<(Manager, Set)>);

impl Conflicts {
    fn into_status(self) -> Status {
        let Self(mut conflicts) = self;
        conflicts.sort_by_cached_key(|(manager, _)| manager.identifier());
        let causes: Vec<Cause> = conflicts
            .iter()
            .flat_map(|(manager, fields)| {
                let message = format!("conflict with {}", manager.description());
                fields.paths().into_iter().map(move |field| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: message.clone(),
                    field,
                })
            })
            .collect();
        let message = match causes.as_slice() {
            [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
            many => {
                let groups: Vec<String> = conflicts
                    .iter()
                    .map(|(manager, fields)| {
                        let fields: Vec<String> = fields.paths().iter().map(|field| format!("\n- {field}")).collect();
                        format!("conflicts with {}:{}", manager.description(), fields.concat())
                    })
                    .collect();
                format!("Apply failed with {} conflicts: {}", many.len(), groups.join("\n"))
            }
        };
        Status::new(409, "Conflict", message).with(Details { causes, ..Details::default() })
    }
}

fn try_apply(
    write: &Write<'_>,
    old: &Value,
    applied: &Value,
    mut managers: Managers,
    manager: &Manager,
    force: bool,
) -> Result<(Value, Managers), Conflicts> {
    let position = write.position();
    let last = managers.get(manager).map(|own| own.fields.clone()).unwrap_or_default();
    let time = managers.get(manager).map_or_else(|| write.now.to_owned(), |own| own.time.clone());
    let merged = walk::merge(old, applied, &position);
    let fields = walk::fields(applied, &position).without(&write.excluded_fields());
    managers.insert(manager.clone(), Owned { fields, version: write.api_version.to_owned(), time });
    let new = prune(write.types, merged, &managers, &last);
    let changes = walk::compare(old, &new, &position).without(&write.excluded_fields());
    let touched = changes.modified.union(&changes.added);
    let conflicts: Vec<(Manager, Set)> = managers
        .iter()
        .filter(|(other, _)| *other != manager)
        .map(|(other, owned)| (other.clone(), owned.fields.intersection(&touched)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(Conflicts(conflicts));
    }
    take_fields(&mut managers, &touched.union(&changes.removed), Some(manager));
    if let Some(own) = managers.get_mut(manager) {
        own.fields = own.fields.difference(&unowned_fields());
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
    Ok((new, managers))
}

/// Removes the fields that the manager applied the `last` time, has not applied now, and that no other manager owns.
fn prune(types: Types<'_>, merged: Value, managers: &Managers, last: &Set) -> Value {
    if last.is_empty() {
        return merged;
    }
    let position = Position::root(types);
    let named = |set: &Set| set.with_named(&|path, step| is_named(types, path, step));
    let fields = |value: &Value| named(&walk::fields(value, &position));
    let less = |set: &Set| walk::remove(&merged, set, &position);
    let all = fields(&merged);
    let last = named(last);
    let owned = managers.values().fold(Set::default(), |all, owned| all.union(&owned.fields));
    // Remove all of `last`, then restore what other managers own and what was not this manager's to remove.
    let pruned = less(&last);
    let pruned = less(&all.difference(&fields(&pruned).union(&named(&owned))));
    less(&all.difference(&fields(&pruned)).intersection(&last))
}

/// Returns whether all conflicts are about fields that kubectl applied client-side before and that have not changed
/// since.
fn were_applied_client_side(write: &Write<'_>, old: &Value, conflicts: &[(Manager, Set)]) -> bool {
    let annotations = old.pointer("/metadata/annotations");
    let text = annotations.and_then(|annotations| annotations.get(LAST_APPLIED)).and_then(Value::as_str);
    let Some(last) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return false };
    if last.get("apiVersion").and_then(Value::as_str) != Some(write.api_version) {
        return false;
    }
    let position = write.position();
    let changes = walk::compare(&last, old, &position);
    let unchanged = walk::fields(&last, &position)
        .difference(&changes.modified)
        .difference(&changes.added)
        .difference(&changes.removed);
    conflicts.iter().all(|(_, fields)| fields.difference(&unchanged).is_empty())
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
