//! Server-side apply, and who owns which field.
//!
//! Two things can happen to an object. A manager *applies*: it says all that it wants, takes what it says, and lets go
//! of what it no longer says, which is removed when nobody else has it. Or a manager *updates*, by any other request:
//! it takes what it changes. An apply that would change what another has is a conflict, unless it is forced.
//!
//! Pure. The caller finds the object, checks names and versions, fills in defaults after [`apply`], validates, and keeps
//! the object as it was if nothing but times has changed.

mod managers;
mod place;
mod scale;
mod set;
mod walk;

pub use place::Types;

use serde_json::{Map, Value};

use self::managers::{Manager, Managers, Owned};
use self::place::Place;
use self::set::Set;
use crate::status::{Cause, Details, Status};

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// What is known of the kind.
    pub types: Types<'a>,
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// The field manager.
    pub manager: &'a str,
    /// Empty: the object itself.
    pub subresource: &'a str,
    /// Whether the kind has the subresource status: then the object itself does not own it.
    pub has_status: bool,
    /// Where the subresource scale finds the wished number, `.spec.replicas`.
    pub replicas: Option<&'a str>,
    /// The time, as `metav1.Time` is written.
    pub now: &'a str,
}

/// Whom fields are ascribed to that were there before anybody applied.
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

    /// Fields that a write of this kind does not reach.
    fn unreached(&self) -> Set {
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

    fn place(&self) -> Place<'_> {
        Place::root(self.types)
    }
}

/// Fields that nobody owns: they are the server's, or the object's identity.
fn nobodys() -> Set {
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
    let place = path.iter().fold(Place::root(types), |place, step| place.step(step));
    step.strip_prefix("f:").is_some_and(|name| place.names(name))
}

/// Notes in `new` who owns what after any write that is no apply. `live`: the object before; `None`: it is created.
///
/// `new` may carry managedFields: those of the request. None, or ones that cannot be read, stand for those of `live`; an
/// empty list forgets everybody, and from then on nothing is noted until somebody applies.
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
        updated(write, &old, new, &mut managers, &write.manager(false));
    }
    set_managed(new, managers::write(&managers));
}

fn updated(write: &Write<'_>, old: &Value, new: &Value, managers: &mut Managers, manager: &Manager) {
    let place = write.place();
    let changes = walk::compare(old, new, &place).without(&write.unreached());
    let touched = changes.modified.union(&changes.added);
    take(managers, &touched.union(&changes.removed), None);
    let fields = touched.difference(&nobodys());
    if !fields.is_empty() {
        let fields = managers.get(manager).map_or_else(|| fields.clone(), |own| own.fields.union(&fields));
        let owned = Owned { fields, version: write.api_version.to_owned(), time: write.now.to_owned() };
        managers.insert(manager.clone(), owned);
    }
    managers::cap(managers);
}

