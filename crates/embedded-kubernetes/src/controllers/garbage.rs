//! The garbage collector: deletes objects whose owners are all gone, and completes foreground and orphan deletions.
//! Owners are identified by uid, so that a new object of the same name is a different owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::drive::{Controller, Next};
use super::events::{Severity, record_event};
use super::pods;
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::{self, Change, Event, Object};

const SOURCE: &str = "garbage-collector-controller";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The garbage collector. Its keys are uids.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    /// The resource and key of each object.
    locations: BTreeMap<String, (Resource, String)>,
    /// The uids of the dependents of each owner.
    dependents: BTreeMap<String, BTreeSet<String>>,
}

impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "garbage"
    }

    fn watched(&self, actor: &Actor) -> Vec<Resource> {
        let kinds = actor.stored();
        kinds.iter().map(|kind| kind.resource()).filter(|resource| resource.plural != "events").collect()
    }

    fn affected(&mut self, _: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        let object = &event.object.value;
        let uid = meta::uid(object).to_owned();
        for owner in event.previous.iter().flat_map(|previous| meta::owners(&previous.value)) {
            self.unlink(meta::text(owner, "/uid"), &uid);
        }
        let mut keys: Vec<String> = owners(object);
        keys.extend(event.previous.iter().flat_map(|previous| owners(&previous.value)));
        if event.change == Change::Deleted {
            self.locations.remove(&uid);
            for owner in owners(object) {
                self.unlink(&owner, &uid);
            }
            keys.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
            return keys;
        }
        self.locations.insert(uid.clone(), (resource.clone(), event.key.clone()));
        for owner in owners(object) {
            self.dependents.entry(owner).or_default().insert(uid.clone());
        }
        // The dependents of an owner that is being deleted may have to be deleted, too.
        if meta::deleting(object) {
            keys.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        keys.push(uid);
        keys
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(object) = self.find(actor, key) else { return Ok(Next::Change) };
        let object = &object.value;
        let finalizers = meta::finalizers(object);
        let held = |by: &str| finalizers.iter().any(|finalizer| finalizer == by);
        if meta::deleting(object) {
            if held(ORPHAN) {
                self.orphan(actor, object)?;
            } else if held(FOREGROUND) && !self.is_blocked(actor, object) {
                pods::ignore_gone(actor.replace(&without(object, FOREGROUND), ""))?;
            }
            return Ok(Next::Change);
        }
        self.collect(actor, object).map(|()| Next::Change)
    }
}

fn owners(object: &Value) -> Vec<String> {
    meta::owners(object).map(|owner| meta::text(owner, "/uid").to_owned()).collect()
}

fn without(object: &Value, finalizer: &str) -> Value {
    let mut object = object.clone();
    let rest = meta::finalizers(&object).into_iter().filter(|other| other != finalizer).collect();
    meta::set_finalizers(&mut object, rest);
    object
}

fn awaits_dependents(object: &Value) -> bool {
    meta::deleting(object) && meta::finalizers(object).iter().any(|finalizer| finalizer == FOREGROUND)
}

/// The state of an owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OwnerState {
    Present,
    /// The owner is being deleted and waits for its dependents.
    Waiting,
    Gone,
    /// Unknown: the owner is namespaced and the dependent is not, or the owner's kind is not served.
    Unknown,
}

impl Garbage {
    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// Returns the object with a uid, in its current state.
    fn find(&self, actor: &Actor, uid: &str) -> Option<Arc<Object>> {
        let (resource, key) = self.locations.get(uid)?;
        actor.get(resource, key).filter(|object| meta::uid(&object.value) == uid)
    }

    /// Returns the dependents of an object that are in a scope in which it can own them.
    fn dependents(&self, actor: &Actor, owner: &Value) -> Vec<Arc<Object>> {
        let uids = self.dependents.get(meta::uid(owner)).into_iter().flatten();
        let found = uids.filter_map(|uid| self.find(actor, uid));
        let namespace = meta::namespace(owner);
        found.filter(|object| namespace.is_empty() || meta::namespace(&object.value) == namespace).collect()
    }

    /// Returns whether a dependent that must be deleted first still exists.
    fn is_blocked(&self, actor: &Actor, owner: &Value) -> bool {
        let blocks = |dependent: &Value| {
            let mut references = meta::owners(dependent).filter(|other| meta::text(other, "/uid") == meta::uid(owner));
            references.any(|reference| reference.get("blockOwnerDeletion") == Some(&Value::Bool(true)))
        };
        self.dependents(actor, owner).iter().any(|dependent| blocks(&dependent.value))
    }

    /// Removes the owner from its dependents, and then lets the owner be deleted.
    fn orphan(&self, actor: &Actor, object: &Value) -> Result<(), Status> {
        for dependent in self.dependents(actor, object) {
            pods::ignore_gone(actor.replace(&pods::without_owner(&dependent.value, meta::uid(object)), ""))?;
        }
        pods::ignore_gone(actor.replace(&without(object, ORPHAN), "")).map(|_| ())
    }

    /// Deletes an object whose owners are all gone or wait for their dependents.
    fn collect(&self, actor: &Actor, object: &Value) -> Result<(), Status> {
        let states: Vec<(&Value, OwnerState)> =
            meta::owners(object).map(|owner| (owner, Self::owner_state(actor, object, owner))).collect();
        let any = |state: OwnerState| states.iter().any(|(_, other)| *other == state);
        if states.is_empty() || any(OwnerState::Unknown) {
            return Ok(());
        }
        if any(OwnerState::Present) {
            // The object stays because of these owners; the references to the others are removed.
            let mut kept = object.clone();
            for (owner, _) in states.iter().filter(|(_, state)| *state != OwnerState::Present) {
                kept = pods::without_owner(&kept, meta::text(owner, "/uid"));
            }
            return if kept == *object { Ok(()) } else { pods::ignore_gone(actor.replace(&kept, "")).map(|_| ()) };
        }
        let held = |by: &str| meta::finalizers(object).iter().any(|finalizer| finalizer == by);
        let owner_waits = any(OwnerState::Waiting) && !self.dependents(actor, object).is_empty();
        let propagation = if owner_waits || held(FOREGROUND) {
            "Foreground"
        } else if held(ORPHAN) {
            "Orphan"
        } else {
            "Background"
        };
        actor.delete(object, propagation, None)
    }

    fn owner_state(actor: &Actor, dependent: &Value, reference: &Value) -> OwnerState {
        let Some(kind) = actor.kind(reference) else { return OwnerState::Unknown };
        let namespace = meta::namespace(dependent);
        if kind.namespaced && namespace.is_empty() {
            let message = format!(
                "ownerRef [{}, namespace: , name: {}, uid: {}] does not exist in namespace \"\"",
                kind.api_version() + "/" + &kind.kind,
                meta::text(reference, "/name"),
                meta::text(reference, "/uid")
            );
            record_event(actor, SOURCE, dependent, Severity::Warning, "OwnerRefInvalidNamespace", &message);
            return OwnerState::Unknown;
        }
        // An owner must be in the namespace of its dependent, or in none.
        let key = store::key(if kind.namespaced { namespace } else { "" }, meta::text(reference, "/name"));
        let found = actor.get(&kind.resource(), &key);
        match found.filter(|found| meta::uid(&found.value) == meta::text(reference, "/uid")) {
            None => OwnerState::Gone,
            Some(found) if awaits_dependents(&found.value) => OwnerState::Waiting,
            Some(_) => OwnerState::Present,
        }
    }
}
