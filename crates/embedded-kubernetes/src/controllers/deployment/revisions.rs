//! Finds or creates the `ReplicaSet` of the current template, and maintains the revision numbers of the templates.

use serde_json::{Map, Value, json};

use super::{Pass, SOURCE};
use crate::controllers::condition::{self, Condition};
use crate::controllers::events::{Severity, record_event};
use crate::controllers::pods;
use crate::meta;
use crate::random::{hash, letters};
use crate::status::Status;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The label that distinguishes the pods of different templates.
const HASH: &str = "pod-template-hash";
/// The longest list of earlier revisions, characters.
const LONGEST_HISTORY: usize = 2000;
/// Annotations of a Deployment that its sets do not inherit.
const NOT_INHERITED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    super::sizes::DESIRED,
    super::sizes::MOST,
    REVISION,
    HISTORY,
];

/// Returns a template without the label that is derived from it.
pub(super) fn without_hash(template: Option<&Value>) -> Value {
    let mut template = template.cloned().unwrap_or_default();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    template
}

/// Returns the revision of a set.
pub(super) fn revision(set: &Value) -> i64 {
    meta::annotation(set, REVISION).and_then(|revision| revision.parse().ok()).unwrap_or_default()
}

impl Pass<'_> {
    /// Updates the set of the current template. If there is none and `create` is set, creates it.
    pub(super) fn adopt_new(&mut self, create: bool) -> Result<(), Status> {
        let next = self.old.iter().map(revision).max().unwrap_or_default().saturating_add(1);
        match self.new.take() {
            Some(set) => {
                let mut changed = set.clone();
                self.annotate(&mut changed, next);
                let minimum = self.deployment.pointer("/spec/minReadySeconds");
                if changed.pointer("/spec/minReadySeconds") != minimum {
                    self.copy_minimum(&mut changed);
                }
                let set = if changed == set { set } else { self.actor.replace(&changed, "")?.value.clone() };
                self.revision = Some(revision(&set).to_string());
                if condition::find(&self.status, "Progressing").is_none() {
                    self.set_progressing(
                        "True",
                        "FoundNewReplicaSet",
                        &format!("Found new replica set {:?}", meta::name(&set)),
                    );
                }
                self.new = Some(set);
                Ok(())
            }
            None if create => self.create(next),
            None => Ok(()),
        }
    }

    fn create(&mut self, revision: i64) -> Result<(), Status> {
        let spec = |key: &str| self.deployment.pointer(&format!("/spec/{key}")).cloned().unwrap_or_default();
        let mut template = spec("template");
        let collisions = self.status.get("collisionCount").cloned().unwrap_or_default();
        let number = hash(&json!([template, collisions]));
        let hash = letters(number, 10);
        let labels = meta::entry(meta::metadata(&mut template), "labels");
        labels.insert(HASH.to_owned(), hash.as_str().into());
        let labels = labels.clone();
        let mut selector = spec("selector");
        meta::entry(meta::as_map(&mut selector), "matchLabels").insert(HASH.to_owned(), hash.as_str().into());
        let replicas = self.room_for_new(0);
        let mut set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{hash}", meta::name(self.deployment)),
                "namespace": meta::namespace(self.deployment),
                "labels": labels, "ownerReferences": [pods::reference(self.deployment)],
            },
            "spec": {"replicas": replicas, "selector": selector, "template": template},
        });
        self.copy_minimum(&mut set);
        self.annotate(&mut set, revision);
        self.annotate_sizes(&mut set);
        let name = meta::name(&set).to_owned();
        match self.actor.create(set) {
            Ok(set) => {
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    record_event(self.actor, SOURCE, self.deployment, Severity::Normal, "ScalingReplicaSet", &message);
                }
                self.revision = Some(revision.to_string());
                self.set_progressing("True", "NewReplicaSetCreated", &format!("Created new replica set {name:?}"));
                self.new = Some(set.value.clone());
                Ok(())
            }
            Err(status) if status.code == 409 => {
                // Another template has the same hash, or another object has the name. The collision count changes the
                // next hash.
                let count = collisions.as_i64().unwrap_or_default().saturating_add(1);
                self.status.insert("collisionCount".to_owned(), count.into());
                Err(status)
            }
            Err(status) if pods::namespace_is_terminating(&status) => Err(status),
            Err(status) => {
                let message = format!("Failed to create new replica set {name:?}: {status}");
                self.set_progressing("False", "ReplicaSetCreateError", &message);
                record_event(self.actor, SOURCE, self.deployment, Severity::Warning, "ReplicaSetCreateError", &message);
                Err(status)
            }
        }
    }

    fn copy_minimum(&self, set: &mut Value) {
        let spec = meta::as_map(set).entry("spec").or_insert_with(|| json!({}));
        meta::copy(self.deployment.get("spec"), spec, "minReadySeconds");
    }

    /// Sets the condition Progressing, if the Deployment has a progress deadline.
    pub(super) fn set_progressing(&mut self, status: &str, reason: &str, message: &str) {
        if self.deadline().is_none() {
            return;
        }
        let old = condition::find(&self.status, "Progressing");
        let same = |old: &Value| meta::text(old, "/status") == status && meta::text(old, "/reason") == reason;
        if !old.is_some_and(same) {
            self.set_condition(Condition { kind: "Progressing", status, reason, message });
        }
    }

    pub(super) fn set_condition(&mut self, condition: Condition<'_>) {
        let now = self.actor.clock().now();
        condition::set(&mut self.status, condition, &now, json!({"lastUpdateTime": now}));
    }

    /// Writes the annotations of the Deployment and the revision to a set. Earlier revisions of the set are kept in
    /// its history.
    fn annotate(&self, set: &mut Value, new_revision: i64) {
        let inherited: Map<String, Value> = self
            .deployment
            .pointer("/metadata/annotations")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(key, _)| !NOT_INHERITED.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let before = meta::annotation(set, REVISION).map(str::to_owned);
        let history = meta::annotation(set, HISTORY).unwrap_or_default().to_owned();
        let grows = revision(set) < new_revision;
        if inherited.is_empty() && !grows {
            return;
        }
        let annotations = meta::entry(meta::metadata(set), "annotations");
        annotations.extend(inherited);
        if !grows {
            return;
        }
        annotations.insert(REVISION.to_owned(), new_revision.to_string().into());
        if let Some(before) = before {
            let mut revisions: Vec<&str> = history.split(',').filter(|revision| !revision.is_empty()).collect();
            revisions.push(&before);
            while revisions.iter().map(|revision| revision.len() + 1).sum::<usize>() > LONGEST_HISTORY + 1 {
                revisions.remove(0);
            }
            annotations.insert(HISTORY.to_owned(), revisions.join(",").into());
        }
    }
}
