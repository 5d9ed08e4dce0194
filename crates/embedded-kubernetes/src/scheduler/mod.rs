//! The scheduler: gives each pod a node that has room for it and that it may run on.
//!
//! What is placed is counted here, node by node, from the pods' changes, so that a pod is placed without a look at all
//! the others. Affinity between pods and spreading are not obeyed, and nothing is preempted.

mod fit;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::api::Actor;
use super::controllers::{Controller, Next, Severity, record};
use super::kinds::Resource;
use super::meta;
use super::status::Status;
use super::store::{Change, Event};
use fit::{Load, Needs, Place, Refusal};

const NAME: &str = "default-scheduler";

/// The scheduler.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// What stands on each node.
    placed: BTreeMap<String, Load>,
    /// The node of each pod that has one.
    nodes: BTreeMap<String, String>,
    /// The pods that no node had room for.
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

    fn touched(&mut self, _: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if *resource == nodes() {
            // The kubelet says every now and then that it is there: that makes no room.
            let place =
                |node: &Value| (node.get("spec").cloned(), node.pointer("/status/allocatable").cloned(), labels(node));
            let same = event.previous.as_ref().is_some_and(|previous| {
                event.change == Change::Modified && place(&previous.value) == place(&event.object.value)
            });
            return if same { Vec::new() } else { self.waiting.iter().cloned().collect() };
        }
        let pod = &event.object.value;
        let node = meta::text(pod, "/spec/nodeName");
        if event.change == Change::Deleted || over(pod) {
            self.waiting.remove(&event.key);
            if self.lift(&event.key) { self.waiting.iter().cloned().collect() } else { Vec::new() }
        } else if node.is_empty() {
            vec![event.key.clone()]
        } else {
            self.waiting.remove(&event.key);
            self.put(&event.key, node, pod);
            Vec::new()
        }
    }

    fn lost_track(&mut self, resource: &Resource) {
        if *resource == pods() {
            *self = Self::default();
        }
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(found) = actor.get(&pods(), key) else { return Ok(Next::Change) };
        let pod = &found.value;
        let assigned = !meta::text(pod, "/spec/nodeName").is_empty();
        if assigned || meta::deleting(pod) || over(pod) || meta::text(pod, "/spec/schedulerName") != NAME {
            return Ok(Next::Change);
        }
        let gated =
            pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty());
        if gated {
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            return say(actor, pod, "SchedulingGated", message).map(|_| Next::Change);
        }
        match self.choose(actor, pod) {
            Ok(node) => {
                actor.bind(pod, &node)?;
                self.waiting.remove(key);
                self.put(key, &node, pod);
                let message = format!("Successfully assigned {key} to {node}");
                record(actor, NAME, pod, Severity::Normal, "Scheduled", &message);
            }
            Err(message) => {
                self.waiting.insert(key.to_owned());
                if say(actor, pod, "Unschedulable", &message)? {
                    record(actor, NAME, pod, Severity::Warning, "FailedScheduling", &message);
                }
            }
        }
        Ok(Next::Change)
    }
}

fn labels(object: &Value) -> Option<Value> {
    object.pointer("/metadata/labels").cloned()
}

fn over(pod: &Value) -> bool {
    matches!(meta::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

impl Scheduler {
    fn put(&mut self, key: &str, node: &str, pod: &Value) {
        if self.nodes.get(key).is_none_or(|known| known != node) {
            self.lift(key);
            self.nodes.insert(key.to_owned(), node.to_owned());
        }
        self.placed.entry(node.to_owned()).or_default().add(key, Needs::of(pod));
    }

    /// Forgets where a pod was. Whether it was anywhere.
    fn lift(&mut self, key: &str) -> bool {
        let Some(node) = self.nodes.remove(key) else { return false };
        if let Some(there) = self.placed.get_mut(&node) {
            there.remove(key);
            if there.is_empty() {
                self.placed.remove(&node);
            }
        }
        true
    }

    /// The node with the most room left, of those that will do; of several, the first by name. Otherwise why there is
    /// none, in the words of the real scheduler.
    fn choose(&self, actor: &Actor, pod: &Value) -> Result<String, String> {
        let needs = Needs::of(pod);
        let all = actor.list(&nodes(), None);
        if all.is_empty() {
            return Err("no nodes available to schedule pods".to_owned());
        }
        let nobody = Load::default();
        let mut best: Option<(i128, String)> = None;
        let mut refusals: Vec<Refusal> = Vec::new();
        for node in &all {
            let name = meta::name(&node.value);
            let place = Place { node: &node.value, load: self.placed.get(name).unwrap_or(&nobody) };
            match place.judge(pod, &needs) {
                Ok(room) if best.as_ref().is_none_or(|(most, _)| room > *most) => best = Some((room, name.to_owned())),
                Ok(_) => {}
                Err(refusal) => refusals.push(refusal),
            }
        }
        best.map(|(_, name)| name).ok_or_else(|| explain(&refusals))
    }
}

/// Why none of the nodes will do.
fn explain(refusals: &[Refusal]) -> String {
    let count = refusals.len();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.iter().flat_map(|refusal| &refusal.reasons) {
        *reasons.entry(reason).or_default() += 1;
    }
    let mut preemption: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals {
        let words = if refusal.for_good {
            "Preemption is not helpful for scheduling"
        } else {
            "No preemption victims found for incoming pod"
        };
        *preemption.entry(words).or_default() += 1;
    }
    let listed = |counts: &BTreeMap<&str, usize>| {
        let mut all: Vec<String> = counts.iter().map(|(words, count)| format!("{count} {words}")).collect();
        all.sort();
        all.join(", ")
    };
    format!(
        "0/{count} nodes are available: {}. no new claims to deallocate, preemption: 0/{count} nodes are available: {}.",
        listed(&reasons),
        listed(&preemption)
    )
}

/// Says on a pod why it runs nowhere. `false`: that is said already.
fn say(actor: &Actor, pod: &Value, reason: &str, message: &str) -> Result<bool, Status> {
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
