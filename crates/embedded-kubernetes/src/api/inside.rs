//! Requests from within the process, by the controllers and the scheduler.
//!
//! Reads go directly to the store and therefore return the current state. Writes go through admission, defaults,
//! validation and field ownership, like those of any other client.
//! admission, defaults, rules and the ownership of fields.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Server;
use super::call::Call;
use super::delete::{self, DeleteOptions};
use super::{pods, write};
use crate::clock::Clock;
use crate::kinds::{Kind, Resource};
use crate::meta;
use crate::status::Status;
use crate::store::{Object, Store};

/// A client within the process. Its name is its field manager.
#[derive(Debug, Clone)]
pub struct Actor {
    server: Server,
    name: &'static str,
}

impl Actor {
    /// Creates an actor with this name.
    pub fn new(server: Server, name: &'static str) -> Self {
        Self { server, name }
    }

    /// Returns the actor's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the clock of the server.
    pub fn clock(&self) -> &Clock {
        self.server.clock()
    }

    /// Returns the store of the server.
    pub fn store(&self) -> &Store {
        self.server.store()
    }

    /// Returns an object.
    pub fn get(&self, resource: &Resource, key: &str) -> Option<Arc<Object>> {
        self.server.store().get(resource, key)
    }

    /// Returns the objects of a namespace, or of all namespaces if none is given, ordered by key.
    pub fn list(&self, resource: &Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let page = self.server.store().list(resource, namespace, None, None);
        // Listing the current state cannot fail: only past revisions expire.
        page.map(|page| page.objects.into_iter().map(|(_, object)| object).collect()).unwrap_or_default()
    }

    /// Returns the kind that an object, or a reference to one, names.
    pub fn kind(&self, object: &Value) -> Option<Arc<Kind>> {
        let registry = self.server.registry();
        registry.for_object(meta::text(object, "/apiVersion"), meta::text(object, "/kind")).cloned()
    }

    /// Returns one kind for each stored resource, ordered by group and plural.
    pub fn stored(&self) -> Vec<Arc<Kind>> {
        let registry = self.server.registry();
        let kept = registry.all().filter(|kind| {
            let version = kind.custom().map_or(&kind.version, |custom| &custom.storage_version);
            kind.stored && kind.storage.is_none() && kind.version == *version
        });
        kept.cloned().collect()
    }

    /// Blocks the admission of objects that a quota counts, while a quota is recalculated.
    pub(crate) fn lock_quotas(&self) -> std::sync::MutexGuard<'_, ()> {
        self.server.lock_quotas()
    }

    fn call(&self, object: &Value, subresource: &str) -> Result<Call, Status> {
        let kind = self.kind(object).ok_or_else(Status::no_such_path)?;
        let mut call = Call::internal(&kind, meta::namespace(object), meta::name(object));
        self.name.clone_into(&mut call.agent);
        subresource.clone_into(&mut call.path.subresource);
        Ok(call)
    }

    /// Creates an object.
    pub fn create(&self, object: Value) -> Result<Arc<Object>, Status> {
        let call = self.call(&object, "")?;
        let options = call.write_options("CreateOptions")?;
        write::create(&self.server, &call, &options, object)?.stored_object()
    }

    /// Replaces an object, or its status. It must still be at the version that was read.
    pub fn replace(&self, object: &Value, subresource: &str) -> Result<Arc<Object>, Status> {
        let call = self.call(object, subresource)?;
        let options = call.write_options("UpdateOptions")?;
        write::update(&self.server, &call, &options, subresource, |_| Ok(object.clone()))?.stored_object()
    }

    /// Replaces the status of an object that was read, if the new status differs.
    pub fn set_status(&self, seen: &Value, status: Value) -> Result<(), Status> {
        if seen.get("status") == Some(&status) {
            return Ok(());
        }
        let mut object = seen.clone();
        meta::as_map(&mut object).insert("status".to_owned(), status);
        self.replace(&object, "status").map(|_| ())
    }

    /// Removes the finalizer with which the server keeps a namespace.
    pub fn finalize(&self, namespace: &Value) -> Result<(), Status> {
        let mut object = namespace.clone();
        let spec = meta::entry(meta::as_map(&mut object), "spec");
        if let Some(finalizers) = spec.get_mut("finalizers").and_then(Value::as_array_mut) {
            finalizers.retain(|finalizer| finalizer != "kubernetes");
        }
        let call = self.call(&object, "finalize")?;
        write::finalize_as(&self.server, &call, &object).map(|_| ())
    }

    /// Deletes the object that was read, and no other that has taken its name since. An object that is already gone is
    /// not an error. `propagation` is `Background`, `Foreground` or `Orphan`; `grace` is in seconds, and defaults to
    /// the pod's own grace period.
    pub fn delete(&self, seen: &Value, propagation: &str, grace: Option<i64>) -> Result<(), Status> {
        let call = self.call(seen, "")?;
        let mut body = json!({"propagationPolicy": propagation, "preconditions": {"uid": meta::uid(seen)}});
        if let Some(seconds) = grace {
            meta::as_map(&mut body).insert("gracePeriodSeconds".to_owned(), seconds.into());
        }
        match delete::delete_one(&self.server, &call, &DeleteOptions::parse(&call.query, &body)?) {
            Err(status) if status.code == 404 => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// Assigns a pod to a node.
    pub fn bind(&self, pod: &Value, node: &str) -> Result<(), Status> {
        let call = self.call(pod, "binding")?;
        pods::bind_to(&self.server, &call, node)
    }
}
