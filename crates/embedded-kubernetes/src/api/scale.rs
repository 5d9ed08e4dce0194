//! The scale subresource: the replica count of a workload, for clients that know nothing else about its kind.

use serde_json::{Map, Value, json};

use super::Server;
use super::answer::Answer;
use super::call::Call;
use super::change::{self, Patch};
use super::view;
use super::write::{self, WriteKind};
use crate::kinds::ScalePaths;
use crate::lists::MergeRules;
use crate::meta;
use crate::ownership::{self, FieldWriter};
use crate::status::{FieldError, Status};

/// GET, PUT and PATCH of the scale of an object.
pub(super) fn scale(server: &Server, call: &Call) -> Result<Answer, Status> {
    let Some(paths) = &call.kind.scale else { return Err(Status::no_such_path()) };
    let found = || server.store().get(&call.resource(), &call.key()).ok_or_else(|| call.not_found());
    if call.method == "GET" {
        let kept = found()?;
        let has = kept.value.pointer(&pointer(&paths.spec)).is_some_and(Value::is_i64);
        if call.kind.is_custom() && !has {
            return Err(Status::internal(format!("the spec replicas field {:?} does not exist", paths.spec)));
        }
        return Ok(Answer::value(read_scale(paths, &view::from_stored(&call.kind, &kept.value))));
    }
    let is_patch = call.method != "PUT";
    if is_patch {
        Patch::check_type(call)?;
    }
    let options = call.write_options(if is_patch { "PatchOptions" } else { "UpdateOptions" })?;
    let patch = if is_patch { Some(Patch::read(call, &options)?) } else { None };
    let sent = if is_patch { None } else { Some(call.object_of("autoscaling/v1", "Scale")?) };
    sent.as_ref().map(parse_replicas).transpose()?;
    found()?;
    let written = if let Some(Patch::Apply(applied)) = &patch {
        let now = server.clock().now();
        let force = options.force.unwrap_or_default();
        write::update_as(server, call, &options, "scale", WriteKind::Apply, |live| {
            let writer = FieldWriter { manager: &options.manager, subresource: "scale", now: &now };
            let mut new = ownership::apply_object(&call.kind, Some(live), applied, writer, force)?;
            keep_preconditions(call, applied, &mut new);
            Ok(new)
        })?
    } else {
        write::update_as(server, call, &options, "scale", WriteKind::Put, |live| {
            let current = read_scale(paths, live);
            let scale = match (&patch, &sent) {
                (_, Some(sent)) => sent.clone(),
                (Some(patch), None) => patch.onto(&MergeRules::SHARED, &current)?,
                (None, None) => current,
            };
            if is_patch {
                parse_replicas(&scale).map_err(|why| change::invalid_result(&scale, why))?;
            }
            let mut new = write_scale(call, paths, live, &scale)?;
            keep_preconditions(call, &scale, &mut new);
            Ok(new)
        })?
    };
    Ok(Answer::value(read_scale(paths, &view::from_stored(&call.kind, written.object.value()))))
}

/// Converts a path such as `.spec.replicas` to a JSON pointer.
pub(super) fn pointer(path: &str) -> String {
    format!("/{}", path.trim_start_matches('.').replace('.', "/"))
}

/// Returns the scale of an object.
fn read_scale(paths: &ScalePaths, object: &Value) -> Value {
    let number = |path: &str| object.pointer(&pointer(path)).and_then(Value::as_i64).unwrap_or_default();
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{key}")) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let mut spec = Map::new();
    let desired = number(&paths.spec);
    if desired != 0 {
        spec.insert("replicas".to_owned(), desired.into());
    }
    let mut status = json!({"replicas": number(&paths.status)});
    let selector = paths.selector.as_ref().and_then(|path| object.pointer(&pointer(path)));
    let selector = match selector {
        Some(Value::String(text)) => text.clone(),
        Some(selector) => as_text(selector),
        None => String::new(),
    };
    if !selector.is_empty() {
        meta::as_map(&mut status).insert("selector".to_owned(), selector.into());
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// Formats a label selector as it is written in a query.
fn as_text(selector: &Value) -> String {
    let mut terms: Vec<String> = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let (key, values) = (meta::text(expression, "/key"), meta::texts(expression, "/values").join(","));
        terms.push(match meta::text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort();
    terms.join(",")
}

/// Returns the replica count of a scale. A missing count is 0.
fn parse_replicas(scale: &Value) -> Result<i64, Status> {
    let value = scale.pointer("/spec/replicas").filter(|value| !value.is_null());
    value.map_or(Some(0), Value::as_i64).ok_or_else(|| {
        let message = "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal into Go struct field \
                       ScaleSpec.spec.replicas of type int32";
        Status::bad_request(message)
    })
}

/// Writes the replica count of a scale into its object.
fn write_scale(call: &Call, paths: &ScalePaths, live: &Value, scale: &Value) -> Result<Value, Status> {
    let name = meta::name(scale);
    if !name.is_empty() && name != call.path.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.path.name
        )));
    }
    let custom = call.kind.is_custom();
    let unset = custom && !live.pointer(&pointer(&paths.spec)).is_some_and(Value::is_i64);
    let desired = match scale.pointer("/spec/replicas") {
        // As in Go, null is 0; a merge patch with null removes the field.
        None if unset && call.method == "PATCH" => {
            return Err(Status::bad_request(format!("the spec replicas field {:?} cannot be empty", paths.spec)));
        }
        _ => parse_replicas(scale)?,
    };
    // A custom resource is checked against its own schema.
    if desired < 0 && !custom {
        let error = FieldError::invalid("spec.replicas", desired, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", &call.path.name, &[error]));
    }
    let mut new = live.clone();
    let mut at = meta::as_map(&mut new);
    let mut parts = paths.spec.trim_start_matches('.').split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            at.insert(part.to_owned(), desired.into());
            break;
        }
        at = meta::entry(at, part);
    }
    Ok(new)
}

/// Copies the preconditions of the scale to the object, which they apply to. A patch ignores the uid of a custom
/// resource.
fn keep_preconditions(call: &Call, scale: &Value, object: &mut Value) {
    for key in ["resourceVersion", "uid"] {
        if key == "uid" && call.method == "PATCH" && call.kind.is_custom() {
            continue;
        }
        let given = meta::text(scale, &format!("/metadata/{key}"));
        if !given.is_empty() {
            meta::set(object, key, given);
        }
    }
}
