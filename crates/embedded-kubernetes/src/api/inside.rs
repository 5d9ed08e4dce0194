//! Requests from within the process: those of the controllers and of the scheduler.
//!
//! They read the objects where they are kept, and so always the present state; they write as anybody else does, past
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

/// Somebody within the process who asks things of the server, under a name of its own: its field manager.
#[derive(Debug, Clone)]
pub struct Actor {
    server: Server,
    name: &'static str,
}

impl Actor {
    /// An actor of this name.
    pub fn new(server: Server, name: &'static str) -> Self {
        Self { server, name }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The clock that everything goes by.
    pub fn clock(&self) -> &Clock {
        self.server.clock()
    }

    /// The objects.
    pub fn store(&self) -> &Store {
        self.server.store()
    }

    /// One object.
    pub fn get(&self, resource: &Resource, key: &str) -> Option<Arc<Object>> {
        self.server.store().get(resource, key)
    }

    /// The objects of a namespace or, if none is given, of all, by key.
    pub fn list(&self, resource: &Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let page = self.server.store().list(resource, namespace, None, None);
        // The present never expires.
        page.map(|page| page.objects.into_iter().map(|(_, object)| object).collect()).unwrap_or_default()
    }

    /// The kind that an object, or a reference to one, names.
    pub fn kind(&self, object: &Value) -> Option<Arc<Kind>> {
        let registry = self.server.registry();
        registry.for_object(meta::text(object, "/apiVersion"), meta::text(object, "/kind")).cloned()
    }

    /// A kind for each place where objects are kept, in the order of groups and plurals.
    pub fn stored(&self) -> Vec<Arc<Kind>> {
        let registry = self.server.registry();
        let kept = registry.all().filter(|kind| {
            let version = kind.custom().map_or(&kind.version, |custom| &custom.storage_version);
            kind.stored && kind.storage.is_none() && kind.version == *version
        });
        kept.cloned().collect()
    }

    /// Holds off every admission of objects that a quota counts, while one is counted anew.
    pub(crate) fn counting(&self) -> std::sync::MutexGuard<'_, ()> {
        self.server.counting()
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
        write::create(&self.server, &call, &options, object)?.kept()
    }

    /// Puts an object, or its status, in the place of the one that was seen.
    pub fn replace(&self, object: &Value, subresource: &str) -> Result<Arc<Object>, Status> {
        let call = self.call(object, subresource)?;
        let options = call.write_options("UpdateOptions")?;
        write::update(&self.server, &call, &options, subresource, |_| Ok(object.clone()))?.kept()
    }

    /// Replaces the status of an object that was seen, if it is to be another.
    pub fn set_status(&self, seen: &Value, status: Value) -> Result<(), Status> {
        if seen.get("status") == Some(&status) {
            return Ok(());
        }
        let mut object = seen.clone();
        meta::as_map(&mut object).insert("status".to_owned(), status);
        self.replace(&object, "status").map(|_| ())
    }

    /// Takes the finalizer off a namespace by which the server holds it.
    pub fn finalize(&self, namespace: &Value) -> Result<(), Status> {
        let mut object = namespace.clone();
        let spec = meta::entry(meta::as_map(&mut object), "spec");
        if let Some(finalizers) = spec.get_mut("finalizers").and_then(Value::as_array_mut) {
            finalizers.retain(|finalizer| finalizer != "kubernetes");
        }
        let call = self.call(&object, "finalize")?;
        write::finalize_as(&self.server, &call, &object).map(|_| ())
    }

    /// Deletes the object that was seen, and none that has taken its place. One that is gone already is no error.
    /// `propagation`: `Background`, `Foreground` or `Orphan`; `grace`: in seconds, the pod's own if not given.
    pub fn delete(&self, seen: &Value, propagation: &str, grace: Option<i64>) -> Result<(), Status> {
        let call = self.call(seen, "")?;
        let mut body = json!({"propagationPolicy": propagation, "preconditions": {"uid": meta::uid(seen)}});
        if let Some(seconds) = grace {
            meta::as_map(&mut body).insert("gracePeriodSeconds".to_owned(), seconds.into());
        }
        match delete::one(&self.server, &call, &DeleteOptions::of(&call.query, &body)?) {
            Err(status) if status.code == 404 => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// Says on which node a pod runs.
    pub fn bind(&self, pod: &Value, node: &str) -> Result<(), Status> {
        let call = self.call(pod, "binding")?;
        pods::bind_to(&self.server, &call, node)
    }
}
