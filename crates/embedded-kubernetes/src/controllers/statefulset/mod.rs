//! `StatefulSets`: pods with stable names, one for each ordinal.

mod revisions;

use serde_json::{Map, Value, json};

use super::drive::{Controller, Next};
use super::events::{Severity, record_event};
use super::{apps, core, pods};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::Event;
use revisions::Revisions;

const SOURCE: &str = "statefulset-controller";
/// The label with the revision of a pod.
const REVISION: &str = "controller-revision-hash";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The stateful set controller.
#[derive(Debug)]
pub(super) struct StatefulSets;

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![apps("statefulsets"), core("pods")]
    }

    fn affected(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if resource.plural == "pods" {
            return pods::affected_owners(actor, event, "StatefulSet", "statefulsets", "apps");
        }
        vec![event.key.clone()]
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(set) = actor.get(&apps("statefulsets"), key) else { return Ok(Next::Change) };
        let set = &set.value;
        let claims = set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
        if claims.is_some_and(|claims| !claims.is_empty()) {
            // Pods without their volumes would be worse than no pods.
            let message = format!(
                "create Pod {0}-0 in StatefulSet {0} failed error: persistent volumes are not supported here",
                meta::name(set)
            );
            if meta::number(set, "/status/observedGeneration") != Some(meta::generation(set)) {
                record_event(actor, SOURCE, set, Severity::Warning, "FailedCreate", &message);
            }
            let status = json!({"replicas": 0, "availableReplicas": 0, "observedGeneration": meta::generation(set)});
            actor.set_status(set, status)?;
            return Ok(Next::Change);
        }
        let mine = pods::claim(actor, set, pods::all(actor, meta::namespace(set)), |pod| ordinal(set, pod).is_some())?;
        let pods = mine.iter().filter(|pod| ordinal(set, &pod.value).is_some()).map(|pod| pod.value.clone()).collect();
        let revisions = Revisions::load(actor, set)?;
        let mut pass = Pass { actor, set, revisions, pods, current_replicas: None };
        let done = if meta::deleting(set) { Ok(()) } else { pass.run() };
        let next = pass.write_status()?;
        pass.revisions.delete_unused(actor, set, &pass.pods)?;
        done.map(|()| next)
    }
}

/// Returns the number at the end of a pod's name, if the rest is the name of the set.
fn ordinal(set: &Value, pod: &Value) -> Option<i64> {
    let (parent, number) = meta::name(pod).rsplit_once('-')?;
    let number = number.parse().ok().filter(|number| *number >= 0);
    number.filter(|_| parent == meta::name(set))
}

fn running_and_ready(pod: &Value) -> bool {
    pods::phase(pod) == "Running" && pods::ready(pod)
}

/// One reconciliation of a set.
struct Pass<'a> {
    actor: &'a Actor,
    set: &'a Value,
    revisions: Revisions,
    pods: Vec<Value>,
    /// The number of pods of the current revision, if this pass has deleted one of them.
    current_replicas: Option<i64>,
}

