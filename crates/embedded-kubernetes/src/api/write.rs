//! Creates and replaces objects: POST, PUT and PATCH.
//!
//! Nothing is locked while an object is prepared. If another write was faster, the request starts again with the new
//! object, as in the real server.

use std::sync::Arc;

use serde_json::Value;

use super::answer::{Answer, Form};
use super::call::{Call, WriteOptions};
use super::change::{self, Patch};
use super::tables::Tables;
use super::{Server, access, admission, applying, definitions, prepare, view};
use crate::kinds::Resource;
use crate::meta;
use crate::ownership::{self, FieldWriter};
use crate::status::{FieldError, Status};
use crate::store::Object;

/// The most attempts to find a generated name that is free.
const NAME_ATTEMPTS: usize = 8;

/// The result of a write.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) code: u16,
    pub(super) object: Outcome,
    pub(super) warnings: Vec<String>,
}

/// The object after the write.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The object as it is now stored.
    Stored(Arc<Object>),
    /// The object as a dry run would have stored it.
    DryRun(Value),
}

impl Outcome {
    /// Returns the object in its stored version.
    pub(super) fn value(&self) -> &Value {
        match self {
            Self::Stored(object) => &object.value,
            Self::DryRun(value) => value,
        }
    }
}

impl Written {
    /// Returns the stored object. A dry run is an error.
    pub(super) fn stored_object(self) -> Result<Arc<Object>, Status> {
        match self.object {
            Outcome::Stored(object) => Ok(object),
            Outcome::DryRun(_) => Err(Status::internal("a dry run stores nothing")),
        }
    }

    fn answer(self, server: &Server, call: &Call) -> Result<Answer, Status> {
        let answer = match (&self.object, call.accept.form()?) {
            (outcome, Form::Table) => {
                Answer::value(Tables::new(call, server.clock())?.table_of_one(&call.kind, outcome.value(), true))
            }
            (Outcome::Stored(object), form) => Answer::json(view::json(&call.kind, object, form)),
            (Outcome::DryRun(value), Form::Metadata) => Answer::value(view::metadata(value)),
            (Outcome::DryRun(value), _) => Answer::value(view::from_stored(&call.kind, value)),
        };
        Ok(answer.with_code(self.code).with_warnings(self.warnings))
    }
}

/// POST to a collection.
pub(super) fn post(server: &Server, call: &Call) -> Result<Answer, Status> {
    let options = call.write_options("CreateOptions")?;
    let object = call.object()?;
    if !call.kind.stored {
        return access::review(server, call, object);
    }
    create(server, call, &options, object)?.answer(server, call)
}

/// Creates an object.
pub(super) fn create(
    server: &Server,
    call: &Call,
    options: &WriteOptions,
    mut object: Value,
) -> Result<Written, Status> {
    let kind = &call.kind;
    set_namespace(call, &mut object)?;
    let warnings = prepare::shape(kind, &mut object, options.validation)?;
    check_namespace(server, call)?;
    let generate = meta::name(&object).is_empty() && !meta::text(&object, "/metadata/generateName").is_empty();
    for attempt in 1.. {
        let mut object = object.clone();
        if generate {
            let base: String = meta::text(&object, "/metadata/generateName").chars().take(58).collect();
            let name = format!("{base}{}", server.random().suffix());
            meta::set(&mut object, "name", name);
        }
        prepare::new(server, kind, &mut object);
        let writer = FieldWriter { manager: &options.manager, subresource: "", now: &server.clock().now() };
        ownership::record_update(kind, None, &mut object, writer);
        prepare::admit(kind, &mut object)?;
        if kind.is("", "Namespace") {
            let spec = meta::entry(meta::as_map(&mut object), "spec");
            spec.insert("finalizers".to_owned(), vec!["kubernetes"].into());
        }
        prepare::check(kind, None, &object, None)?;
        let admitted = admission::create(server, call, &object)?;
        if !options.dry_run && !matches!(meta::resource_version(&object), "" | "0") {
            return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        view::to_stored(kind, &mut object);
        let key = crate::store::key(meta::namespace(&object), meta::name(&object));
        let name = meta::name(&object).to_owned();
        let exists = server.store().get(&call.resource(), &key).is_some();
        let warnings = || warnings.iter().chain(&admitted.warnings).cloned().collect();
        if options.dry_run && !exists {
            return Ok(Written { code: 201, object: Outcome::DryRun(object), warnings: warnings() });
        }
        let put = if exists {
            None
        } else {
            admitted.charge(server)?;
            server.store().put(&call.resource(), &key, None, object).ok()
        };
        match put {
            Some(object) => {
                let warnings = warnings();
                definitions::after_change(server, &call.resource());
                let object = server.store().get(&call.resource(), &key).unwrap_or(object);
                return Ok(Written { code: 201, object: Outcome::Stored(object), warnings });
            }
            None if generate && attempt < NAME_ATTEMPTS => {}
            None => return Err(Status::already_exists(&kind.group, &kind.plural, &name)),
        }
    }
    Err(Status::internal("no attempt was made"))
}

/// Sets the namespace of an object from the path. A different one in the object is an error.
pub(super) fn set_namespace(call: &Call, object: &mut Value) -> Result<(), Status> {
    let given = meta::namespace(object);
    if !given.is_empty() && given != call.path.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if call.kind.namespaced {
        meta::set(object, "namespace", call.path.namespace.as_str());
    } else {
        meta::remove(object, "namespace");
    }
    Ok(())
}

/// Refuses to create an object in a namespace that does not exist or is being deleted.
pub(super) fn check_namespace(server: &Server, call: &Call) -> Result<(), Status> {
    if !call.kind.namespaced {
        return Ok(());
    }
    let namespace = &call.path.namespace;
    let found = server.store().get(&Resource::new("", "namespaces"), namespace);
    let Some(found) = found else { return Err(Status::not_found("", "namespaces", namespace)) };
    if meta::deleting(&found.value) {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(&call.kind.group, &call.kind.plural, &call.path.name, why);
        let cause = crate::status::Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        };
        if let Some(details) = &mut status.details {
            details.causes.push(cause);
        }
        return Err(status);
    }
    Ok(())
}

