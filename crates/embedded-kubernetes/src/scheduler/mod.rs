//! The scheduler: assigns each pod to a node that may run it and has room for it.
//!
//! The load of each node is kept up to date from the changes of pods, so that a pod is scheduled without reading all
//! others. Affinity between pods and topology spread are ignored, and no pod is preempted.

mod fit;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::api::Actor;
use super::controllers::{Controller, Next, Severity, record_event};
use super::kinds::Resource;
use super::meta;
use super::status::Status;
use super::store::{Change, Event};
use fit::{Candidate, Load, Needs, Refusal};

const NAME: &str = "default-scheduler";

/// The scheduler.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// The load of each node.
    placed: BTreeMap<String, Load>,
    /// The node of each assigned pod.
    nodes: BTreeMap<String, String>,
    /// The pods for which no node was found.
    waiting: BTreeSet<String>,
}

fn pods() -> Resource {
    Resource::new("", "pods")
}

fn nodes() -> Resource {
    Resource::new("", "nodes")
}

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![nodes(), pods()]
    }

    fn affected(&mut self, _: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if *resource == nodes() {
            // The kubelet updates its Node regularly to show that it is alive; that frees no resources.
            let capacity =
                |node: &Value| (node.get("spec").cloned(), node.pointer("/status/allocatable").cloned(), labels(node));
            let same_capacity = event.previous.as_ref().is_some_and(|previous| {
                event.change == Change::Modified && capacity(&previous.value) == capacity(&event.object.value)
            });
            return if same_capacity { Vec::new() } else { self.waiting.iter().cloned().collect() };
        }
        let pod = &event.object.value;
        let node = meta::text(pod, "/spec/nodeName");
        if event.change == Change::Deleted || has_ended(pod) {
            self.waiting.remove(&event.key);
            if self.unassign(&event.key) { self.waiting.iter().cloned().collect() } else { Vec::new() }
        } else if node.is_empty() {
            vec![event.key.clone()]
        } else {
            self.waiting.remove(&event.key);
            self.assign(&event.key, node, pod);
            Vec::new()
        }
    }

    fn reset(&mut self, resource: &Resource) {
        if *resource == pods() {
            *self = Self::default();
        }
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(found) = actor.get(&pods(), key) else { return Ok(Next::Change) };
        let pod = &found.value;
        let assigned = !meta::text(pod, "/spec/nodeName").is_empty();
        if assigned || meta::deleting(pod) || has_ended(pod) || meta::text(pod, "/spec/schedulerName") != NAME {
            return Ok(Next::Change);
        }
        let gated =
            pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty());
        if gated {
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            return set_unscheduled(actor, pod, "SchedulingGated", message).map(|_| Next::Change);
        }
        match self.choose(actor, pod) {
            Ok(node) => {
                actor.bind(pod, &node)?;
                self.waiting.remove(key);
                self.assign(key, &node, pod);
                let message = format!("Successfully assigned {key} to {node}");
                record_event(actor, NAME, pod, Severity::Normal, "Scheduled", &message);
            }
            Err(message) => {
                self.waiting.insert(key.to_owned());
                if set_unscheduled(actor, pod, "Unschedulable", &message)? {
                    record_event(actor, NAME, pod, Severity::Warning, "FailedScheduling", &message);
                }
            }
        }
        Ok(Next::Change)
    }
}

fn labels(object: &Value) -> Option<Value> {
    object.pointer("/metadata/labels").cloned()
}

fn has_ended(pod: &Value) -> bool {
    matches!(meta::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

impl Scheduler {
    fn assign(&mut self, key: &str, node: &str, pod: &Value) {
        if self.nodes.get(key).is_none_or(|known| known != node) {
            self.unassign(key);
            self.nodes.insert(key.to_owned(), node.to_owned());
        }
        self.placed.entry(node.to_owned()).or_default().add(key, Needs::for_pod(pod));
    }

    /// Forgets the node of a pod. Returns whether the pod had one.
    fn unassign(&mut self, key: &str) -> bool {
        let Some(node) = self.nodes.remove(key) else { return false };
        if let Some(load) = self.placed.get_mut(&node) {
            load.remove(key);
            if load.is_empty() {
                self.placed.remove(&node);
            }
        }
        true
    }

    /// Returns the node with the most resources left among those that can run the pod, or the first of them by name.
    /// The error explains why there is none, as the real scheduler does.
    fn choose(&self, actor: &Actor, pod: &Value) -> Result<String, String> {
        let needs = Needs::for_pod(pod);
        let all = actor.list(&nodes(), None);
        if all.is_empty() {
            return Err("no nodes available to schedule pods".to_owned());
        }
        let empty = Load::default();
        let mut best: Option<(i128, String)> = None;
        let mut refusals: Vec<Refusal> = Vec::new();
        for node in &all {
            let name = meta::name(&node.value);
            let candidate = Candidate { node: &node.value, load: self.placed.get(name).unwrap_or(&empty) };
            match candidate.evaluate(pod, &needs) {
                Ok(room) if best.as_ref().is_none_or(|(most, _)| room > *most) => best = Some((room, name.to_owned())),
                Ok(_) => {}
                Err(refusal) => refusals.push(refusal),
            }
        }
        best.map(|(_, name)| name).ok_or_else(|| explain(&refusals))
    }
}

/// Explains why no node can run the pod.
fn explain(refusals: &[Refusal]) -> String {
    let count = refusals.len();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.iter().flat_map(|refusal| &refusal.reasons) {
        *reasons.entry(reason).or_default() += 1;
    }
    let mut preemption: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals {
        let text = if refusal.permanent {
            "Preemption is not helpful for scheduling"
        } else {
            "No preemption victims found for incoming pod"
        };
        *preemption.entry(text).or_default() += 1;
    }
    let listed = |counts: &BTreeMap<&str, usize>| {
        let mut all: Vec<String> = counts.iter().map(|(text, count)| format!("{count} {text}")).collect();
        all.sort();
        all.join(", ")
    };
    format!(
        "0/{count} nodes are available: {}. no new claims to deallocate, preemption: 0/{count} nodes are available: {}.",
        listed(&reasons),
        listed(&preemption)
    )
}

/// Sets the condition that tells why a pod is not scheduled. Returns false if the pod already has it.
fn set_unscheduled(actor: &Actor, pod: &Value, reason: &str, message: &str) -> Result<bool, Status> {
    let mut status = pod.get("status").cloned().unwrap_or_default();
    let conditions = meta::as_map(&mut status).entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = conditions.as_array_mut() else { return Ok(false) };
    let same = |condition: &Value| {
        meta::text(condition, "/type") == "PodScheduled"
            && meta::text(condition, "/reason") == reason
            && meta::text(condition, "/message") == message
    };
    if list.iter().any(same) {
        return Ok(false);
    }
    let since = list.iter().find(|condition| meta::text(condition, "/type") == "PodScheduled");
    let since = since.filter(|condition| meta::text(condition, "/status") == "False");
    let since = since.map(|condition| meta::text(condition, "/lastTransitionTime").to_owned());
    list.retain(|condition| meta::text(condition, "/type") != "PodScheduled");
    list.push(json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message, "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| actor.clock().now()),
    }));
    match actor.set_status(pod, status) {
        Err(status) if status.code == 404 => Ok(false),
        done => done.map(|()| true),
    }
}
