//! From the old template to the new one: rolling, or all at once.

use serde_json::Value;

use super::Work;
use super::sizes::{available, size};
use crate::controllers::{condition, pods};
use crate::meta;
use crate::status::Status;

impl Work<'_> {
    /// One step of a rolling update.
    pub(super) fn roll(&mut self) -> Result<(), Status> {
        self.adopt_new(true)?;
        let Some(new) = &self.new else { return Ok(()) };
        let (name, present, wished) = (meta::name(new).to_owned(), size(new), self.wished());
        let to = if present > wished { wished } else { self.room_for_new(present) };
        if (to != present && self.scale_to(&name, to)?) || self.shrink_old()? {
            return Ok(());
        }
        self.clean_up()
    }

    /// Scales old sets down as far as enough pods stay available. Whether it did.
    fn shrink_old(&mut self) -> Result<bool, Status> {
        let old: i64 = self.old.iter().map(size).sum();
        if old == 0 {
            return Ok(false);
        }
        let all: i64 = self.all().map(size).sum();
        let least = self.wished() - self.max_unavailable();
        let missing = self.new.as_ref().map_or(0, |new| size(new) - available(new));
        let most = all - least - missing;
        if most <= 0 {
            return Ok(false);
        }
        // First those that nobody would miss.
        let unhealthy = self.shrink(most, |set| size(set) - available(set))?;
        let spare = self.all().map(available).sum::<i64>() - least;
        let healthy = self.shrink(spare, size)?;
        Ok(unhealthy + healthy > 0)
    }

    /// Scales old sets down, the oldest first: by up to `most` in all, each by up to what `by` says.
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

    /// Ends all pods of the old templates, waits until they are gone, and only then starts the new ones.
    pub(super) fn recreate(&mut self) -> Result<(), Status> {
        self.adopt_new(false)?;
        if self.end_old()? || self.old_pods_are_there() {
            return Ok(());
        }
        if self.new.is_none() {
            self.adopt_new(true)?;
        }
        if let Some(name) = self.new.as_ref().map(|new| meta::name(new).to_owned()) {
            self.scale_to(&name, self.wished())?;
        }
        if self.complete() {
            self.clean_up()?;
        }
        Ok(())
    }

    /// Whether a pod of an old set has not ended, even one that is being deleted.
    fn old_pods_are_there(&self) -> bool {
        if self.old.iter().any(|set| meta::number(set, "/status/replicas").unwrap_or_default() > 0) {
            return true;
        }
        let all = pods::all(self.actor, meta::namespace(self.deployment));
        let old = |pod: &Value| self.old.iter().any(|set| meta::controlled_by(pod, meta::uid(set)));
        all.iter().any(|pod| old(&pod.value) && !pods::over(&pod.value))
    }

    /// Says that somebody has paused the rollout, or has let it go on: the time in between is no lack of progress.
    pub(super) fn note_pause(&mut self) {
        let reason = condition::find(&self.status, "Progressing")
            .map(|condition| meta::text(condition, "/reason").to_owned())
            .unwrap_or_default();
        if reason == "ProgressDeadlineExceeded" {
            return;
        }
        match (self.paused(), reason == "DeploymentPaused") {
            (true, false) => self.progressing("Unknown", "DeploymentPaused", "Deployment is paused"),
            (false, true) => self.progressing("Unknown", "DeploymentResumed", "Deployment is resumed"),
            _ => {}
        }
    }
}
