//! `Deployments`: one `ReplicaSet` for each template, and the rollout from the old ones to the new one.

mod revisions;
mod rollout;
mod sizes;
mod status;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::drive::{Controller, Next};
use super::{apps, core, pods};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::{Event, Object};

const SOURCE: &str = "deployment-controller";

/// The deployment controller.
#[derive(Debug)]
pub(super) struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![apps("deployments"), apps("replicasets"), core("pods")]
    }

    fn affected(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        match resource.plural.as_str() {
            "replicasets" => pods::affected_owners(actor, event, "Deployment", "deployments", "apps"),
            "pods" => waiting_deployment(actor, event),
            _ => vec![event.key.clone()],
        }
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(found) = actor.get(&apps("deployments"), key) else { return Ok(Next::Change) };
        let sets = actor.list(&apps("replicasets"), Some(meta::namespace(&found.value)));
        let sets = pods::claim(actor, &found.value, sets, |_| true)?;
        let mut pass = Pass::new(actor, &found.value, &sets);
        let done = pass.run();
        // The status is written even if a step has failed.
        let next = pass.finish()?;
        done.map(|()| next)
    }
}

/// Returns the Deployment of a changed pod if its strategy is `Recreate`, because it may be waiting for the pod to
/// end.
fn waiting_deployment(actor: &Actor, event: &Event) -> Vec<String> {
    let pod = &event.object.value;
    let Some(owner) = meta::controller(pod).filter(|owner| meta::text(owner, "/kind") == "ReplicaSet") else {
        return Vec::new();
    };
    let key = crate::store::key(meta::namespace(pod), meta::text(owner, "/name"));
    let Some(set) = actor.get(&apps("replicasets"), &key) else { return Vec::new() };
    let Some(owner) = meta::controller(&set.value) else { return Vec::new() };
    let key = crate::store::key(meta::namespace(pod), meta::text(owner, "/name"));
    let recreates = actor
        .get(&apps("deployments"), &key)
        .is_some_and(|deployment| meta::text(&deployment.value, "/spec/strategy/type") == "Recreate");
    if recreates { vec![key] } else { Vec::new() }
}

/// One reconciliation of a Deployment.
struct Pass<'a> {
    actor: &'a Actor,
    /// The Deployment as it was read.
    deployment: &'a Value,
    /// The set of the current template, if it exists.
    new: Option<Value>,
    /// The sets of earlier templates, oldest first.
    old: Vec<Value>,
    /// The revision to be written on the Deployment.
    revision: Option<String>,
    status: Map<String, Value>,
}

impl<'a> Pass<'a> {
    fn new(actor: &'a Actor, deployment: &'a Value, sets: &[Arc<Object>]) -> Self {
        let template = revisions::without_hash(deployment.pointer("/spec/template"));
        let mut old: Vec<Value> = sets.iter().map(|set| set.value.clone()).collect();
        old.sort_by(|a, b| sizes::age(a).cmp(&sizes::age(b)));
        let at = old.iter().position(|set| revisions::without_hash(set.pointer("/spec/template")) == template);
        let new = at.map(|at| old.remove(at));
        let status = deployment.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        Self { actor, deployment, new, old, revision: None, status }
    }

    fn desired(&self) -> i64 {
        meta::number(self.deployment, "/spec/replicas").unwrap_or(1)
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.old.iter().chain(&self.new)
    }

    fn paused(&self) -> bool {
        self.deployment.pointer("/spec/paused") == Some(&Value::Bool(true))
    }

    fn run(&mut self) -> Result<(), Status> {
        if meta::deleting(self.deployment) {
            return Ok(());
        }
        self.record_pause();
        if self.paused() {
            self.adopt_new(false)?;
            self.resize()?;
            return self.clean_up();
        }
        if self.was_resized() {
            self.adopt_new(false)?;
            return self.resize();
        }
        if meta::text(self.deployment, "/spec/strategy/type") == "Recreate" {
            self.recreate()?;
        } else {
            self.roll()?;
        }
        self.record_progress();
        Ok(())
    }

    /// Writes the revision and the status of the Deployment.
    fn finish(mut self) -> Result<Next, Status> {
        self.count();
        let mut new = self.deployment.clone();
        if let Some(revision) = &self.revision {
            let annotations = meta::entry(meta::metadata(&mut new), "annotations");
            annotations.insert(revisions::REVISION.to_owned(), revision.as_str().into());
        }
        let next = self.next_check();
        meta::as_map(&mut new).insert("status".to_owned(), Value::Object(self.status));
        if new != *self.deployment {
            pods::ignore_gone(self.actor.replace(&new, "status"))?;
        }
        Ok(next)
    }
}