impl Pass<'_> {
    fn first(&self) -> i64 {
        meta::number(self.set, "/spec/ordinals/start").unwrap_or_default()
    }

    fn desired(&self) -> i64 {
        meta::number(self.set, "/spec/replicas").unwrap_or(1)
    }

    fn pod(&self, number: i64) -> Option<&Value> {
        self.pods.iter().find(|pod| ordinal(self.set, pod) == Some(number))
    }

    fn available(&self, pod: &Value) -> bool {
        let minimum = meta::number(self.set, "/spec/minReadySeconds").unwrap_or_default();
        pods::phase(pod) == "Running" && pods::available_in(pod, minimum, self.actor.clock().unix()) == Some(0)
    }

    /// Creates missing pods, then deletes surplus pods, then pods of an old revision. Unless the set is parallel, the
    /// pass handles one pod at a time, in order.
    fn run(&mut self) -> Result<(), Status> {
        let in_order = meta::text(self.set, "/spec/podManagementPolicy") != "Parallel";
        let range = self.first()..self.first() + self.desired();
        for number in range.clone() {
            if self.ensure_pod(number)? && in_order {
                return Ok(());
            }
        }
        let mut surplus: Vec<i64> = self.pods.iter().filter_map(|pod| ordinal(self.set, pod)).collect();
        surplus.retain(|number| !range.contains(number));
        surplus.sort_by_key(|number| std::cmp::Reverse(*number));
        let unhealthy = self.first_unavailable(range.clone(), &surplus);
        for number in surplus {
            let Some(pod) = self.pod(number).cloned() else { continue };
            if meta::deleting(&pod) {
                if in_order {
                    return Ok(());
                }
                continue;
            }
            if in_order && !self.available(&pod) && unhealthy != Some(number) {
                return Ok(());
            }
            self.delete_pod(&pod)?;
            if in_order {
                return Ok(());
            }
        }
        self.update(range)
    }

    /// Returns the lowest number whose pod is missing or not available.
    fn first_unavailable(&self, range: std::ops::Range<i64>, surplus: &[i64]) -> Option<i64> {
        let healthy = |number: &i64| self.pod(*number).is_some_and(|pod| self.available(pod) && !meta::deleting(pod));
        range.chain(surplus.iter().rev().copied()).find(|number| !healthy(number))
    }

    /// Ensures that there is a pod of this number. Returns whether the next pod must wait for it.
    fn ensure_pod(&mut self, number: i64) -> Result<bool, Status> {
        let Some(pod) = self.pod(number).cloned() else {
            self.create(number)?;
            return Ok(true);
        };
        if pods::has_ended(&pod) {
            if !meta::deleting(&pod) {
                self.delete_pod(&pod)?;
            }
            return Ok(true);
        }
        if meta::deleting(&pod) || !self.available(&pod) {
            return Ok(true);
        }
        Ok(false)
    }

    fn create(&mut self, number: i64) -> Result<(), Status> {
        let rolls = meta::text(self.set, "/spec/updateStrategy/type") == "RollingUpdate";
        let partition = meta::number(self.set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or_default();
        let old = rolls && number < self.first() + partition;
        let (revision, template) = self.revisions.template(self.set, old);
        let mut pod = pods::from_template(&template, self.set);
        let name = format!("{}-{number}", meta::name(self.set));
        meta::set(&mut pod, "name", name.as_str());
        let labels = meta::entry(meta::metadata(&mut pod), "labels");
        labels.insert(REVISION.to_owned(), revision.into());
        labels.insert(POD_NAME.to_owned(), name.as_str().into());
        labels.insert(POD_INDEX.to_owned(), number.to_string().into());
        let spec = meta::entry(meta::as_map(&mut pod), "spec");
        spec.insert("hostname".to_owned(), name.as_str().into());
        if let Some(service) = self.set.pointer("/spec/serviceName") {
            spec.insert("subdomain".to_owned(), service.clone());
        }
        let set_name = meta::name(self.set);
        match self.actor.create(pod) {
            Ok(pod) => {
                let message = format!("create Pod {name} in StatefulSet {set_name} successful");
                record_event(self.actor, SOURCE, self.set, Severity::Normal, "SuccessfulCreate", &message);
                self.pods.push(pod.value.clone());
                Ok(())
            }
            Err(status) if pods::namespace_is_terminating(&status) => Ok(()),
            Err(status) => {
                let message = format!("create Pod {name} in StatefulSet {set_name} failed error: {status}");
                record_event(self.actor, SOURCE, self.set, Severity::Warning, "FailedCreate", &message);
                Err(status)
            }
        }
    }

    fn delete_pod(&self, pod: &Value) -> Result<(), Status> {
        let (name, set_name) = (meta::name(pod), meta::name(self.set));
        self.actor.delete(pod, "Background", None)?;
        let message = format!("delete Pod {name} in StatefulSet {set_name} successful");
        record_event(self.actor, SOURCE, self.set, Severity::Normal, "SuccessfulDelete", &message);
        Ok(())
    }

    /// Deletes the highest pod of an old revision, if all above it are of the new one and available.
    fn update(&mut self, range: std::ops::Range<i64>) -> Result<(), Status> {
        if meta::text(self.set, "/spec/updateStrategy/type") == "OnDelete" {
            return Ok(());
        }
        let partition = meta::number(self.set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or_default();
        let from = range.start.saturating_add(partition);
        for number in range.rev().take_while(|number| *number >= from) {
            let Some(pod) = self.pod(number).cloned() else { return Ok(()) };
            if meta::label(&pod, REVISION) != Some(self.revisions.update_name()) && !meta::deleting(&pod) {
                self.delete_pod(&pod)?;
                let current = self.count_of_revision(self.revisions.current_name());
                self.current_replicas = Some((current - 1).max(0));
                return Ok(());
            }
            if !self.available(&pod) || meta::deleting(&pod) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn count_of_revision(&self, revision: &str) -> i64 {
        let matches = |pod: &&Value| !meta::deleting(pod) && meta::label(pod, REVISION) == Some(revision);
        pods::count(self.pods.iter().filter(matches))
    }

    fn write_status(&self) -> Result<Next, Status> {
        let mut status: Map<String, Value> =
            self.set.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        let ready: Vec<&Value> = self.pods.iter().filter(|pod| running_and_ready(pod)).collect();
        let available = pods::count(ready.iter().filter(|pod| self.available(pod)));
        let (replicas, ready) = (pods::count(self.pods.iter()), pods::count(ready.iter()));
        let updated = self.count_of_revision(self.revisions.update_name());
        let mut current =
            self.current_replicas.unwrap_or_else(|| self.count_of_revision(self.revisions.current_name()));
        let mut revision = self.revisions.current_name();
        let rolls = meta::text(self.set, "/spec/updateStrategy/type") == "RollingUpdate";
        let desired = self.desired();
        if rolls && updated == desired && ready == desired && replicas == desired {
            (current, revision) = (updated, self.revisions.update_name());
        }
        status.insert("replicas".to_owned(), replicas.into());
        status.insert("availableReplicas".to_owned(), available.into());
        status.insert("currentRevision".to_owned(), revision.into());
        status.insert("updateRevision".to_owned(), self.revisions.update_name().into());
        status.insert("collisionCount".to_owned(), self.revisions.collisions().into());
        let counts = [
            ("observedGeneration", meta::generation(self.set)),
            ("readyReplicas", ready),
            ("currentReplicas", current),
            ("updatedReplicas", updated),
        ];
        pods::set_counts(&mut status, &counts);
        pods::ignore_gone(self.actor.set_status(self.set, Value::Object(status)))?;
        let minimum = meta::number(self.set, "/spec/minReadySeconds").unwrap_or_default();
        let now = self.actor.clock().unix();
        let waits = self.pods.iter().filter_map(|pod| pods::available_in(pod, minimum, now));
        Ok(waits.filter(|wait| *wait > 0).min().map_or(Next::Change, Next::After))
    }
}
