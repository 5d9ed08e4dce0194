//! What all who have pods ask of them, and how they make and claim them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::core;
use crate::api::Actor;
use crate::meta;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Event, Object};

/// The phase.
pub(crate) fn phase(pod: &Value) -> &str {
    meta::text(pod, "/status/phase")
}

/// Whether it has ended and will not run again.
pub(crate) fn over(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it counts: it has not ended, and nobody has asked it to.
pub(super) fn active(pod: &Value) -> bool {
    !over(pod) && !meta::deleting(pod)
}

/// Whether it is ready.
pub(super) fn ready(pod: &Value) -> bool {
    meta::condition(pod, "Ready") == Some("True")
}

/// Since when it is ready, in Unix seconds.
pub(super) fn ready_since(pod: &Value) -> Option<i64> {
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().find(|condition| meta::text(condition, "/type") == "Ready")?;
    if meta::text(ready, "/status") != "True" {
        return None;
    }
    seconds(meta::text(ready, "/lastTransitionTime"))
}

/// A time, as `metav1.Time` is written, in Unix seconds.
pub(super) fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// When it was created, in Unix seconds.
pub(super) fn created(object: &Value) -> i64 {
    seconds(meta::text(object, "/metadata/creationTimestamp")).unwrap_or_default()
}

/// In how many seconds it will have been ready for long enough: 0 if it has; `None` if it is not ready.
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

/// A pod of a template, controlled by `owner`. It has no name yet.
pub(super) fn of_template(template: &Value, owner: &Value) -> Value {
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

/// A reference to the object that controls others.
pub(super) fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": meta::text(owner, "/apiVersion"), "kind": meta::text(owner, "/kind"),
        "name": meta::name(owner), "uid": meta::uid(owner), "controller": true, "blockOwnerDeletion": true,
    })
}

/// What a pod's name begins with when the name is generated.
pub(super) fn prefix(owner: &Value) -> String {
    format!("{}-", meta::name(owner))
}

/// What an owner has claimed: the objects that it controls and selects. Orphans that it selects are adopted, those of
/// its own that it does not select are let go. `fits` is a further condition on orphans. What is being deleted is
/// neither adopted nor let go, and an owner that is being deleted adopts nothing.
pub(super) fn claim(
    actor: &Actor,
    owner: &Value,
    objects: Vec<Arc<Object>>,
    fits: impl Fn(&Value) -> bool,
) -> Result<Vec<Arc<Object>>, Status> {
    let selector = Selector::of_labels(owner.pointer("/spec/selector").unwrap_or(&Value::Null));
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

/// An object without an owner.
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

/// What has gone in the meantime needs nothing any more.
pub(super) fn ignore_gone<T>(written: Result<T, Status>) -> Result<Option<T>, Status> {
    match written {
        Ok(done) => Ok(Some(done)),
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(status),
    }
}

/// Whether a write failed because its namespace is going.
pub(super) fn namespace_is_going(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Which owners a change of a dependent concerns: those that control it, before or after, and, of an orphan, those
/// that select it.
pub(super) fn owners_of(actor: &Actor, event: &Event, owner_kind: &str, owners: &str, group: &str) -> Vec<String> {
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
                    let selector = Selector::of_labels(owner.value.pointer("/spec/selector").unwrap_or(&Value::Null));
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

/// The pods of a namespace.
pub(super) fn all(actor: &Actor, namespace: &str) -> Vec<Arc<Object>> {
    actor.list(&core("pods"), Some(namespace))
}

/// A status map without the counts that are zero, as Go leaves them out.
pub(super) fn counts(status: &mut Map<String, Value>, counts: &[(&str, i64)]) {
    for (key, count) in counts {
        if *count == 0 {
            status.remove(*key);
        } else {
            status.insert((*key).to_owned(), (*count).into());
        }
    }
}

/// How many of something there are.
pub(super) fn count<T>(of: impl Iterator<Item = T>) -> i64 {
    i64::try_from(of.count()).unwrap_or(i64::MAX)
}
