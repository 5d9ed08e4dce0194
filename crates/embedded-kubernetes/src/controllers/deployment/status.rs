//! Writes the status of a Deployment: the counts, the availability, and the progress.

use serde_json::{Map, Value, json};

use super::Pass;
use super::sizes::{available, size};
use crate::controllers::condition::{self, Condition};
use crate::controllers::drive::Next;
use crate::controllers::pods;
use crate::meta;

const COMPLETE: &str = "NewReplicaSetAvailable";
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

fn number(status: &Map<String, Value>, key: &str) -> i64 {
    status.get(key).and_then(Value::as_i64).unwrap_or_default()
}

impl Pass<'_> {
    /// Returns the progress deadline, seconds. The largest number means that there is none.
    pub(super) fn deadline(&self) -> Option<i64> {
        let seconds = meta::number(self.deployment, "/spec/progressDeadlineSeconds")?;
        (seconds != i64::from(i32::MAX)).then_some(seconds)
    }

    fn sum(&self, key: &str) -> i64 {
        self.all().filter_map(|set| meta::number(set, &format!("/status/{key}"))).sum()
    }

    /// Updates the counts and the condition Available.
    pub(super) fn count(&mut self) {
        let total: i64 = self.all().map(size).sum();
        let available_pods: i64 = self.all().map(available).sum();
        let updated = self.new.as_ref().and_then(|new| meta::number(new, "/status/replicas")).unwrap_or_default();
        let counts = [
            ("observedGeneration", meta::generation(self.deployment)),
            ("replicas", self.sum("replicas")),
            ("updatedReplicas", updated),
            ("readyReplicas", self.sum("readyReplicas")),
            ("availableReplicas", available_pods),
            ("unavailableReplicas", (total - available_pods).max(0)),
        ];
        pods::set_counts(&mut self.status, &counts);
        let (status, reason, message) = if available_pods >= self.desired() - self.max_unavailable() {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        let old = condition::find(&self.status, "Available").map(|old| meta::text(old, "/status"));
        if old != Some(status) {
            self.set_condition(Condition { kind: "Available", status, reason, message });
        }
    }

    /// Returns whether every pod is of the new template and available.
    pub(super) fn complete(&self) -> bool {
        let desired = self.desired();
        let updated = self.new.as_ref().and_then(|new| meta::number(new, "/status/replicas")).unwrap_or_default();
        updated == desired && self.sum("replicas") == desired && self.all().map(available).sum::<i64>() == desired
    }

    /// Records whether the rollout is complete, is progressing, or has exceeded its deadline.
    pub(super) fn record_progress(&mut self) {
        let before = self.deployment.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        self.count();
        self.record_failures();
        let Some(deadline) = self.deadline() else {
            condition::remove(&mut self.status, "Progressing");
            return;
        };
        let now = &self.status;
        let text = |pointer: &str| {
            condition::find(&self.status, "Progressing")
                .map_or("", |condition| meta::text(condition, pointer))
                .to_owned()
        };
        let reason = text("/reason");
        let updated = number(now, "updatedReplicas");
        if number(now, "replicas") == updated && reason == COMPLETE {
            return;
        }
        let subject = self.new.as_ref().map_or_else(
            || format!("Deployment {:?}", meta::name(self.deployment)),
            |new| format!("ReplicaSet {:?}", meta::name(new)),
        );
        let old = |status: &Map<String, Value>| number(status, "replicas") - number(status, "updatedReplicas");
        let more = |key: &str| number(now, key) > number(&before, key);
        let moved =
            more("updatedReplicas") || old(now) < old(&before) || more("readyReplicas") || more("availableReplicas");
        if self.complete() {
            self.set_progressing("True", COMPLETE, &format!("{subject} has successfully progressed."));
        } else if moved {
            // Set again after each step, because the deadline counts from the last one.
            let message = format!("{subject} is progressing.");
            self.set_condition(Condition {
                kind: "Progressing",
                status: "True",
                reason: "ReplicaSetUpdated",
                message: &message,
            });
        } else if reason != COMPLETE && self.since_progress().is_some_and(|seconds| seconds > deadline) {
            self.set_progressing("False", DEADLINE_EXCEEDED, &format!("{subject} has timed out progressing."));
        }
    }

    /// Returns the seconds since the last progress.
    fn since_progress(&self) -> Option<i64> {
        let condition = condition::find(&self.status, "Progressing")?;
        let last = pods::seconds(meta::text(condition, "/lastUpdateTime"))?;
        Some(self.actor.clock().unix() - last)
    }

    /// Returns when to check the progress deadline.
    pub(super) fn next_check(&self) -> Next {
        let reason = condition::find(&self.status, "Progressing").map(|condition| meta::text(condition, "/reason"));
        match (self.deadline(), reason) {
            (Some(deadline), Some(reason)) if reason != DEADLINE_EXCEEDED && !self.paused() && !self.complete() => {
                let since = self.since_progress().unwrap_or_default();
                Next::After((deadline - since).max(0) + 1)
            }
            _ => Next::Change,
        }
    }

    /// Copies the condition `ReplicaFailure` from a set to the Deployment. The new set takes precedence.
    fn record_failures(&mut self) {
        let failure = self.new.iter().chain(&self.old).find_map(|set| {
            let conditions = set.pointer("/status/conditions")?.as_array()?;
            conditions.iter().find(|condition| meta::text(condition, "/type") == "ReplicaFailure").cloned()
        });
        condition::remove(&mut self.status, "ReplicaFailure");
        let Some(mut failure) = failure else { return };
        let since = meta::text(&failure, "/lastTransitionTime").to_owned();
        meta::as_map(&mut failure).insert("lastUpdateTime".to_owned(), since.into());
        if let Some(list) = self.status.entry("conditions").or_insert_with(|| json!([])).as_array_mut() {
            list.push(failure);
        }
    }
}