/// PUT of an object or of its status.
pub(super) fn put(server: &Server, call: &Call) -> Result<Answer, Status> {
    let options = call.write_options("UpdateOptions")?;
    let mut object = call.object()?;
    set_namespace(call, &mut object)?;
    check_name(call, &object)?;
    if server.store().get(&call.resource(), &call.key()).is_none() {
        // As in the real server, a malformed object is an error even if no object of the name exists.
        prepare::shape(&call.kind, &mut object.clone(), options.validation)?;
        let may_create = call.kind.create_on_update && call.path.subresource.is_empty();
        if may_create && meta::uid(&object).is_empty() {
            meta::remove(&mut object, "resourceVersion");
            return create(server, call, &options, object)?.answer(server, call);
        }
    }
    update(server, call, &options, &call.path.subresource, |_| Ok(object.clone()))?.answer(server, call)
}

pub(super) fn check_name(call: &Call, object: &Value) -> Result<(), Status> {
    let name = meta::name(object);
    if name == call.path.name {
        return Ok(());
    }
    if name.is_empty() {
        return Err(Status::bad_request("name must be provided"));
    }
    let path = &call.path.name;
    Err(Status::bad_request(format!("the name of the object ({name}) does not match the name on the URL ({path})")))
}

/// PATCH of an object or of its status.
pub(super) fn patch(server: &Server, call: &Call) -> Result<Answer, Status> {
    Patch::check_type(call)?;
    let options = call.write_options("PatchOptions")?;
    let patch = Patch::read(call, &options)?;
    let missing = server.store().get(&call.resource(), &call.key()).is_none();
    if let Patch::Apply(applied) = &patch {
        applying::check(call, applied)?;
        if missing && call.path.subresource.is_empty() {
            return applying::create(server, call, &options, applied)?.answer(server, call);
        }
    }
    if missing {
        return Err(call.not_found());
    }
    let kind = &call.kind;
    let written = match &patch {
        Patch::Apply(applied) => {
            let now = server.clock().now();
            let force = options.force.unwrap_or_default();
            let sub = &call.path.subresource;
            let writer = FieldWriter { manager: &options.manager, subresource: sub, now: &now };
            update_as(server, call, &options, sub, WriteKind::Apply, |live| {
                ownership::apply_object(kind, Some(live), applied, writer, force)
            })
        }
        other => {
            let sub = &call.path.subresource;
            update_as(server, call, &options, sub, WriteKind::Patch, |live| other.onto(kind.merge_rules(), live))
        }
    };
    written?.answer(server, call)
}

/// PUT of a namespace's finalizers.
pub(super) fn finalize(server: &Server, call: &Call) -> Result<Answer, Status> {
    let object = call.object()?;
    check_name(call, &object)?;
    finalize_as(server, call, &object)?.answer(server, call)
}

/// Replaces the finalizers of a namespace by those of `object`.
pub(super) fn finalize_as(server: &Server, call: &Call, object: &Value) -> Result<Written, Status> {
    let options = call.write_options("UpdateOptions")?;
    let finalizers = object.pointer("/spec/finalizers").cloned();
    update(server, call, &options, "finalize", |live| {
        let mut new = live.clone();
        let spec = meta::entry(meta::as_map(&mut new), "spec");
        match &finalizers {
            Some(finalizers) => spec.insert("finalizers".to_owned(), finalizers.clone()),
            None => spec.remove("finalizers"),
        };
        Ok(new)
    })
}

