//! Creating objects and replacing them by others: POST, PUT, PATCH.
//!
//! Nothing is locked while an object is prepared. Who finds at the end that somebody was faster begins again with
//! the new state, as the real server does.

use std::sync::Arc;

use serde_json::Value;

use super::answer::{Answer, Form};
use super::call::{Call, WriteOptions};
use super::change::{self, Patch};
use super::tables::Tables;
use super::{Server, access, admission, applying, definitions, prepare, view};
use crate::kinds::Resource;
use crate::meta;
use crate::ownership::{self, Writer};
use crate::status::{FieldError, Status};
use crate::store::Object;

/// How often a generated name may turn out to be taken.
const TRIES: usize = 8;

/// What has become of a write.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) code: u16,
    pub(super) object: Outcome,
    pub(super) warnings: Vec<String>,
}

/// The object after the write.
#[derive(Debug)]
pub(super) enum Outcome {
    Kept(Arc<Object>),
    /// A dry run: as it would be.
    Dry(Value),
}

impl Outcome {
    /// The object, as it is kept.
    pub(super) fn value(&self) -> &Value {
        match self {
            Self::Kept(object) => &object.value,
            Self::Dry(value) => value,
        }
    }
}

impl Written {
    /// The object, which was no dry run.
    pub(super) fn kept(self) -> Result<Arc<Object>, Status> {
        match self.object {
            Outcome::Kept(object) => Ok(object),
            Outcome::Dry(_) => Err(Status::internal("a dry run keeps nothing")),
        }
    }

