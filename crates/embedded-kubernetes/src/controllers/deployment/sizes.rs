//! How many pods each `ReplicaSet` of a Deployment has, and changing that.

use serde_json::Value;

use super::{SOURCE, Work, revisions};
use crate::controllers::events::{Severity, record};
use crate::controllers::pods;
use crate::controllers::scaled::{self, Round};
use crate::meta;
use crate::status::Status;

/// How many pods the Deployment had been asked for when the set was last sized.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How many it could have had at most.
pub(super) const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// How many pods a set is asked for.
pub(super) fn size(set: &Value) -> i64 {
    meta::number(set, "/spec/replicas").unwrap_or(1)
}

/// How many pods of a set are available.
pub(super) fn available(set: &Value) -> i64 {
    meta::number(set, "/status/availableReplicas").unwrap_or_default()
}

/// By which sets are put in order: the oldest first.
pub(super) fn age(set: &Value) -> (i64, &str) {
    (pods::created(set), meta::name(set))
}

impl Work<'_> {
    fn rolls(&self) -> bool {
        meta::text(self.deployment, "/spec/strategy/type") == "RollingUpdate"
    }

    fn share(&self, of: &str, round: Round) -> i64 {
        let value = self.deployment.pointer(&format!("/spec/strategy/rollingUpdate/{of}"));
        scaled::of(value, self.wished(), round)
    }

    /// How many pods there may be above the wished number.
    pub(super) fn max_surge(&self) -> i64 {
        if self.rolls() { self.share("maxSurge", Round::Up) } else { 0 }
    }

    /// How many of the wished pods may be missing. Where there is no surge either, one: or nothing would ever move.
    pub(super) fn max_unavailable(&self) -> i64 {
        if !self.rolls() || self.wished() == 0 {
            return 0;
        }
        let missing = self.share("maxUnavailable", Round::Down);
        if missing == 0 && self.max_surge() == 0 { 1 } else { missing.min(self.wished()) }
    }

    /// What the new set of `present` pods may grow to.
    pub(super) fn room_for_new(&self, present: i64) -> i64 {
        let wished = self.wished();
        if !self.rolls() {
            return wished;
        }
        let room = wished + self.max_surge() - self.all().map(size).sum::<i64>();
        if room <= 0 { present } else { present + room.min(wished - present) }
    }

    pub(super) fn annotate_sizes(&self, set: &mut Value) {
        let (desired, most) = (self.wished(), self.wished() + self.max_surge());
        let annotations = meta::entry(meta::metadata(set), "annotations");
        annotations.insert(DESIRED.to_owned(), desired.to_string().into());
        annotations.insert(MOST.to_owned(), most.to_string().into());
    }

    /// Sizes a set and notes for how many pods that was done. Gives the set as it is then.
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
            record(self.actor, SOURCE, self.deployment, Severity::Normal, "ScalingReplicaSet", &message);
        }
        Ok(written)
    }

    /// Sizes one of the sets, by name. Whether its size has changed.
    pub(super) fn scale_to(&mut self, name: &str, to: i64) -> Result<bool, Status> {
        let Some(set) = self.all().find(|set| meta::name(set) == name).cloned() else { return Ok(false) };
        let scaled = self.scale(&set, to)?;
        let changed = size(&set) != size(&scaled);
        if let Some(place) = self.old.iter_mut().chain(&mut self.new).find(|set| meta::name(set) == name) {
            *place = scaled;
        }
        Ok(changed)
    }

    /// Whether somebody has changed the wished number since the sets were sized.
    pub(super) fn was_resized(&self) -> bool {
        let wished = self.wished().to_string();
        self.all()
            .filter(|set| size(set) > 0)
            .any(|set| meta::annotation(set, DESIRED).is_some_and(|desired| desired != wished))
    }

    /// Brings the sets to the wished number: one that is alone gets all of it, several in the middle of a rollout get
    /// shares of the difference.
    pub(super) fn resize(&mut self) -> Result<(), Status> {
        let wished = self.wished();
        let active: Vec<&Value> = self.all().filter(|set| size(set) > 0).collect();
        let only = match active.as_slice() {
            [] => self.new.as_ref().or_else(|| self.old.last()),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(name) = only.map(|set| meta::name(set).to_owned()) {
            return self.scale_to(&name, wished).map(|_| ());
        }
        if active.is_empty() {
            return Ok(());
        }
        let saturated = self.new.as_ref().is_some_and(|new| {
            let desired = meta::annotation(new, DESIRED).and_then(|desired| desired.parse::<i64>().ok());
            size(new) == wished && desired == Some(wished) && available(new) == wished
        });
        if saturated {
            return self.end_old().map(|_| ());
        }
        if !self.rolls() {
            return Ok(());
        }
        for (name, to) in self.shares() {
            self.scale_to(&name, to)?;
        }
        Ok(())
    }

    /// Asks for no pods of old templates any more. Whether there were any.
    pub(super) fn end_old(&mut self) -> Result<bool, Status> {
        let active = self.old.iter().filter(|set| size(set) > 0);
        let names: Vec<String> = active.map(|set| meta::name(set).to_owned()).collect();
        for name in &names {
            self.scale_to(name, 0)?;
        }
        Ok(!names.is_empty())
    }

    /// What each of several sets is to have, in proportion to what it has; the largest takes what rounding leaves.
    fn shares(&self) -> Vec<(String, i64)> {
        let wished = self.wished();
        let allowed = if wished > 0 { wished + self.max_surge() } else { 0 };
        let mut sets: Vec<&Value> = self.all().filter(|set| size(set) > 0).collect();
        let difference = allowed - sets.iter().map(|set| size(set)).sum::<i64>();
        // The larger first; of the same size, the newer one grows first and the older one shrinks first.
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

    /// By how much a set would change if all changed by the same factor, rounded half away from zero.
    fn fraction(&self, set: &Value) -> i64 {
        if self.wished() == 0 {
            return -size(set);
        }
        let before = meta::annotation(set, MOST).and_then(|most| most.parse::<i64>().ok()).filter(|most| *most > 0);
        let before = before.or_else(|| self.status.get("replicas").and_then(Value::as_i64)).unwrap_or_default();
        if before <= 0 {
            return 0;
        }
        let now = size(set).saturating_mul(self.wished() + self.max_surge());
        now.saturating_mul(2).saturating_add(before).div_euclid(before.saturating_mul(2)) - size(set)
    }

    /// Deletes the oldest of the sets that have no pods, but for as many as are to be remembered.
    pub(super) fn clean_up(&mut self) -> Result<(), Status> {
        let Some(limit) = meta::number(self.deployment, "/spec/revisionHistoryLimit") else { return Ok(()) };
        let mut old: Vec<&Value> = self.old.iter().filter(|set| !meta::deleting(set)).collect();
        old.sort_by_key(|set| (revisions::of(set), age(set)));
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
