//! Server-side apply: checks the applied object, and creates an object that does not exist yet.

use serde_json::Value;

use super::call::{Call, WriteOptions};
use super::write::{Outcome, Written, check_name, check_namespace, set_namespace};
use super::{Server, admission, definitions, prepare, view};
use crate::meta;
use crate::ownership::{self, FieldWriter};
use crate::status::Status;

/// Checks that an applied object names itself as the path does, and has no `managedFields`.
pub(super) fn check(call: &Call, applied: &Value) -> Result<(), Status> {
    let (version, kind) = (call.kind.api_version(), &call.kind.kind);
    let given = (meta::text(applied, "/apiVersion"), meta::text(applied, "/kind"));
    if given != (version.as_str(), kind.as_str()) {
        let (given_version, given_kind) = given;
        let message = if given_version.is_empty() || given_kind.is_empty() {
            "error decoding YAML: Object 'Kind' is missing".to_owned()
        } else {
            format!("incorrect object kind, expected {version}, Kind={kind}; got {given_version}, Kind={given_kind}")
        };
        return Err(Status::bad_request(message));
    }
    let name = meta::name(applied);
    if !name.is_empty() && name != call.path.name {
        check_name(call, applied)?;
    }
    if applied.pointer("/metadata/managedFields").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    check_fields(call, applied)
}

/// Checks that an object that is applied to a built-in kind has only declared fields of the right types, whatever the
/// request's field validation. Custom resources are checked against their schema instead.
fn check_fields(call: &Call, applied: &Value) -> Result<(), Status> {
    let Some(builtin) = call.kind.builtin() else { return Ok(()) };
    let mut shaped = applied.clone();
    let why = match builtin.shape(&mut shaped) {
        Err(status) => status.message,
        Ok(()) => match prepare::missing(&call.kind, applied, &shaped)?.first() {
            None => return Ok(()),
            Some(unknown) => format!(".{unknown}: field not declared in schema"),
        },
    };
    let what = format!("({}; {}, Kind={})", call.key(), call.kind.api_version(), call.kind.kind);
    Err(Status::new(500, "", format!("failed to create typed patch object {what}: {why}")))
}

/// Creates an object that is applied and does not exist yet.
pub(super) fn create(server: &Server, call: &Call, options: &WriteOptions, applied: &Value) -> Result<Written, Status> {
    if !meta::uid(applied).is_empty() {
        let why = "uid mismatch: the provided object specified uid ".to_owned()
            + meta::uid(applied)
            + ", and no existing object was found";
        return Err(Status::conflict(&call.kind.group, &call.kind.plural, &call.path.name, why));
    }
    let mut object = applied.clone();
    set_namespace(call, &mut object)?;
    check_namespace(server, call)?;
    meta::set(&mut object, "name", call.path.name.as_str());
    let kind = &call.kind;
    meta::remove(&mut object, "resourceVersion");
    let now = server.clock().now();
    let writer = FieldWriter { manager: &options.manager, subresource: "", now: &now };
    // Before defaults are added: fields that are applied empty are owned, too.
    let mut object = ownership::apply_object(kind, None, &object, writer, false)?;
    let mut warnings = prepare::shape(kind, &mut object, options.validation)?;
    prepare::new(server, kind, &mut object);
    prepare::admit(kind, &mut object)?;
    prepare::check(kind, None, &object, None)?;
    let mut admitted = admission::create(server, call, &object)?;
    warnings.append(&mut admitted.warnings);
    view::to_stored(kind, &mut object);
    if options.dry_run {
        return Ok(Written { code: 201, object: Outcome::DryRun(object), warnings });
    }
    if server.store().get(&call.resource(), &call.key()).is_none() {
        admitted.charge(server)?;
    }
    match server.store().put(&call.resource(), &call.key(), None, object) {
        Ok(object) => {
            definitions::after_change(server, &call.resource());
            Ok(Written { code: 201, object: Outcome::Stored(object), warnings })
        }
        Err(_) => Err(Status::already_exists(&kind.group, &kind.plural, &call.path.name)),
    }
}