/// Takes `fields` from all managers but `except`.
fn take(managers: &mut Managers, fields: &Set, except: Option<&Manager>) {
    for (manager, owned) in managers.iter_mut() {
        if Some(manager) != except {
            owned.fields = owned.fields.difference(fields);
        }
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
}

/// Applies `applied` onto `live`; `None`: there is no object yet. Gives the object with its managedFields, before
/// defaults.
///
/// 400: it is of another kind or version, or brings managedFields. 409: conflicts, with one cause for each field. 500,
/// which is the real server's choice: it does not fit the schema.
pub fn apply(write: &Write<'_>, live: Option<&Value>, applied: &Value, force: bool) -> Result<Value, Status> {
    let text = |key: &str| applied.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) =
        if write.subresource == "scale" { (scale::VERSION, scale::KIND) } else { (write.api_version, write.kind) };
    if text("apiVersion") != version || text("kind") != kind {
        let words = format!("invalid object type: {}, Kind={}", text("apiVersion"), text("kind"));
        return Err(Status::bad_request(words));
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
    let place = write.place();
    walk::check(applied, &place, &mut Vec::new()).map_err(|why| {
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
        updated(write, &empty, &old, &mut managers, &before);
    }
    let kept = managers.clone();
    let mut outcome = attempt(write, &old, applied, managers, &manager, force);
    if let Err(Conflicts(conflicts)) = &outcome
        && write.manager == "kubectl"
        && applied_before(write, &old, conflicts)
    {
        outcome = attempt(write, &old, applied, kept, &manager, true);
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

/// The fields that an apply would take, by who has them.
struct Conflicts(Vec<(Manager, Set)>);

impl Conflicts {
    fn into_status(self) -> Status {
        let Self(mut conflicts) = self;
        conflicts.sort_by_cached_key(|(manager, _)| manager.identifier());
        let causes: Vec<Cause> = conflicts
            .iter()
            .flat_map(|(manager, fields)| {
                let words = format!("conflict with {}", manager.in_words());
                fields.paths().into_iter().map(move |field| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: words.clone(),
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
                        format!("conflicts with {}:{}", manager.in_words(), fields.concat())
                    })
                    .collect();
                format!("Apply failed with {} conflicts: {}", many.len(), groups.join("\n"))
            }
        };
        Status::new(409, "Conflict", message).with(Details { causes, ..Details::default() })
    }
}

fn attempt(
    write: &Write<'_>,
    old: &Value,
    applied: &Value,
    mut managers: Managers,
    manager: &Manager,
    force: bool,
) -> Result<(Value, Managers), Conflicts> {
    let place = write.place();
    let last = managers.get(manager).map(|own| own.fields.clone()).unwrap_or_default();
    let time = managers.get(manager).map_or_else(|| write.now.to_owned(), |own| own.time.clone());
    let merged = walk::merge(old, applied, &place);
    let fields = walk::fields(applied, &place).without(&write.unreached());
    managers.insert(manager.clone(), Owned { fields, version: write.api_version.to_owned(), time });
    let new = prune(write.types, merged, &managers, &last);
    let changes = walk::compare(old, &new, &place).without(&write.unreached());
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
    take(&mut managers, &touched.union(&changes.removed), Some(manager));
    if let Some(own) = managers.get_mut(manager) {
        own.fields = own.fields.difference(&nobodys());
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
    Ok((new, managers))
}

/// Removes what the manager had applied the `last` time, has not applied now, and nobody else has.
fn prune(types: Types<'_>, merged: Value, managers: &Managers, last: &Set) -> Value {
    if last.is_empty() {
        return merged;
    }
    let place = Place::root(types);
    let named = |set: &Set| set.with_named(&|path, step| is_named(types, path, step));
    let fields = |value: &Value| named(&walk::fields(value, &place));
    let less = |set: &Set| walk::remove(&merged, set, &place);
    let all = fields(&merged);
    let last = named(last);
    let owned = managers.values().fold(Set::default(), |all, owned| all.union(&owned.fields));
    // Without all of it; with what anybody has; with what was not the manager's to remove.
    let pruned = less(&last);
    let pruned = less(&all.difference(&fields(&pruned).union(&named(&owned))));
    less(&all.difference(&fields(&pruned)).intersection(&last))
}

/// Whether all conflicts are about what kubectl itself had applied from the client's side before, unchanged since.
fn applied_before(write: &Write<'_>, old: &Value, conflicts: &[(Manager, Set)]) -> bool {
    let annotations = old.pointer("/metadata/annotations");
    let text = annotations.and_then(|annotations| annotations.get(LAST_APPLIED)).and_then(Value::as_str);
    let Some(last) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return false };
    if last.get("apiVersion").and_then(Value::as_str) != Some(write.api_version) {
        return false;
    }
    let place = write.place();
    let changes = walk::compare(&last, old, &place);
    let unchanged = walk::fields(&last, &place)
        .difference(&changes.modified)
        .difference(&changes.added)
        .difference(&changes.removed);
    conflicts.iter().all(|(_, fields)| fields.difference(&unchanged).is_empty())
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
