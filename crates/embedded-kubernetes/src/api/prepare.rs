//! The steps between the body of a request and the stored object: shape, defaults, fields that the server sets, rules.

use serde_json::Value;

use super::call::Validation;
use super::{Server, admission, definitions};
use crate::builtin::{self, Generation};
use crate::kinds::{Kind, Origin};
use crate::meta;
use crate::names;
use crate::status::{FieldError, Status};

/// Brings an object into the shape of its kind. Returns a warning for each unknown field.
pub(super) fn shape(kind: &Kind, object: &mut Value, validation: Validation) -> Result<Vec<String>, Status> {
    let given = if validation == Validation::Ignore { Value::Null } else { object.clone() };
    match kind.origin {
        Origin::Builtin(builtin) => builtin.shape(object)?,
        Origin::Custom(_) => {
            builtin::shape_metadata(kind, object)?;
            definitions::prune(kind, object);
        }
    }
    let unknown: Vec<String> = match validation {
        Validation::Ignore => Vec::new(),
        _ => missing(kind, &given, object)?.iter().map(|path| format!("unknown field {path:?}")).collect(),
    };
    if validation == Validation::Strict && !unknown.is_empty() {
        let listed = unknown.join(", ");
        let (name, version) = (&kind.kind, &kind.version);
        return Err(Status::bad_request(format!(
            "{name} in version {version:?} cannot be handled as a {name}: strict decoding error: {listed}"
        )));
    }
    Ok(unknown)
}

/// Returns the paths of the fields that a request names and the kind does not have.
pub(super) fn missing(kind: &Kind, given: &Value, shaped: &Value) -> Result<Vec<String>, Status> {
    let missing = builtin::missing(given, shaped);
    if missing.is_empty() {
        return Ok(missing);
    }
    // Shaping also drops empty fields that the kind does have.
    let mut whole = given.clone();
    match kind.origin {
        Origin::Builtin(builtin) => builtin.read(&mut whole)?,
        Origin::Custom(_) => {
            builtin::read_metadata(kind, &mut whole)?;
            definitions::prune(kind, &mut whole);
        }
    }
    Ok(builtin::missing(given, &whole))
}

/// Sets the fields that a new object gets from the server and that its field manager then owns. [`admit`] sets the
/// others.
pub(super) fn new(server: &Server, kind: &Kind, object: &mut Value) {
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        meta::remove(object, key);
    }
    meta::set(object, "uid", server.random().uid());
    meta::set(object, "creationTimestamp", server.clock().now());
    if kind.generation {
        meta::set(object, "generation", 1);
    }
    if kind.status {
        meta::as_map(object).remove("status");
    }
    defaults(kind, object);
}

/// Sets the fields that admission adds, and the first status. No field manager owns them.
pub(super) fn admit(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    admission::complete(kind, object)?;
    if let Some(first) = kind.builtin().and_then(|builtin| builtin.first_status) {
        let status = first(object);
        meta::as_map(object).insert("status".to_owned(), status);
    }
    Ok(())
}

/// Fills in defaults.
pub(super) fn defaults(kind: &Kind, object: &mut Value) {
    match kind.origin {
        Origin::Builtin(builtin) => builtin.set_defaults(object),
        Origin::Custom(_) => definitions::default(kind, object),
    }
}

/// Restores in `new` the fields that an update cannot change, and increments the generation if the update changes what
/// it counts.
pub(super) fn replacement(kind: &Kind, live: &Value, new: &mut Value, subresource: &str) {
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"]
    {
        restore_field(new, live, key);
    }
    match subresource {
        "status" => restore_all_but_status(kind, live, new),
        "" if kind.status => meta::copy(Some(live), new, "status"),
        _ => {}
    }
    if let Some(keep) = kind.builtin().and_then(|builtin| builtin.hooks.keep_on_update)
        && subresource.is_empty()
    {
        keep(live, new);
    }
    if kind.generation && subresource != "status" && changes_generation(kind, live, new) {
        meta::set(new, "generation", meta::generation(live) + 1);
    }
}

/// Returns whether anything that the generation counts has changed.
fn changes_generation(kind: &Kind, live: &Value, new: &Value) -> bool {
    let annotations = "/metadata/annotations";
    let counts_annotations =
        kind.builtin().is_some_and(|builtin| builtin.generation == Generation::ContentAndAnnotations);
    if counts_annotations && live.pointer(annotations) != new.pointer(annotations) {
        return true;
    }
    let counted = |key: &str| key != "metadata" && key != "apiVersion" && !(kind.status && key == "status");
    let fields = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten().filter(|(key, _)| counted(key));
        fields.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    fields(live) != fields(new)
}