/// Changes a pod as the scheduler does, without the checks that apply to other clients.
pub(super) fn replace_pod(
    server: &Server,
    call: &Call,
    options: &WriteOptions,
    make: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<(), Status> {
    loop {
        let kept = server.store().get(&call.resource(), &call.key()).ok_or_else(|| call.not_found())?;
        let new = make(&kept.value)?;
        if options.dry_run || server.store().put(&call.resource(), &call.key(), Some(kept.revision), new).is_ok() {
            return Ok(());
        }
    }
}

/// Replaces the object by the result of `make`.
pub(super) fn update(
    server: &Server,
    call: &Call,
    options: &WriteOptions,
    subresource: &str,
    make: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Written, Status> {
    update_as(server, call, options, subresource, WriteKind::Put, make)
}

/// How a client changes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteKind {
    /// It sends the whole object.
    Put,
    /// It sends a patch; an invalid result is reported as an error of the patch.
    Patch,
    /// It sends a server-side apply, which has already recorded the ownership of fields.
    Apply,
}

/// Replaces the object as [`update`] does, for any kind of write.
pub(super) fn update_as(
    server: &Server,
    call: &Call,
    options: &WriteOptions,
    subresource: &str,
    write: WriteKind,
    make: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Written, Status> {
    let kind = &call.kind;
    loop {
        let kept = server.store().get(&call.resource(), &call.key()).ok_or_else(|| call.not_found())?;
        let live = view::from_stored(kind, &kept.value);
        let mut new = make(&live)?;
        let warnings = prepare::shape(kind, &mut new, options.validation)
            .map_err(|why| if write == WriteKind::Patch { change::invalid_result(&new, why) } else { why })?;
        check_name(call, &new)?;
        set_namespace(call, &mut new)?;
        let uid_error = check_preconditions(call, &live, &new)?;
        // Defaults come first, because filling them in must not count as a change of the generation.
        prepare::defaults(kind, &mut new);
        // Ownership is recorded next, for what the client sent, before the server changes the object further.
        let now = server.clock().now();
        if write != WriteKind::Apply {
            let writer = FieldWriter { manager: &options.manager, subresource, now: &now };
            ownership::record_update(kind, Some(&live), &mut new, writer);
        }
        if subresource.is_empty() {
            admission::complete_update(kind, &live, &mut new);
        }
        prepare::replacement(kind, &live, &mut new, subresource);
        prepare::check(kind, Some(&live), &new, uid_error)?;
        meta::set(&mut new, "resourceVersion", meta::resource_version(&live));
        if ownership::unchanged(&live, &new) && view::has_defaults(kind, &kept) {
            return Ok(Written { code: 200, object: Outcome::Stored(kept), warnings });
        }
        view::to_stored(kind, &mut new);
        if options.dry_run {
            return Ok(Written { code: 200, object: Outcome::DryRun(new), warnings });
        }
        let done = if is_removable(&new) {
            // The client that removes the object gets its last stored version, not the revision of the removal.
            let last = Arc::new(Object::new(kept.revision, new.clone()));
            server.store().remove(&call.resource(), &call.key(), kept.revision, new).map(|_| last)
        } else {
            server.store().put(&call.resource(), &call.key(), Some(kept.revision), new)
        };
        if let Ok(object) = done {
            definitions::after_change(server, &call.resource());
            return Ok(Written { code: 200, object: Outcome::Stored(object), warnings });
        }
    }
}

/// Returns whether an object is being deleted and has no finalizers or grace period left.
fn is_removable(object: &Value) -> bool {
    let held = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let namespace =
        object.get("kind").is_some_and(|kind| kind == "Namespace") && meta::text(object, "/apiVersion") == "v1";
    meta::deleting(object)
        && !held("/metadata/finalizers")
        && !(namespace && held("/spec/finalizers"))
        && object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default() == 0
}

/// Checks the uid and the version that a client sends. For a patch, a wrong uid is returned as a field error, to be
/// reported with others.
fn check_preconditions(call: &Call, live: &Value, new: &Value) -> Result<Option<FieldError>, Status> {
    let kind = &call.kind;
    let (uid, real) = (meta::uid(new), meta::uid(live));
    let other = !uid.is_empty() && uid != real;
    // In a PUT the uid is a precondition, in a patch a field like any other.
    let is_field = call.method == "PATCH" && call.path.subresource != "scale";
    if other && !is_field {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {real}");
        return Err(Status::conflict(&kind.group, &kind.plural, &call.path.name, why));
    }
    let (seen, current) = (meta::resource_version(new), meta::resource_version(live));
    if matches!(seen, "" | "0") {
        if !kind.unconditional_update {
            let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            return Err(Status::invalid(&kind.group, &kind.plural, &call.path.name, &[error]));
        }
    } else if seen != current {
        if seen.parse::<u64>().is_err() {
            return Err(Status::new(500, "", format!("strconv.ParseUint: parsing {seen:?}: invalid syntax")));
        }
        return Err(call.modified());
    }
    Ok((other && is_field).then(|| FieldError::invalid("metadata.uid", uid, "field is immutable")))
}
