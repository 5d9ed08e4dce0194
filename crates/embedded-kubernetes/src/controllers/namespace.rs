//! Deletes the contents of a namespace that is being deleted, and then the namespace itself.

use serde_json::{Map, Value, json};

use super::condition::{self, Condition};
use super::core;
use super::drive::{Controller, Next};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::Event;

/// Interval between checks whether the remaining objects are gone, seconds.
const CHECK_INTERVAL: i64 = 1;

/// The namespace controller.
#[derive(Debug)]
pub(super) struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![core("namespaces")]
    }

    fn affected(&mut self, _: &Actor, _: &Resource, event: &Event) -> Vec<String> {
        if meta::deleting(&event.object.value) { vec![event.key.clone()] } else { Vec::new() }
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(namespace) = actor.get(&core("namespaces"), key) else { return Ok(Next::Change) };
        let namespace = &namespace.value;
        if !meta::deleting(namespace) || !meta::texts(namespace, "/spec/finalizers").contains(&"kubernetes".to_owned())
        {
            return Ok(Next::Change);
        }
        let remaining = delete_contents(actor, key)?;
        if remaining.is_empty() {
            // The conditions about remaining objects need no update, because the namespace is removed now.
            super::pods::ignore_gone(actor.finalize(namespace))?;
            return Ok(Next::Change);
        }
        write_conditions(actor, namespace, &remaining)?;
        Ok(Next::After(CHECK_INTERVAL))
    }
}

/// The remaining objects of one kind.
struct Remaining {
    resource: String,
    count: usize,
    /// The finalizers that keep the objects.
    finalizers: Vec<String>,
}

/// Deletes all objects in a namespace. Returns those that remain for now.
fn delete_contents(actor: &Actor, namespace: &str) -> Result<Vec<Remaining>, Status> {
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
            all.push(Remaining { resource: name, count: rest.len(), finalizers });
        }
    }
    Ok(all)
}

/// Writes what the namespace waits for to its conditions, with the texts of the real server.
fn write_conditions(actor: &Actor, namespace: &Value, remaining: &[Remaining]) -> Result<(), Status> {
    let now = actor.clock().now();
    let mut status: Map<String, Value> =
        namespace.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
    let resources: Vec<String> =
        remaining.iter().map(|left| format!("{} has {} resource instances", left.resource, left.count)).collect();
    let mut held: Vec<(&String, usize)> = Vec::new();
    for finalizer in remaining.iter().flat_map(|left| &left.finalizers) {
        match held.iter_mut().find(|(name, _)| *name == finalizer) {
            Some((_, count)) => *count += 1,
            None => held.push((finalizer, 1)),
        }
    }
    let held: Vec<String> = held.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    let resources_message = format!("Some resources are remaining: {}", resources.join(", "));
    let finalizers_message = format!("Some content in the namespace has finalizers remaining: {}", held.join(", "));
    let mut set = |kind, (status_is, reason, message): (&str, &str, &str)| {
        condition::set(&mut status, Condition { kind, status: status_is, reason, message }, &now, Value::Null);
    };
    set("NamespaceDeletionDiscoveryFailure", ("False", "ResourcesDiscovered", "All resources successfully discovered"));
    let parsed = ("False", "ParsedGroupVersions", "All legacy kube types successfully parsed");
    set("NamespaceDeletionGroupVersionParsingFailure", parsed);
    let deleted = ("False", "ContentDeleted", "All content successfully deleted, may be waiting on finalization");
    set("NamespaceDeletionContentFailure", deleted);
    set("NamespaceContentRemaining", ("True", "SomeResourcesRemain", &resources_message));
    if held.is_empty() {
        let gone = ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished");
        set("NamespaceFinalizersRemaining", gone);
    } else {
        set("NamespaceFinalizersRemaining", ("True", "SomeFinalizersRemain", &finalizers_message));
    }
    let written = super::pods::ignore_gone(actor.set_status(namespace, json!(status)));
    written.map(|_| ())
}