/// Restores everything but the status, which is what a write of the status changes. In a built-in object it may change
/// metadata too, except the fields that its kind keeps.
fn restore_all_but_status(kind: &Kind, live: &Value, new: &mut Value) {
    let mut status = new.get("status").cloned();
    let written = std::mem::replace(new, live.clone());
    match kind.origin {
        Origin::Custom(_) => restore_field(new, &written, "managedFields"),
        Origin::Builtin(builtin) => {
            meta::copy(Some(&written), new, "metadata");
            for field in builtin.merge.kept_by_status_writes {
                restore_field(new, live, field);
            }
            if let Some(keep) = builtin.hooks.keep_in_status {
                status = keep(live, status);
            }
        }
    }
    match status {
        Some(status) => meta::as_map(new).insert("status".to_owned(), status),
        None => meta::as_map(new).remove("status"),
    };
}

/// Makes a field of the metadata equal to that of another object.
fn restore_field(object: &mut Value, from: &Value, field: &str) {
    match from.pointer(&format!("/metadata/{field}")) {
        Some(value) => meta::set(object, field, value.clone()),
        None => meta::remove(object, field),
    }
}

/// Refuses an invalid object with 422. `known` is an error that was found before.
pub(super) fn check(kind: &Kind, live: Option<&Value>, new: &Value, known: Option<FieldError>) -> Result<(), Status> {
    let mut errors: Vec<FieldError> = known.into_iter().collect();
    let named = meta::text(new, "/kind");
    let another = kind.is_custom() && named != kind.kind;
    if !(another && live.is_none()) {
        errors.extend(check_metadata(kind, live, new));
    }
    errors.extend(match kind.origin {
        Origin::Custom(_) if another => definitions::validate_other_kind(kind, new, live),
        Origin::Custom(_) => definitions::validate(kind, new, live),
        Origin::Builtin(_) if kind.is("apiextensions.k8s.io", "CustomResourceDefinition") => definitions::check(new),
        Origin::Builtin(builtin) => builtin.errors(live, new),
    });
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&kind.group, if another { named } else { &kind.kind }, meta::name(new), &errors))
}

fn check_metadata(kind: &Kind, live: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = meta::name(new);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if live.is_none() {
        let check = kind.builtin().map_or(names::subdomain as fn(&str) -> Option<String>, |builtin| builtin.check_name);
        if let Some(why) = check(name) {
            errors.push(FieldError::invalid("metadata.name", name, why));
        }
    }
    let entries = |pointer: &str| new.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    for (key, value) in entries("/metadata/labels") {
        if let Some(why) = names::qualified_name(key) {
            errors.push(FieldError::invalid("metadata.labels", key.as_str(), why));
        }
        if let Some(why) = names::label_value(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid("metadata.labels", value.clone(), why));
        }
    }
    for (key, _) in entries("/metadata/annotations") {
        if let Some(why) = names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", key.as_str(), why));
        }
    }
    check_finalizers(live, new, &mut errors);
    check_owners(new, &mut errors);
    errors
}

fn check_finalizers(live: Option<&Value>, new: &Value, errors: &mut Vec<FieldError>) {
    let finalizers = meta::finalizers(new);
    for finalizer in &finalizers {
        if let Some(why) = names::qualified_name(finalizer) {
            errors.push(FieldError::invalid("metadata.finalizers", finalizer.as_str(), why));
        }
    }
    let Some(live) = live.filter(|live| meta::deleting(live)) else { return };
    let old = meta::finalizers(live);
    let added: Vec<String> =
        finalizers.iter().filter(|finalizer| !old.contains(finalizer)).map(|added| format!("{added:?}")).collect();
    if !added.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.push(FieldError::forbidden("metadata.finalizers", why));
    }
}

fn check_owners(new: &Value, errors: &mut Vec<FieldError>) {
    let mut controller: Option<String> = None;
    for owner in meta::owners(new) {
        for (field, why) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if meta::text(owner, &format!("/{field}")).is_empty() {
                errors.push(FieldError::invalid(format!("metadata.ownerReferences.{field}"), "", why));
            }
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let name = format!("{}/{}", meta::text(owner, "/kind"), meta::text(owner, "/name"));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                     {name}"
                );
                let all = new.pointer("/metadata/ownerReferences").cloned().unwrap_or_default();
                errors.push(FieldError::invalid("metadata.ownerReferences", all, why));
            }
            controller.get_or_insert(name);
        }
    }
}
