//! Deleting: preconditions, finalizers, the grace that pods are given, whole collections.

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
/// How long a pod is given if neither it nor the request says, in seconds.
const GRACE: i64 = 30;

/// `metav1.DeleteOptions`
#[derive(Debug, Clone, Default)]
pub(super) struct DeleteOptions {
    uid: Option<String>,
    resource_version: Option<String>,
    grace: Option<i64>,
    propagation: Option<String>,
    pub(super) dry_run: bool,
}

/// What has become of a deletion.
#[derive(Debug)]
pub(super) enum Deleted {
    /// It is gone.
    Gone(Arc<Object>),
    /// It is marked, or was already.
    Marked(Arc<Object>),
}

impl DeleteOptions {
    /// Reads them from the body or, if there is none, from the query.
    pub(super) fn read(call: &Call) -> Result<Self, Status> {
        if call.body.is_empty() {
            return Self::of(&call.query, &json!({}));
        }
        let body = call::decode(&call.content_type, &call.body, "DeleteOptions")?;
        Self::of(&Query::default(), &body)
    }

    /// Reads them from a query and from an object.
    pub(super) fn of(query: &Query, body: &Value) -> Result<Self, Status> {
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
    Ok(match one(server, call, &options)? {
        Deleted::Marked(object) => Answer::json(view::json(kind, &object, call.accept.form()?)),
        Deleted::Gone(object) => {
            // These answer with the object itself.
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
    let selected = list::selected(server, call)?;
    let mut items = Vec::new();
    for object in selected {
        let mut each = Call::internal(&call.kind, meta::namespace(&object.value), meta::name(&object.value));
        each.user = call.user.clone();
        // The answer shows them as they were found.
        items.push(view::from_kept(&call.kind, &object.value));
        match one(server, &each, &options) {
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

/// Deletes one object, or marks it if something must happen first.
pub(super) fn one(server: &Server, call: &Call, options: &DeleteOptions) -> Result<Deleted, Status> {
    one_after(server, call, options, |_| {})
}

/// The same, with a change that is made to the object first.
pub(super) fn one_after(
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
        match mark(server, call, options, &mut new) {
            Mark::Pending => return Ok(Deleted::Marked(kept)),
            Mark::Wait if new == kept.value => return Ok(Deleted::Marked(kept)),
            Mark::Wait if options.dry_run => return Ok(Deleted::Marked(Arc::new(Object::new(kept.revision, new)))),
            Mark::Wait => {
                if let Ok(object) = store.put(&resource, &key, Some(kept.revision), new) {
                    definitions::changed(server, &resource);
                    return Ok(Deleted::Marked(object));
                }
            }
            Mark::Now if options.dry_run => return Ok(Deleted::Gone(Arc::new(Object::new(kept.revision, new)))),
            Mark::Now => {
                if let Ok(object) = store.remove(&resource, &key, kept.revision, new) {
                    definitions::changed(server, &resource);
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
    /// It is being deleted already, and this request changes nothing.
    Pending,
    /// It stays, marked, until something has happened.
    Wait,
    /// It goes.
    Now,
}

/// Does to an object what a deletion does before the object goes.
fn mark(server: &Server, call: &Call, options: &DeleteOptions, object: &mut Value) -> Mark {
    let graceful = if call.kind.is("", "Pod") {
        match grace(server, options, object) {
            Grace::Pending => return Mark::Pending,
            Grace::None => None,
            Grace::Seconds(seconds) => Some(seconds),
        }
    } else {
        None
    };
    let held = collect(call, options, object);
    let Some(seconds) = graceful else {
        let namespace = call.kind.is("", "Namespace");
        let stays = held || (namespace && object.pointer("/spec/finalizers").is_some());
        if !stays {
            return Mark::Now;
        }
        if !meta::deleting(object) {
            bump(object);
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

fn bump(object: &mut Value) {
    let generation = meta::generation(object);
    if generation > 0 {
        meta::set(object, "generation", generation + 1);
    }
}

enum Grace {
    Pending,
    /// The rest of the deletion is not graceful any more.
    None,
    Seconds(i64),
}

/// The grace of a pod: what the request says or the pod itself; none for one that runs nowhere. It can only become
/// shorter.
fn grace(server: &Server, options: &DeleteOptions, pod: &mut Value) -> Grace {
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
    let nowhere = meta::text(pod, "/spec/nodeName").is_empty();
    let over = matches!(meta::text(pod, "/status/phase"), "Failed" | "Succeeded");
    let seconds = if nowhere || over { 0 } else { asked.or(own).unwrap_or(GRACE) };
    let seconds = if seconds < 0 { 1 } else { seconds };
    bump(pod);
    meta::set(pod, "deletionTimestamp", server.clock().after(seconds));
    meta::set(pod, "deletionGracePeriodSeconds", seconds);
    Grace::Seconds(seconds)
}

/// Sets the finalizers by which the garbage collector is told what to do with dependents. Whether any finalizer holds
/// the object.
fn collect(call: &Call, options: &DeleteOptions, object: &mut Value) -> bool {
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
    definitions::hold(call, &mut finalizers);
    let held = !finalizers.is_empty();
    if finalizers.iter().collect::<std::collections::BTreeSet<_>>() != old.iter().collect() {
        meta::set_finalizers(object, finalizers);
    }
    held
}

/// The options of a deletion that somebody else's request leads to.
pub(super) fn options(call: &Call, body: &Map<String, Value>) -> Result<DeleteOptions, Status> {
    DeleteOptions::of(&call.query, &Value::Object(body.clone()))
}
