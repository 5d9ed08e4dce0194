//! The garbage collector: what is owned by nothing that is there is deleted; owners that are to go last, or to leave
//! their dependents behind, are held until that is done. Owners are told apart by uid: one of the same name is another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::drive::{Controller, Next};
use super::events::{Severity, record};
use super::pods;
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::{self, Change, Event, Object};

const SOURCE: &str = "garbage-collector-controller";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The controller. Its keys are uids.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    /// Where each object is.
    places: BTreeMap<String, (Resource, String)>,
    /// The uids of those that name this uid as an owner.
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

    fn touched(&mut self, _: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        let object = &event.object.value;
        let uid = meta::uid(object).to_owned();
        for owner in event.previous.iter().flat_map(|previous| meta::owners(&previous.value)) {
            self.part(meta::text(owner, "/uid"), &uid);
        }
        let mut keys: Vec<String> = owners(object);
        keys.extend(event.previous.iter().flat_map(|previous| owners(&previous.value)));
        if event.change == Change::Deleted {
            self.places.remove(&uid);
            for owner in owners(object) {
                self.part(&owner, &uid);
            }
            keys.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
            return keys;
        }
        self.places.insert(uid.clone(), (resource.clone(), event.key.clone()));
        for owner in owners(object) {
            self.dependents.entry(owner).or_default().insert(uid.clone());
        }
        // An owner that has begun to wait for its dependents sets them in motion.
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

fn waits(object: &Value) -> bool {
    meta::deleting(object) && meta::finalizers(object).iter().any(|finalizer| finalizer == FOREGROUND)
}

/// What a reference to an owner amounts to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    There,
    /// It is being deleted and waits for its dependents.
    Waiting,
    Gone,
    /// Nothing can be said of it: it is in a namespace, and the dependent is in none, or nobody knows its kind.
    Unknown,
}

impl Garbage {
    fn part(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// The object of a uid, as it is now.
    fn find(&self, actor: &Actor, uid: &str) -> Option<Arc<Object>> {
        let (resource, key) = self.places.get(uid)?;
        actor.get(resource, key).filter(|object| meta::uid(&object.value) == uid)
    }

    /// The dependents that are where dependents of this object can be.
    fn dependents(&self, actor: &Actor, owner: &Value) -> Vec<Arc<Object>> {
        let uids = self.dependents.get(meta::uid(owner)).into_iter().flatten();
        let found = uids.filter_map(|uid| self.find(actor, uid));
        let namespace = meta::namespace(owner);
        found.filter(|object| namespace.is_empty() || meta::namespace(&object.value) == namespace).collect()
    }

    /// Whether a dependent that has to go first is still there.
    fn is_blocked(&self, actor: &Actor, owner: &Value) -> bool {
        let blocks = |dependent: &Value| {
            let mut references = meta::owners(dependent).filter(|other| meta::text(other, "/uid") == meta::uid(owner));
            references.any(|reference| reference.get("blockOwnerDeletion") == Some(&Value::Bool(true)))
        };
        self.dependents(actor, owner).iter().any(|dependent| blocks(&dependent.value))
    }

    /// Lets the dependents of an object be without it, and then lets the object go.
    fn orphan(&self, actor: &Actor, object: &Value) -> Result<(), Status> {
        for dependent in self.dependents(actor, object) {
            pods::ignore_gone(actor.replace(&pods::without_owner(&dependent.value, meta::uid(object)), ""))?;
        }
        pods::ignore_gone(actor.replace(&without(object, ORPHAN), "")).map(|_| ())
    }

    /// Deletes an object whose owners are all gone, or wait for it.
    fn collect(&self, actor: &Actor, object: &Value) -> Result<(), Status> {
        let states: Vec<(&Value, Owner)> =
            meta::owners(object).map(|owner| (owner, Self::owner(actor, object, owner))).collect();
        let any = |state: Owner| states.iter().any(|(_, other)| *other == state);
        if states.is_empty() || any(Owner::Unknown) {
            return Ok(());
        }
        if any(Owner::There) {
            // It stays for the sake of these; the references to the others are taken away.
            let mut kept = object.clone();
            for (owner, _) in states.iter().filter(|(_, state)| *state != Owner::There) {
                kept = pods::without_owner(&kept, meta::text(owner, "/uid"));
            }
            return if kept == *object { Ok(()) } else { pods::ignore_gone(actor.replace(&kept, "")).map(|_| ()) };
        }
        let held = |by: &str| meta::finalizers(object).iter().any(|finalizer| finalizer == by);
        let owner_waits = any(Owner::Waiting) && !self.dependents(actor, object).is_empty();
        let propagation = if owner_waits || held(FOREGROUND) {
            "Foreground"
        } else if held(ORPHAN) {
            "Orphan"
        } else {
            "Background"
        };
        actor.delete(object, propagation, None)
    }

    fn owner(actor: &Actor, dependent: &Value, reference: &Value) -> Owner {
        let Some(kind) = actor.kind(reference) else { return Owner::Unknown };
        let namespace = meta::namespace(dependent);
        if kind.namespaced && namespace.is_empty() {
            let message = format!(
                "ownerRef [{}, namespace: , name: {}, uid: {}] does not exist in namespace \"\"",
                kind.api_version() + "/" + &kind.kind,
                meta::text(reference, "/name"),
                meta::text(reference, "/uid")
            );
            record(actor, SOURCE, dependent, Severity::Warning, "OwnerRefInvalidNamespace", &message);
            return Owner::Unknown;
        }
        // An owner is looked for where the dependent is: one in another namespace is none.
        let key = store::key(if kind.namespaced { namespace } else { "" }, meta::text(reference, "/name"));
        let found = actor.get(&kind.resource(), &key);
        match found.filter(|found| meta::uid(&found.value) == meta::text(reference, "/uid")) {
            None => Owner::Gone,
            Some(found) if waits(&found.value) => Owner::Waiting,
            Some(_) => Owner::There,
        }
    }
}
