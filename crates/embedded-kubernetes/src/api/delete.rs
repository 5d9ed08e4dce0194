//! Deletion: preconditions, finalizers, the grace period of pods, and whole collections.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::call::{self, Call};
use super::{Server, definitions, list, view};
use crate::meta;
use crate::request::Query;
use crate::status::{FieldError, Status};
use crate::store::Object;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// The grace period of a pod if neither the pod nor the request sets one, seconds.
const GRACE: i64 = 30;

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub(super) struct DeleteOptions {
    uid: Option<String>,
    resource_version: Option<String>,
    grace: Option<i64>,
    propagation: Option<String>,
    pub(super) dry_run: bool,
}

/// The outcome of a deletion.
#[derive(Debug)]
pub(super) enum Deleted {
    /// The object is gone.
    Gone(Arc<Object>),
    /// The object is marked as being deleted, by this request or an earlier one.
    Marked(Arc<Object>),
}

impl DeleteOptions {
    /// Reads the options from the body or, if it is empty, from the query.
    pub(super) fn read(call: &Call) -> Result<Self, Status> {
        if call.body.is_empty() {
            return Self::parse(&call.query, &json!({}));
        }
        let body = call::decode(&call.content_type, &call.body, "DeleteOptions")?;
        Self::parse(&Query::default(), &body)
    }

    /// Reads the options from a query and an object.
    pub(super) fn parse(query: &Query, body: &Value) -> Result<Self, Status> {
        let refuse = |error: FieldError| Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let asked = |key: &str| Some(query.get(key).to_owned()).filter(|value| !value.is_empty());
        let mut propagation = text("/propagationPolicy").or_else(|| asked("propagationPolicy"));
        if let Some(orphan) = body.get("orphanDependents").and_then(Value::as_bool) {
            if let Some(policy) = propagation {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                return refuse(FieldError::invalid("propagationPolicy", policy, why));
            }
            propagation = Some(if orphan { "Orphan" } else { "Background" }.to_owned());
        }
        if let Some(policy) = &propagation
            && !["Foreground", "Background", "Orphan"].contains(&policy.as_str())
        {
            let supported = &["Background", "Foreground", "Orphan"];
            return refuse(FieldError::not_supported("propagationPolicy", policy.as_str(), supported));
        }
        let mut dry_run: Vec<String> = meta::texts(body, "/dryRun");
        dry_run.extend(query.all("dryRun").iter().cloned());
        if dry_run.iter().any(|value| value != "All") {
            return refuse(FieldError::not_supported("dryRun", Value::from(dry_run), &["All"]));
        }
        let grace = body.get("gracePeriodSeconds").and_then(Value::as_i64);
        Ok(Self {
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            grace: grace.or_else(|| asked("gracePeriodSeconds")?.parse().ok()),
            propagation,
            dry_run: !dry_run.is_empty(),
        })
    }
}

/// DELETE of an object.
pub(super) fn delete(server: &Server, call: &Call) -> Result<Answer, Status> {
    let options = DeleteOptions::read(call)?;
    let kind = &call.kind;
    Ok(match delete_one(server, call, &options)? {
        Deleted::Marked(object) => Answer::json(view::json(kind, &object, call.accept.form()?)),
        Deleted::Gone(object) => {
            // Deleting one of these returns the object itself.
            if kind.builtin().is_some_and(|builtin| builtin.delete_returns_object) {
                return Ok(Answer::json(view::json(kind, &object, call.accept.form()?)));
            }
            let details = crate::status::Details {
                name: call.path.name.clone(),
                group: kind.group.clone(),
                kind: kind.plural.clone(),
                uid: meta::uid(&object.value).to_owned(),
                ..Default::default()
            };
            Answer::value(json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details.to_value(),
            }))
        }
    })
}

/// DELETE of a collection.
pub(super) fn delete_collection(server: &Server, call: &Call) -> Result<Answer, Status> {
    let options = DeleteOptions::read(call)?;
    let selected = list::select_objects(server, call)?;
    let mut items = Vec::new();
    for object in selected {
        let mut each = Call::internal(&call.kind, meta::namespace(&object.value), meta::name(&object.value));
        each.user = call.user.clone();
        // The answer shows the objects as they were before the deletion.
        items.push(view::from_stored(&call.kind, &object.value));
        match delete_one(server, &each, &options) {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(Answer::value(json!({
        "kind": call.kind.list_kind, "apiVersion": call.kind.api_version(),
        "metadata": {"resourceVersion": server.store().revision().to_string()}, "items": items,
    })))
}

/// Deletes an object, or marks it if finalizers or a grace period keep it.
pub(super) fn delete_one(server: &Server, call: &Call, options: &DeleteOptions) -> Result<Deleted, Status> {
    delete_one_after(server, call, options, |_| {})
}

/// Deletes an object as [`delete_one`] does, after making a change to it.
pub(super) fn delete_one_after(
    server: &Server,
    call: &Call,
    options: &DeleteOptions,
    change: impl Fn(&mut Value),
) -> Result<Deleted, Status> {
    let store = server.store();
    let (resource, key) = (call.resource(), call.key());
    loop {
        let kept = store.get(&resource, &key).ok_or_else(|| call.not_found())?;
        check(call, options, &kept.value)?;
        let mut new = kept.value.clone();
        change(&mut new);
        match mark_for_deletion(server, call, options, &mut new) {
            Mark::Pending => return Ok(Deleted::Marked(kept)),
            Mark::Wait if new == kept.value => return Ok(Deleted::Marked(kept)),
            Mark::Wait if options.dry_run => return Ok(Deleted::Marked(Arc::new(Object::new(kept.revision, new)))),
            Mark::Wait => {
                if let Ok(object) = store.put(&resource, &key, Some(kept.revision), new) {
                    definitions::after_change(server, &resource);
                    return Ok(Deleted::Marked(object));
                }
            }
            Mark::Now if options.dry_run => return Ok(Deleted::Gone(Arc::new(Object::new(kept.revision, new)))),
            Mark::Now => {
                if let Ok(object) = store.remove(&resource, &key, kept.revision, new) {
                    definitions::after_change(server, &resource);
                    return Ok(Deleted::Gone(object));
                }
            }
        }
    }
}

fn check(call: &Call, options: &DeleteOptions, live: &Value) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict(&call.kind.group, &call.kind.kind, &call.path.name, why));
    let (uid, version) = (meta::uid(live), meta::resource_version(live));
    match (&options.uid, &options.resource_version) {
        (Some(asked), _) if asked != uid => conflict(format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({uid}). The object might have been \
             deleted and then recreated"
        )),
        (_, Some(asked)) if asked != version => conflict(format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        )),
        _ => Ok(()),
    }
}

