//! How many pods of a job have succeeded and failed.
//!
//! A pod is counted once: it is held by a finalizer until its uid stands in the status, and the uid until the
//! finalizer has gone.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Work;
use crate::controllers::pods;
use crate::meta;
use crate::status::Status;

pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const OUTCOMES: [&str; 2] = ["succeeded", "failed"];

pub(super) fn failed(pod: &Value) -> bool {
    pods::phase(pod) == "Failed" || (meta::deleting(pod) && !pods::over(pod))
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

impl Work<'_> {
    /// How many pods have succeeded or failed, counted or about to be.
    pub(super) fn total(&self, which: &str) -> i64 {
        counted(&self.status, which) + pods::count(list(&self.status, which).iter())
    }

    /// Notes the pods that have ended and are not counted yet.
    pub(super) fn note_ended(&mut self) {
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

    /// Takes the finalizer off the pods that stand in the status, and counts those that have lost it. `all`: the job
    /// ends, and the rest of the pods with it.
    pub(super) fn let_counted_go(&mut self, all: bool) -> Result<(), Status> {
        let noted: BTreeSet<String> = OUTCOMES.iter().flat_map(|which| list(&self.status, which)).collect();
        for pod in &mut self.pods {
            let over = all || meta::deleting(self.job) || noted.contains(meta::uid(pod));
            if tracked(pod) && over && (pods::over(pod) || meta::deleting(pod)) {
                pods::ignore_gone(self.actor.replace(&untracked(pod), ""))?;
                *pod = untracked(pod);
            }
        }
        let held: BTreeSet<&str> = self.pods.iter().filter(|pod| tracked(pod)).map(meta::uid).collect();
        let split = |uids: Vec<String>| uids.into_iter().partition::<Vec<_>, _>(|uid| held.contains(uid.as_str()));
        let parts = OUTCOMES.map(|which| (which, split(list(&self.status, which))));
        for (which, (held, free)) in parts {
            let count = counted(&self.status, which) + pods::count(free.iter());
            pods::counts(&mut self.status, &[(which, count)]);
            self.set_list(which, held);
        }
        Ok(())
    }

    /// Whether the end has to wait for pods that are still there.
    pub(super) fn is_waiting(&self) -> bool {
        let uncounted = OUTCOMES.iter().any(|which| !list(&self.status, which).is_empty());
        uncounted || self.pods.iter().any(|pod| !pods::over(pod))
    }
}
