//! Namespaces: what is in one that is being deleted is deleted, and then the namespace itself.

use serde_json::{Map, Value, json};

use super::condition::{self, Condition};
use super::core;
use super::drive::{Controller, Next};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::Event;

/// How often it is looked whether the rest has gone, in seconds.
const LOOK: i64 = 1;

/// The controller.
#[derive(Debug)]
pub(super) struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![core("namespaces")]
    }

    fn touched(&mut self, _: &Actor, _: &Resource, event: &Event) -> Vec<String> {
        if meta::deleting(&event.object.value) { vec![event.key.clone()] } else { Vec::new() }
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(namespace) = actor.get(&core("namespaces"), key) else { return Ok(Next::Change) };
        let namespace = &namespace.value;
        if !meta::deleting(namespace) || !meta::texts(namespace, "/spec/finalizers").contains(&"kubernetes".to_owned())
        {
            return Ok(Next::Change);
        }
        let left = empty(actor, key)?;
        if left.is_empty() {
            // What has been said of what is left is in the way of nobody any more.
            super::pods::ignore_gone(actor.finalize(namespace))?;
            return Ok(Next::Change);
        }
        say(actor, namespace, &left)?;
        Ok(Next::After(LOOK))
    }
}

/// What is left of one kind.
struct Left {
    resource: String,
    count: usize,
    /// The finalizers that hold it.
    finalizers: Vec<String>,
}

/// Deletes everything in a namespace. What stays for now is given back.
fn empty(actor: &Actor, namespace: &str) -> Result<Vec<Left>, Status> {
    let mut all = Vec::new();
    for kind in actor.stored().into_iter().filter(|kind| kind.namespaced) {
        let resource = kind.resource();
        for object in actor.list(&resource, Some(namespace)) {
            if !meta::deleting(&object.value) {
                actor.delete(&object.value, "Background", None)?;
            }
        }
        let rest = actor.list(&resource, Some(namespace));
        if !rest.is_empty() {
            let mut finalizers: Vec<String> = rest.iter().flat_map(|object| meta::finalizers(&object.value)).collect();
            finalizers.sort();
            let name = if kind.group.is_empty() {
                format!("{}.", kind.plural)
            } else {
                format!("{}.{}", kind.plural, kind.group)
            };
            all.push(Left { resource: name, count: rest.len(), finalizers });
        }
    }
    Ok(all)
}

/// Says in the conditions of a namespace what it waits for, in the words of the real server.
fn say(actor: &Actor, namespace: &Value, left: &[Left]) -> Result<(), Status> {
    let now = actor.clock().now();
    let mut status: Map<String, Value> =
        namespace.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
    let resources: Vec<String> =
        left.iter().map(|left| format!("{} has {} resource instances", left.resource, left.count)).collect();
    let mut held: Vec<(&String, usize)> = Vec::new();
    for finalizer in left.iter().flat_map(|left| &left.finalizers) {
        match held.iter_mut().find(|(name, _)| *name == finalizer) {
            Some((_, count)) => *count += 1,
            None => held.push((finalizer, 1)),
        }
    }
    let held: Vec<String> = held.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    let remaining = format!("Some resources are remaining: {}", resources.join(", "));
    let finalizers = format!("Some content in the namespace has finalizers remaining: {}", held.join(", "));
    let mut set = |kind, (status_is, reason, message): (&str, &str, &str)| {
        condition::set(&mut status, Condition { kind, status: status_is, reason, message }, &now, Value::Null);
    };
    set("NamespaceDeletionDiscoveryFailure", ("False", "ResourcesDiscovered", "All resources successfully discovered"));
    let parsed = ("False", "ParsedGroupVersions", "All legacy kube types successfully parsed");
    set("NamespaceDeletionGroupVersionParsingFailure", parsed);
    let deleted = ("False", "ContentDeleted", "All content successfully deleted, may be waiting on finalization");
    set("NamespaceDeletionContentFailure", deleted);
    set("NamespaceContentRemaining", ("True", "SomeResourcesRemain", &remaining));
    if held.is_empty() {
        let gone = ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished");
        set("NamespaceFinalizersRemaining", gone);
    } else {
        set("NamespaceFinalizersRemaining", ("True", "SomeFinalizersRemain", &finalizers));
    }
    let written = super::pods::ignore_gone(actor.set_status(namespace, json!(status)));
    written.map(|_| ())
}
