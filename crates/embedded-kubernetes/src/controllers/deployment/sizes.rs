//! Scales the `ReplicaSets` of a Deployment.

use serde_json::Value;

use super::{Pass, SOURCE, revisions};
use crate::controllers::events::{Severity, record_event};
use crate::controllers::pods;
use crate::controllers::scaled::{self, Round};
use crate::meta;
use crate::status::Status;

/// The replica count of the Deployment when the set was last scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The highest number of pods that the Deployment could have then.
pub(super) const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// Returns the replica count of a set.
pub(super) fn size(set: &Value) -> i64 {
    meta::number(set, "/spec/replicas").unwrap_or(1)
}

/// Returns the number of available pods of a set.
pub(super) fn available(set: &Value) -> i64 {
    meta::number(set, "/status/availableReplicas").unwrap_or_default()
}

/// Returns the sort key of sets, oldest first.
pub(super) fn age(set: &Value) -> (i64, &str) {
    (pods::created(set), meta::name(set))
}

impl Pass<'_> {
    fn is_rolling(&self) -> bool {
        meta::text(self.deployment, "/spec/strategy/type") == "RollingUpdate"
    }

    fn percentage(&self, field: &str, round: Round) -> i64 {
        let value = self.deployment.pointer(&format!("/spec/strategy/rollingUpdate/{field}"));
        scaled::resolve(value, self.desired(), round)
    }

    /// Returns how many pods there may be above the replica count.
    pub(super) fn max_surge(&self) -> i64 {
        if self.is_rolling() { self.percentage("maxSurge", Round::Up) } else { 0 }
    }

    /// Returns how many of the desired pods may be unavailable. If neither surge nor unavailable pods are allowed it
    /// is 1, because otherwise the rollout could not start.
    pub(super) fn max_unavailable(&self) -> i64 {
        if !self.is_rolling() || self.desired() == 0 {
            return 0;
        }
        let missing = self.percentage("maxUnavailable", Round::Down);
        if missing == 0 && self.max_surge() == 0 { 1 } else { missing.min(self.desired()) }
    }

    /// Returns the size to which the new set of `present` pods may grow.
    pub(super) fn room_for_new(&self, present: i64) -> i64 {
        let desired = self.desired();
        if !self.is_rolling() {
            return desired;
        }
        let room = desired + self.max_surge() - self.all().map(size).sum::<i64>();
        if room <= 0 { present } else { present + room.min(desired - present) }
    }

    pub(super) fn annotate_sizes(&self, set: &mut Value) {
        let (desired, most) = (self.desired(), self.desired() + self.max_surge());
        let annotations = meta::entry(meta::metadata(set), "annotations");
        annotations.insert(DESIRED.to_owned(), desired.to_string().into());
        annotations.insert(MOST.to_owned(), most.to_string().into());
    }

    /// Scales a set, and records the Deployment's replica count on it. Returns the set as written.
    fn scale(&self, set: &Value, to: i64) -> Result<Value, Status> {
        let mut new = set.clone();
        meta::entry(meta::as_map(&mut new), "spec").insert("replicas".to_owned(), to.into());
        self.annotate_sizes(&mut new);
        if new == *set {
            return Ok(new);
        }
        let from = size(set);
        let written = self.actor.replace(&new, "")?.value.clone();
        if from != to {
            let way = if from < to { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {} from {from} to {to}", meta::name(set));
            record_event(self.actor, SOURCE, self.deployment, Severity::Normal, "ScalingReplicaSet", &message);
        }
        Ok(written)
    }

    /// Scales a set that is given by name. Returns whether its size has changed.
    pub(super) fn scale_to(&mut self, name: &str, to: i64) -> Result<bool, Status> {
        let Some(set) = self.all().find(|set| meta::name(set) == name).cloned() else { return Ok(false) };
        let scaled = self.scale(&set, to)?;
        let changed = size(&set) != size(&scaled);
        if let Some(entry) = self.old.iter_mut().chain(&mut self.new).find(|set| meta::name(set) == name) {
            *entry = scaled;
        }
        Ok(changed)
    }

    /// Returns whether the Deployment's replica count has changed since the sets were scaled.
    pub(super) fn was_resized(&self) -> bool {
        let desired = self.desired().to_string();
        self.all()
            .filter(|set| size(set) > 0)
            .any(|set| meta::annotation(set, DESIRED).is_some_and(|recorded| recorded != desired))
    }

    /// Scales the sets to a changed replica count. A single active set gets all of it; in the middle of a rollout,
    /// each active set gets a proportional part of the difference.
    pub(super) fn resize(&mut self) -> Result<(), Status> {
        let desired = self.desired();
        let active: Vec<&Value> = self.all().filter(|set| size(set) > 0).collect();
        let only = match active.as_slice() {
            [] => self.new.as_ref().or_else(|| self.old.last()),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(name) = only.map(|set| meta::name(set).to_owned()) {
            return self.scale_to(&name, desired).map(|_| ());
        }
        if active.is_empty() {
            return Ok(());
        }
        let saturated = self.new.as_ref().is_some_and(|new| {
            let recorded = meta::annotation(new, DESIRED).and_then(|text| text.parse::<i64>().ok());
            size(new) == desired && recorded == Some(desired) && available(new) == desired
        });
        if saturated {
            return self.stop_old().map(|_| ());
        }
        if !self.is_rolling() {
            return Ok(());
        }
        for (name, to) in self.proportional_sizes() {
            self.scale_to(&name, to)?;
        }
        Ok(())
    }

    /// Scales all old sets to zero. Returns whether there were any to scale.
    pub(super) fn stop_old(&mut self) -> Result<bool, Status> {
        let active = self.old.iter().filter(|set| size(set) > 0);
        let names: Vec<String> = active.map(|set| meta::name(set).to_owned()).collect();
        for name in &names {
            self.scale_to(name, 0)?;
        }
        Ok(!names.is_empty())
    }

    /// Returns the new sizes of the active sets, in proportion to their present sizes. The largest set absorbs the
    /// rounding.
    fn proportional_sizes(&self) -> Vec<(String, i64)> {
        let desired = self.desired();
        let allowed = if desired > 0 { desired + self.max_surge() } else { 0 };
        let mut sets: Vec<&Value> = self.all().filter(|set| size(set) > 0).collect();
        let difference = allowed - sets.iter().map(|set| size(set)).sum::<i64>();
        // Larger sets come first. Of equal sets, the newer one grows first and the older one shrinks first.
        sets.sort_by(|a, b| {
            let by_age = if difference > 0 { age(b).cmp(&age(a)) } else { age(a).cmp(&age(b)) };
            size(b).cmp(&size(a)).then(by_age)
        });
        let mut given = 0;
        let mut shares: Vec<(String, i64)> = sets
            .iter()
            .map(|set| {
                let fraction = self.fraction(set);
                let left = difference - given;
                let share = match difference {
                    0 => 0,
                    1.. => fraction.min(left),
                    _ => fraction.max(left),
                };
                given += share;
                (meta::name(set).to_owned(), size(set) + share)
            })
            .collect();
        if let Some(first) = shares.first_mut() {
            first.1 = (first.1 + difference - given).max(0);
        }
        shares
    }

    /// Returns the change of a set's size if all sets changed by the same factor, rounded half away from zero.
    fn fraction(&self, set: &Value) -> i64 {
        if self.desired() == 0 {
            return -size(set);
        }
        let before = meta::annotation(set, MOST).and_then(|most| most.parse::<i64>().ok()).filter(|most| *most > 0);
        let before = before.or_else(|| self.status.get("replicas").and_then(Value::as_i64)).unwrap_or_default();
        if before <= 0 {
            return 0;
        }
        let now = size(set).saturating_mul(self.desired() + self.max_surge());
        now.saturating_mul(2).saturating_add(before).div_euclid(before.saturating_mul(2)) - size(set)
    }

    /// Deletes the oldest empty sets beyond the revision history limit.
    pub(super) fn clean_up(&mut self) -> Result<(), Status> {
        let Some(limit) = meta::number(self.deployment, "/spec/revisionHistoryLimit") else { return Ok(()) };
        let mut old: Vec<&Value> = self.old.iter().filter(|set| !meta::deleting(set)).collect();
        old.sort_by_key(|set| (revisions::revision(set), age(set)));
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        for set in old.into_iter().take(surplus) {
            let observed = meta::number(set, "/status/observedGeneration").unwrap_or_default();
            let pods = meta::number(set, "/status/replicas").unwrap_or_default();
            if pods == 0 && size(set) == 0 && observed >= meta::generation(set) {
                self.actor.delete(set, "Background", None)?;
            }
        }
        Ok(())
    }
}
