//! Pods as all their controllers see them: their state, and how they are created, adopted and released.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::core;
use crate::api::Actor;
use crate::meta;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Event, Object};

/// Returns the phase of a pod.
pub(crate) fn phase(pod: &Value) -> &str {
    meta::text(pod, "/status/phase")
}

/// Returns whether a pod has ended and will not run again.
pub(crate) fn has_ended(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Returns whether a pod counts as running or going to run: it has not ended and is not being deleted.
pub(super) fn active(pod: &Value) -> bool {
    !has_ended(pod) && !meta::deleting(pod)
}

/// Returns whether a pod is ready.
pub(super) fn ready(pod: &Value) -> bool {
    meta::condition(pod, "Ready") == Some("True")
}

/// Returns the time since which a pod has been ready, in Unix seconds.
pub(super) fn ready_since(pod: &Value) -> Option<i64> {
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().find(|condition| meta::text(condition, "/type") == "Ready")?;
    if meta::text(ready, "/status") != "True" {
        return None;
    }
    seconds(meta::text(ready, "/lastTransitionTime"))
}

/// Parses a time as `metav1.Time` is written, to Unix seconds.
pub(super) fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// Returns the creation time of an object, in Unix seconds.
pub(super) fn created(object: &Value) -> i64 {
    seconds(meta::text(object, "/metadata/creationTimestamp")).unwrap_or_default()
}

/// Returns in how many seconds a pod will have been ready for `minimum` seconds: 0 if it already has, `None` if it is
/// not ready.
pub(super) fn available_in(pod: &Value, minimum: i64, now: i64) -> Option<i64> {
    if !ready(pod) {
        return None;
    }
    if minimum <= 0 {
        return Some(0);
    }
    let since = ready_since(pod).unwrap_or(now);
    Some(since.saturating_add(minimum).saturating_sub(now).max(0))
}

/// Creates a pod from a template, controlled by `owner`. It has no name yet.
pub(super) fn from_template(template: &Value, owner: &Value) -> Value {
    let mut metadata = Map::new();
    for key in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template.pointer(&format!("/metadata/{key}")) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    metadata.insert("namespace".to_owned(), meta::namespace(owner).into());
    metadata.insert("ownerReferences".to_owned(), json!([reference(owner)]));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": template.get("spec").cloned().unwrap_or_default()})
}

/// Returns an owner reference to the controller `owner`.
pub(super) fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": meta::text(owner, "/apiVersion"), "kind": meta::text(owner, "/kind"),
        "name": meta::name(owner), "uid": meta::uid(owner), "controller": true, "blockOwnerDeletion": true,
    })
}

/// Returns the prefix of generated pod names.
pub(super) fn prefix(owner: &Value) -> String {
    format!("{}-", meta::name(owner))
}

/// Returns the objects that an owner controls and selects. Orphans that it selects and that meet the condition `fits`
/// are adopted; objects that it controls and does not select are released. Objects that are being deleted are neither
/// adopted nor released, and an owner that is being deleted adopts none.
pub(super) fn claim(
    actor: &Actor,
    owner: &Value,
    objects: Vec<Arc<Object>>,
    fits: impl Fn(&Value) -> bool,
) -> Result<Vec<Arc<Object>>, Status> {
    let selector = Selector::from_label_selector(owner.pointer("/spec/selector").unwrap_or(&Value::Null));
    let uid = meta::uid(owner);
    let mut mine = Vec::new();
    for object in objects {
        let value = &object.value;
        let selected = !selector.is_empty() && selector.selects(value);
        match meta::controller(value) {
            Some(controller) if meta::text(controller, "/uid") != uid => {}
            Some(_) if selected => mine.push(object),
            Some(_) if meta::deleting(value) || meta::deleting(owner) => {}
            Some(_) => {
                ignore_gone(actor.replace(&without_owner(value, uid), ""))?;
            }
            None if !selected || meta::deleting(value) || meta::deleting(owner) || !fits(value) => {}
            None => {
                let mut adopted = value.clone();
                let mut owners: Vec<Value> = meta::owners(value).cloned().collect();
                owners.push(reference(owner));
                meta::set(&mut adopted, "ownerReferences", owners);
                if let Some(adopted) = ignore_gone(actor.replace(&adopted, ""))? {
                    mine.push(adopted);
                }
            }
        }
    }
    Ok(mine)
}

/// Returns the object without the reference to an owner.
pub(super) fn without_owner(object: &Value, uid: &str) -> Value {
    let mut object = object.clone();
    let owners: Vec<Value> = meta::owners(&object).filter(|owner| meta::text(owner, "/uid") != uid).cloned().collect();
    if owners.is_empty() {
        meta::remove(&mut object, "ownerReferences");
    } else {
        meta::set(&mut object, "ownerReferences", owners);
    }
    object
}

/// Treats a write to an object that is gone as successful.
pub(super) fn ignore_gone<T>(written: Result<T, Status>) -> Result<Option<T>, Status> {
    match written {
        Ok(done) => Ok(Some(done)),
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(status),
    }
}

/// Returns whether a write failed because its namespace is being deleted.
pub(super) fn namespace_is_terminating(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Returns the owners that a change of a dependent affects: its controllers before and after the change and, for an
/// orphan, those that select it.
pub(super) fn affected_owners(
    actor: &Actor,
    event: &Event,
    owner_kind: &str,
    owners: &str,
    group: &str,
) -> Vec<String> {
    let resource = crate::kinds::Resource::new(group, owners);
    let mut keys = Vec::new();
    for object in [Some(&event.object), event.previous.as_ref()].into_iter().flatten() {
        let object = &object.value;
        match meta::controller(object) {
            Some(controller) if meta::text(controller, "/kind") == owner_kind => {
                keys.push(crate::store::key(meta::namespace(object), meta::text(controller, "/name")));
            }
            Some(_) => {}
            None => {
                let all = actor.list(&resource, Some(meta::namespace(object)));
                let selecting = all.iter().filter(|owner| {
                    let selector =
                        Selector::from_label_selector(owner.value.pointer("/spec/selector").unwrap_or(&Value::Null));
                    !selector.is_empty() && selector.selects(object)
                });
                keys.extend(selecting.map(|owner| meta::key(&owner.value)));
            }
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// Returns the pods of a namespace.
pub(super) fn all(actor: &Actor, namespace: &str) -> Vec<Arc<Object>> {
    actor.list(&core("pods"), Some(namespace))
}

/// Writes counts into a status. As in Go, counts of zero are left out.
pub(super) fn set_counts(status: &mut Map<String, Value>, counts: &[(&str, i64)]) {
    for (key, count) in counts {
        if *count == 0 {
            status.remove(*key);
        } else {
            status.insert((*key).to_owned(), (*count).into());
        }
    }
}

/// Counts the items of an iterator.
pub(super) fn count<T>(items: impl Iterator<Item = T>) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}
