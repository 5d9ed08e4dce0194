//! Counts the pods of a job that have succeeded and failed.
//!
//! Each pod is counted once: a finalizer keeps it until its uid is in the status, and the uid stays in the status
//! until the finalizer is gone.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Pass;
use crate::controllers::pods;
use crate::meta;
use crate::status::Status;

pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const OUTCOMES: [&str; 2] = ["succeeded", "failed"];

pub(super) fn failed(pod: &Value) -> bool {
    pods::phase(pod) == "Failed" || (meta::deleting(pod) && !pods::has_ended(pod))
}

pub(super) fn tracked(pod: &Value) -> bool {
    meta::finalizers(pod).iter().any(|finalizer| finalizer == TRACKING)
}

pub(super) fn untracked(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let rest = meta::finalizers(&pod).into_iter().filter(|finalizer| finalizer != TRACKING).collect();
    meta::set_finalizers(&mut pod, rest);
    pod
}

fn list(status: &Map<String, Value>, which: &str) -> Vec<String> {
    status.get("uncountedTerminatedPods").map(|lists| meta::texts(lists, &format!("/{which}"))).unwrap_or_default()
}

fn counted(status: &Map<String, Value>, which: &str) -> i64 {
    status.get(which).and_then(Value::as_i64).unwrap_or_default()
}

impl Pass<'_> {
    /// Returns how many pods have succeeded or failed, including those whose uid is in the status but that are not
    /// counted yet.
    pub(super) fn total(&self, which: &str) -> i64 {
        counted(&self.status, which) + pods::count(list(&self.status, which).iter())
    }

    /// Adds the uids of pods that have ended and are not counted yet to the status.
    pub(super) fn record_ended(&mut self) {
        for which in OUTCOMES {
            let known: BTreeSet<String> = OUTCOMES.iter().flat_map(|which| list(&self.status, which)).collect();
            let ended = self.pods.iter().filter(|pod| match which {
                "succeeded" => pods::phase(pod) == "Succeeded",
                _ => failed(pod),
            });
            let fresh = ended.filter(|pod| tracked(pod)).map(meta::uid).filter(|uid| !known.contains(*uid));
            let mut uids = list(&self.status, which);
            uids.extend(fresh.map(str::to_owned));
            self.set_list(which, uids);
        }
    }

    fn set_list(&mut self, which: &str, uids: Vec<String>) {
        let lists = meta::entry(&mut self.status, "uncountedTerminatedPods");
        if uids.is_empty() {
            lists.remove(which);
        } else {
            lists.insert(which.to_owned(), uids.into());
        }
    }

    /// Removes the finalizer from the pods whose uid is in the status, and counts those that no longer have it. If
    /// `all` is set, the job ends, and all its pods are released.
    pub(super) fn release_counted(&mut self, all: bool) -> Result<(), Status> {
        let noted: BTreeSet<String> = OUTCOMES.iter().flat_map(|which| list(&self.status, which)).collect();
        for pod in &mut self.pods {
            let may_release = all || meta::deleting(self.job) || noted.contains(meta::uid(pod));
            if tracked(pod) && may_release && (pods::has_ended(pod) || meta::deleting(pod)) {
                pods::ignore_gone(self.actor.replace(&untracked(pod), ""))?;
                *pod = untracked(pod);
            }
        }
        let held: BTreeSet<&str> = self.pods.iter().filter(|pod| tracked(pod)).map(meta::uid).collect();
        let split = |uids: Vec<String>| uids.into_iter().partition::<Vec<_>, _>(|uid| held.contains(uid.as_str()));
        let parts = OUTCOMES.map(|which| (which, split(list(&self.status, which))));
        for (which, (held, free)) in parts {
            let count = counted(&self.status, which) + pods::count(free.iter());
            pods::set_counts(&mut self.status, &[(which, count)]);
            self.set_list(which, held);
        }
        Ok(())
    }

    /// Returns whether the job must wait for its remaining pods before it is finished.
    pub(super) fn is_waiting(&self) -> bool {
        let uncounted = OUTCOMES.iter().any(|which| !list(&self.status, which).is_empty());
        uncounted || self.pods.iter().any(|pod| !pods::has_ended(pod))
    }
}
