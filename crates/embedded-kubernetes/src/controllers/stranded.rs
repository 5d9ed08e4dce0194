//! Pods whose node is gone: nobody will ever end them, so they are removed after a while.

use std::collections::BTreeMap;

use super::core;
use super::drive::{Controller, Next};
use super::pods;
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::Event;

/// How long a node may be missing, in seconds.
const PATIENCE: i64 = 40;

/// The controller.
#[derive(Debug, Default)]
pub(super) struct Stranded {
    /// Since when the node of a pod has been seen missing, in Unix seconds.
    since: BTreeMap<String, i64>,
}

impl Controller for Stranded {
    fn name(&self) -> &'static str {
        "stranded"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![core("nodes"), core("pods")]
    }

    fn touched(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if resource.plural == "pods" {
            return vec![event.key.clone()];
        }
        if actor.get(&core("nodes"), &event.key).is_some() {
            return Vec::new();
        }
        let all = actor.list(&core("pods"), None);
        let there = all.iter().filter(|pod| meta::text(&pod.value, "/spec/nodeName") == event.key);
        there.map(|pod| meta::key(&pod.value)).collect()
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let pod = actor.get(&core("pods"), key);
        let stranded = pod.filter(|pod| {
            let node = meta::text(&pod.value, "/spec/nodeName");
            !node.is_empty() && actor.get(&core("nodes"), node).is_none()
        });
        let Some(pod) = stranded else {
            self.since.remove(key);
            return Ok(Next::Change);
        };
        let now = actor.clock().unix();
        let left = *self.since.entry(key.to_owned()).or_insert(now) + PATIENCE - now;
        if left > 0 {
            return Ok(Next::After(left));
        }
        if !pods::over(&pod.value) {
            let mut status = pod.value.get("status").cloned().unwrap_or_default();
            meta::as_map(&mut status).insert("phase".to_owned(), "Failed".into());
            pods::ignore_gone(actor.set_status(&pod.value, status))?;
        }
        actor.delete(&pod.value, "Background", Some(0))?;
        Ok(Next::Change)
    }
}
