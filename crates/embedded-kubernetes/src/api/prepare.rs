//! What the server does to an object before it is kept: shape, defaults, what it fills in itself, rules.

use serde_json::{Value, json};

use super::call::Validation;
use super::{Server, admission, definitions};
use crate::builtin;
use crate::kinds::Kind;
use crate::meta;
use crate::names;
use crate::status::{FieldError, Status};

/// Brings an object into the shape of its kind and fills in the defaults. Gives warnings.
pub(super) fn shape(kind: &Kind, object: &mut Value, validation: Validation) -> Result<Vec<String>, Status> {
    let given = if validation == Validation::Ignore { Value::Null } else { object.clone() };
    if kind.is_custom() {
        builtin::shape_metadata(kind, object)?;
        definitions::prune(kind, object);
    } else {
        builtin::shape(kind, object)?;
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

/// The fields that a request names and nobody knows.
pub(super) fn missing(kind: &Kind, given: &Value, shaped: &Value) -> Result<Vec<String>, Status> {
    let missing = builtin::missing(given, shaped);
    if missing.is_empty() {
        return Ok(missing);
    }
    // What is empty is dropped too, known or not.
    let mut whole = given.clone();
    builtin::read(kind, &mut whole)?;
    if kind.is_custom() {
        definitions::prune(kind, &mut whole);
    }
    Ok(builtin::missing(given, &whole))
}

/// Fills in what a new object gets from the server, less what admission fills in: that is nobody's.
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

/// Fills in what admission does, and the first status.
pub(super) fn admit(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    admission::complete(kind, object)?;
    if !kind.is_custom() {
        first_status(kind, object);
    }
    Ok(())
}

/// Fills in the defaults.
pub(super) fn defaults(kind: &Kind, object: &mut Value) {
    if kind.is_custom() {
        definitions::default(kind, object);
    } else {
        builtin::set_defaults(kind, object);
    }
}

fn first_status(kind: &Kind, object: &mut Value) {
    let status = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => json!({"phase": "Pending", "qosClass": quality(object)}),
        ("", "Service") => json!({"loadBalancer": {}}),
        ("apps", "StatefulSet") => json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "ReplicaSet") => json!({"replicas": 0}),
        ("apps", "Deployment") | ("batch", "Job") | ("", "ResourceQuota") => json!({}),
        ("policy", _) => {
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
        }
        _ => return,
    };
    meta::as_map(object).insert("status".to_owned(), status);
}

/// The class of a pod by its requests and limits.
fn quality(pod: &Value) -> &'static str {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let containers: Vec<&Value> = containers.into_iter().flatten().collect();
    let amount =
        |container: &Value, of: &str, what: &str| container.pointer(&format!("/resources/{of}/{what}")).cloned();
    let guaranteed = containers.iter().all(|container| {
        ["cpu", "memory"].iter().all(|what| {
            let limit = amount(container, "limits", what);
            limit.is_some() && limit == amount(container, "requests", what)
        })
    });
    let nothing = containers.iter().all(|container| {
        let some = |of: &str| ["cpu", "memory"].iter().any(|what| amount(container, of, what).is_some());
        !some("limits") && !some("requests")
    });
    match (guaranteed, nothing) {
        (_, true) => "BestEffort",
        (true, false) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

/// What an update cannot change is as it was, and the generation counts what it has changed.
pub(super) fn replacement(kind: &Kind, live: &Value, new: &mut Value, subresource: &str) {
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"]
    {
        match live.pointer(&format!("/metadata/{key}")) {
            Some(value) => meta::set(new, key, value.clone()),
            None => meta::remove(new, key),
        }
    }
    match subresource {
        "status" => only_status(kind, live, new),
        "" if kind.status => meta::copy(Some(live), new, "status"),
        _ => {}
    }
    if kind.is("", "Namespace") && subresource.is_empty() {
        let finalizers = live.pointer("/spec/finalizers").cloned();
        if let Some(finalizers) = finalizers {
            meta::entry(meta::as_map(new), "spec").insert("finalizers".to_owned(), finalizers);
        }
    }
    if kind.generation && subresource != "status" && differs(kind, live, new) {
        meta::set(new, "generation", meta::generation(live) + 1);
    }
}

/// Whether what the generation counts has changed: everything but metadata and status. A Deployment counts its
/// annotations too.
fn differs(kind: &Kind, live: &Value, new: &Value) -> bool {
    let annotations = "/metadata/annotations";
    if kind.is("apps", "Deployment") && live.pointer(annotations) != new.pointer(annotations) {
        return true;
    }
    let counted = |key: &str| key != "metadata" && key != "apiVersion" && !(kind.status && key == "status");
    let fields = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten().filter(|(key, _)| counted(key));
        fields.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    fields(live) != fields(new)
}

/// A write of the status changes nothing else; of a built-in object it may change metadata, but for what its kind takes
/// from the old one.
fn only_status(kind: &Kind, live: &Value, new: &mut Value) {
    let status = new.get("status").cloned();
    let written = std::mem::replace(new, live.clone());
    if kind.is_custom() {
        match written.pointer("/metadata/managedFields") {
            Some(managed) => meta::set(new, "managedFields", managed.clone()),
            None => meta::remove(new, "managedFields"),
        }
    } else {
        meta::copy(Some(&written), new, "metadata");
        for (of, field) in [("Deployment", "labels"), ("Pod", "ownerReferences")] {
            match live.pointer(&format!("/metadata/{field}")).filter(|_| kind.kind == of) {
                Some(value) => meta::set(new, field, value.clone()),
                None if kind.kind == of => meta::remove(new, field),
                None => {}
            }
        }
    }
    let quality = live.pointer("/status/qosClass").filter(|_| kind.is("", "Pod"));
    let status = match (status, quality) {
        (Some(mut status), Some(quality)) => {
            // It is the server's: who leaves it out does not mean it.
            meta::as_map(&mut status).entry("qosClass").or_insert_with(|| quality.clone());
            Some(status)
        }
        (None, Some(quality)) => Some(json!({"qosClass": quality})),
        (status, None) => status,
    };
    match status {
        Some(status) => meta::as_map(new).insert("status".to_owned(), status),
        None => meta::as_map(new).remove("status"),
    };
}

/// What is wrong with an object, as 422. `before`: what was found already.
pub(super) fn check(kind: &Kind, live: Option<&Value>, new: &Value, before: Option<FieldError>) -> Result<(), Status> {
    let mut errors: Vec<FieldError> = before.into_iter().collect();
    let named = meta::text(new, "/kind");
    let another = kind.is_custom() && named != kind.kind;
    if !(another && live.is_none()) {
        errors.extend(check_metadata(kind, live, new));
    }
    errors.extend(match (kind.is_custom(), live) {
        (_, live) if another => definitions::validate_other_kind(kind, new, live),
        (true, live) => definitions::validate(kind, new, live),
        (false, _) if kind.is("apiextensions.k8s.io", "CustomResourceDefinition") => definitions::check(new),
        (false, None) => builtin::on_create(kind, new),
        (false, Some(live)) => builtin::on_update(kind, live, new),
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
        let wrong = match (kind.group.as_str(), kind.kind.as_str()) {
            ("", "Namespace") => names::label(name),
            ("", "Service") => names::label_1035(name),
            ("rbac.authorization.k8s.io", _) => names::path_segment(name),
            _ => names::subdomain(name),
        };
        if let Some(why) = wrong {
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