    fn answer(self, server: &Server, call: &Call) -> Result<Answer, Status> {
        let answer = match (&self.object, call.accept.form()?) {
            (outcome, Form::Table) => {
                Answer::value(Tables::new(call, server.clock())?.of_one(&call.kind, outcome.value(), true))
            }
            (Outcome::Kept(object), form) => Answer::json(view::json(&call.kind, object, form)),
            (Outcome::Dry(value), Form::Metadata) => Answer::value(view::metadata(value)),
            (Outcome::Dry(value), _) => Answer::value(view::from_kept(&call.kind, value)),
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
    in_namespace(call, &mut object)?;
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
        let writer = Writer { manager: &options.manager, subresource: "", now: &server.clock().now() };
        ownership::updated(kind, None, &mut object, writer);
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
        view::to_kept(kind, &mut object);
        let key = crate::store::key(meta::namespace(&object), meta::name(&object));
        let name = meta::name(&object).to_owned();
        let taken = server.store().get(&call.resource(), &key).is_some();
        let warnings = || warnings.iter().chain(&admitted.warnings).cloned().collect();
        if options.dry_run && !taken {
            return Ok(Written { code: 201, object: Outcome::Dry(object), warnings: warnings() });
        }
        let put = if taken {
            None
        } else {
            admitted.charge(server)?;
            server.store().put(&call.resource(), &key, None, object).ok()
        };
        match put {
            Some(object) => {
                let warnings = warnings();
                definitions::changed(server, &call.resource());
                let object = server.store().get(&call.resource(), &key).unwrap_or(object);
                return Ok(Written { code: 201, object: Outcome::Kept(object), warnings });
            }
            None if generate && attempt < TRIES => {}
            None => return Err(Status::already_exists(&kind.group, &kind.plural, &name)),
        }
    }
    Err(Status::internal("no attempt was made"))
}

/// The namespace of an object is the one of the path.
pub(super) fn in_namespace(call: &Call, object: &mut Value) -> Result<(), Status> {
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

/// Nothing is created in a namespace that is not there, or that is going.
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
    in_namespace(call, &mut object)?;
    check_name(call, &object)?;
    if server.store().get(&call.resource(), &call.key()).is_none() {
        // It is read before the object is looked for.
        prepare::shape(&call.kind, &mut object.clone(), options.validation)?;
        let may = call.kind.create_on_update && call.path.subresource.is_empty();
        if may && meta::uid(&object).is_empty() {
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
            let writer = Writer { manager: &options.manager, subresource: sub, now: &now };
            update_as(server, call, &options, sub, By::Apply, |live| {
                ownership::applied(kind, Some(live), applied, writer, force)
            })
        }
        other => {
            let sub = &call.path.subresource;
            update_as(server, call, &options, sub, By::Patch, |live| other.onto(kind.merge_rules(), live))
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

/// Gives a namespace the finalizers of another state of it.
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

/// Changes a pod as the scheduler does: past the rules that hold for everybody else.
pub(super) fn bound(
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

/// Replaces the object by what `make` makes of it.
pub(super) fn update(
    server: &Server,
    call: &Call,
    options: &WriteOptions,
    subresource: &str,
    make: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Written, Status> {
    update_as(server, call, options, subresource, By::Put, make)
}

/// How the new state of an object has come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// It was sent.
    Put,
    /// By a patch, which is to blame if it does not fit.
    Patch,
    /// By an apply, which has kept the books of who owns which field.
    Apply,
}

/// The same, in one of the ways in which objects are changed.
pub(super) fn update_as(
    server: &Server,
    call: &Call,
    options: &WriteOptions,
    subresource: &str,
    by: By,
    make: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Written, Status> {
    let kind = &call.kind;
    loop {
        let kept = server.store().get(&call.resource(), &call.key()).ok_or_else(|| call.not_found())?;
        let live = view::from_kept(kind, &kept.value);
        let mut new = make(&live)?;
        let warnings = prepare::shape(kind, &mut new, options.validation)
            .map_err(|why| if by == By::Patch { change::unfit(&new, why) } else { why })?;
        check_name(call, &new)?;
        in_namespace(call, &mut new)?;
        let blamed = check_seen(call, &live, &new)?;
        // Defaults first: what they fill in is no change that the generation would count.
        prepare::defaults(kind, &mut new);
        // Then the books, which are about what was asked for; then what the server makes of it.
        let now = server.clock().now();
        if by != By::Apply {
            let writer = Writer { manager: &options.manager, subresource, now: &now };
            ownership::updated(kind, Some(&live), &mut new, writer);
        }
        if subresource.is_empty() {
            admission::complete_update(kind, &live, &mut new);
        }
        prepare::replacement(kind, &live, &mut new, subresource);
        prepare::check(kind, Some(&live), &new, blamed)?;
        meta::set(&mut new, "resourceVersion", meta::resource_version(&live));
        if ownership::same(&live, &new) && view::has_defaults(kind, &kept) {
            return Ok(Written { code: 200, object: Outcome::Kept(kept), warnings });
        }
        view::to_kept(kind, &mut new);
        if options.dry_run {
            return Ok(Written { code: 200, object: Outcome::Dry(new), warnings });
        }
        let done = if goes(&new) {
            // Its end is no version that whoever ends it is told of.
            let last = Arc::new(Object::new(kept.revision, new.clone()));
            server.store().remove(&call.resource(), &call.key(), kept.revision, new).map(|_| last)
        } else {
            server.store().put(&call.resource(), &call.key(), Some(kept.revision), new)
        };
        if let Ok(object) = done {
            definitions::changed(server, &call.resource());
            return Ok(Written { code: 200, object: Outcome::Kept(object), warnings });
        }
    }
}

/// Whether nothing holds an object that is being deleted any more.
fn goes(object: &Value) -> bool {
    let held = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let namespace =
        object.get("kind").is_some_and(|kind| kind == "Namespace") && meta::text(object, "/apiVersion") == "v1";
    meta::deleting(object)
        && !held("/metadata/finalizers")
        && !(namespace && held("/spec/finalizers"))
        && object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default() == 0
}

/// Who says what they have seen must have seen the latest. Gives what is wrong among other things.
fn check_seen(call: &Call, live: &Value, new: &Value) -> Result<Option<FieldError>, Status> {
    let kind = &call.kind;
    let (uid, real) = (meta::uid(new), meta::uid(live));
    let other = !uid.is_empty() && uid != real;
    // To a PUT it is a precondition, to a patch a field like others.
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
