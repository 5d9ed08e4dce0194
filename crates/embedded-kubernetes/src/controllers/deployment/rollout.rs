//! Moves pods from the old template to the new one, either in a rolling update or by recreating all at once.

use serde_json::Value;

use super::Pass;
use super::sizes::{available, size};
use crate::controllers::{condition, pods};
use crate::meta;
use crate::status::Status;

impl Pass<'_> {
    /// Makes one step of a rolling update.
    pub(super) fn roll(&mut self) -> Result<(), Status> {
        self.adopt_new(true)?;
        let Some(new) = &self.new else { return Ok(()) };
        let (name, present, desired) = (meta::name(new).to_owned(), size(new), self.desired());
        let to = if present > desired { desired } else { self.room_for_new(present) };
        if (to != present && self.scale_to(&name, to)?) || self.shrink_old()? {
            return Ok(());
        }
        self.clean_up()
    }

    /// Scales old sets down as far as enough pods stay available. Returns whether it did.
    fn shrink_old(&mut self) -> Result<bool, Status> {
        let old: i64 = self.old.iter().map(size).sum();
        if old == 0 {
            return Ok(false);
        }
        let all: i64 = self.all().map(size).sum();
        let least = self.desired() - self.max_unavailable();
        let missing = self.new.as_ref().map_or(0, |new| size(new) - available(new));
        let most = all - least - missing;
        if most <= 0 {
            return Ok(false);
        }
        // Unavailable pods are removed first.
        let unhealthy = self.shrink(most, |set| size(set) - available(set))?;
        let spare = self.all().map(available).sum::<i64>() - least;
        let healthy = self.shrink(spare, size)?;
        Ok(unhealthy + healthy > 0)
    }

    /// Scales old sets down, the oldest first: by at most `most` in total, and each set by at most the result of `by`.
    fn shrink(&mut self, most: i64, by: impl Fn(&Value) -> i64) -> Result<i64, Status> {
        let mut done = 0;
        let sets: Vec<(String, i64, i64)> =
            self.old.iter().map(|set| (meta::name(set).to_owned(), size(set), by(set))).collect();
        for (name, size, by) in sets {
            let less = by.min(most - done).min(size);
            if less > 0 {
                self.scale_to(&name, size - less)?;
                done += less;
            }
        }
        Ok(done)
    }

    /// Ends all pods of the old templates, waits until they are gone, and only then starts new ones.
    pub(super) fn recreate(&mut self) -> Result<(), Status> {
        self.adopt_new(false)?;
        if self.stop_old()? || self.has_old_pods() {
            return Ok(());
        }
        if self.new.is_none() {
            self.adopt_new(true)?;
        }
        if let Some(name) = self.new.as_ref().map(|new| meta::name(new).to_owned()) {
            self.scale_to(&name, self.desired())?;
        }
        if self.complete() {
            self.clean_up()?;
        }
        Ok(())
    }

    /// Returns whether a pod of an old set has not ended yet, including pods that are being deleted.
    fn has_old_pods(&self) -> bool {
        if self.old.iter().any(|set| meta::number(set, "/status/replicas").unwrap_or_default() > 0) {
            return true;
        }
        let all = pods::all(self.actor, meta::namespace(self.deployment));
        let old = |pod: &Value| self.old.iter().any(|set| meta::controlled_by(pod, meta::uid(set)));
        all.iter().any(|pod| old(&pod.value) && !pods::has_ended(&pod.value))
    }

    /// Records that the rollout was paused or resumed, so that the pause does not count towards the progress deadline.
    pub(super) fn record_pause(&mut self) {
        let reason = condition::find(&self.status, "Progressing")
            .map(|condition| meta::text(condition, "/reason").to_owned())
            .unwrap_or_default();
        if reason == "ProgressDeadlineExceeded" {
            return;
        }
        match (self.paused(), reason == "DeploymentPaused") {
            (true, false) => self.set_progressing("Unknown", "DeploymentPaused", "Deployment is paused"),
            (false, true) => self.set_progressing("Unknown", "DeploymentResumed", "Deployment is resumed"),
            _ => {}
        }
    }
}