enum Mark {
    /// The object is already being deleted, and this request changes nothing.
    Pending,
    /// The object is marked, and stays until its finalizers or its grace period are done.
    Wait,
    /// The object is removed now.
    Now,
}

/// Marks an object as being deleted, and returns whether it can be removed.
fn mark_for_deletion(server: &Server, call: &Call, options: &DeleteOptions, object: &mut Value) -> Mark {
    let graceful = if call.kind.is("", "Pod") {
        match set_grace_period(server, options, object) {
            Grace::Pending => return Mark::Pending,
            Grace::None => None,
            Grace::Seconds(seconds) => Some(seconds),
        }
    } else {
        None
    };
    let held = set_finalizers(call, options, object);
    let Some(seconds) = graceful else {
        let namespace = call.kind.is("", "Namespace");
        let stays = held || (namespace && object.pointer("/spec/finalizers").is_some());
        if !stays {
            return Mark::Now;
        }
        if !meta::deleting(object) {
            increment_generation(object);
            meta::set(object, "deletionTimestamp", server.clock().now());
        }
        if namespace {
            meta::entry(meta::as_map(object), "status").insert("phase".to_owned(), "Terminating".into());
        } else {
            meta::set(object, "deletionGracePeriodSeconds", 0);
        }
        return Mark::Wait;
    };
    if held || seconds > 0 { Mark::Wait } else { Mark::Now }
}

fn increment_generation(object: &mut Value) {
    let generation = meta::generation(object);
    if generation > 0 {
        meta::set(object, "generation", generation + 1);
    }
}

enum Grace {
    Pending,
    /// The grace period is over.
    None,
    Seconds(i64),
}

/// Sets the grace period of a pod: that of the request or the pod's own, and none for a pod without a node. A later
/// request can only shorten it.
fn set_grace_period(server: &Server, options: &DeleteOptions, pod: &mut Value) -> Grace {
    let asked = options.grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    if meta::deleting(pod) {
        let given = pod.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
        if given == 0 {
            return Grace::None;
        }
        let Some(asked) = asked.filter(|asked| *asked < given) else { return Grace::Pending };
        let until = meta::text(pod, "/metadata/deletionTimestamp").parse::<jiff::Timestamp>();
        let until = until.map_or(0, |until| until.as_second() - given + asked);
        let now = server.clock().unix();
        let asked = if until < now && asked != 0 { 1 } else { asked };
        meta::set(pod, "deletionTimestamp", server.clock().after((until - now).max(0)));
        meta::set(pod, "deletionGracePeriodSeconds", asked);
        return Grace::Seconds(asked);
    }
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    let unassigned = meta::text(pod, "/spec/nodeName").is_empty();
    let over = matches!(meta::text(pod, "/status/phase"), "Failed" | "Succeeded");
    let seconds = if unassigned || over { 0 } else { asked.or(own).unwrap_or(GRACE) };
    let seconds = if seconds < 0 { 1 } else { seconds };
    increment_generation(pod);
    meta::set(pod, "deletionTimestamp", server.clock().after(seconds));
    meta::set(pod, "deletionGracePeriodSeconds", seconds);
    Grace::Seconds(seconds)
}

/// Sets the finalizers that tell the garbage collector what to do with dependents. Returns whether any finalizer keeps
/// the object.
fn set_finalizers(call: &Call, options: &DeleteOptions, object: &mut Value) -> bool {
    let old = meta::finalizers(object);
    let mut finalizers: Vec<String> =
        old.iter().filter(|finalizer| *finalizer != ORPHAN && *finalizer != FOREGROUND).cloned().collect();
    let collected = call.kind.builtin().is_none_or(|builtin| builtin.garbage_collected);
    match options.propagation.as_deref() {
        _ if !collected => {}
        Some("Orphan") => finalizers.push(ORPHAN.to_owned()),
        Some("Foreground") => finalizers.push(FOREGROUND.to_owned()),
        Some(_) => {}
        None => finalizers.extend(old.iter().find(|name| *name == ORPHAN || *name == FOREGROUND).cloned()),
    }
    definitions::add_cleanup_finalizer(call, &mut finalizers);
    let held = !finalizers.is_empty();
    if finalizers.iter().collect::<std::collections::BTreeSet<_>>() != old.iter().collect() {
        meta::set_finalizers(object, finalizers);
    }
    held
}

/// Reads the delete options that are part of another request, such as an eviction.
pub(super) fn nested_options(call: &Call, body: &Map<String, Value>) -> Result<DeleteOptions, Status> {
    DeleteOptions::parse(&call.query, &Value::Object(body.clone()))
}
