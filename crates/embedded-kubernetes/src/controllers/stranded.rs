//! Removes pods whose node is gone, after a grace period: no kubelet will ever end them.

use std::collections::BTreeMap;

use super::core;
use super::drive::{Controller, Next};
use super::pods;
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::Event;

/// The time for which a node may be missing, seconds.
const GRACE: i64 = 40;

/// The controller of stranded pods.
#[derive(Debug, Default)]
pub(super) struct Stranded {
    /// The time since which the node of each stranded pod is missing, in Unix seconds.
    since: BTreeMap<String, i64>,
}

impl Controller for Stranded {
    fn name(&self) -> &'static str {
        "stranded"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![core("nodes"), core("pods")]
    }

    fn affected(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if resource.plural == "pods" {
            return vec![event.key.clone()];
        }
        if actor.get(&core("nodes"), &event.key).is_some() {
            return Vec::new();
        }
        let all = actor.list(&core("pods"), None);
        let on_node = all.iter().filter(|pod| meta::text(&pod.value, "/spec/nodeName") == event.key);
        on_node.map(|pod| meta::key(&pod.value)).collect()
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
        let left = *self.since.entry(key.to_owned()).or_insert(now) + GRACE - now;
        if left > 0 {
            return Ok(Next::After(left));
        }
        if !pods::has_ended(&pod.value) {
            let mut status = pod.value.get("status").cloned().unwrap_or_default();
            meta::as_map(&mut status).insert("phase".to_owned(), "Failed".into());
            pods::ignore_gone(actor.set_status(&pod.value, status))?;
        }
        actor.delete(&pod.value, "Background", Some(0))?;
        Ok(Next::Change)
    }
}
