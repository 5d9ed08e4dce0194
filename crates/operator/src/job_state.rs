//! What the operator remembers of each job between two reconciles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::ResourceExt as _;

use sluice_api::{RESUME_ANNOTATION, StreamJob};
use sluice_base::units::Seconds;
use sluice_policy::Memory;
use sluice_signals::JobKey;

use crate::apply::attempts::Attempts;
use crate::apply::build::Prepared;
use crate::apply::ensure::Applied;
use crate::apply::ownership::ReplicasOwnership;
use crate::apply::refusal::RefusalHistory;
use crate::observe::pod_troubles::CrashLoops;
use crate::observe::strangers::Strangers;
use crate::observe::target::TargetCache;
use crate::status::learned;
use crate::status::publish::ReportedStatus;
use crate::validate::{self, Problem};

/// The states of all jobs. A job's state is locked for the whole of its reconcile; jobs never wait for each other.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<Mutex<HashMap<JobKey, Arc<tokio::sync::Mutex<JobState>>>>>);

impl Jobs {
    /// Returns the state of a job; a job that is not known yet gets an empty one.
    pub(crate) fn entry(&self, key: &JobKey) -> Arc<tokio::sync::Mutex<JobState>> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(jobs.entry(key.clone()).or_default())
    }

    /// Forgets every job for which `keep` returns false, and returns the forgotten ones.
    pub(crate) fn sweep(&self, keep: impl Fn(&JobKey) -> bool) -> Vec<JobKey> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<JobKey> = jobs.keys().filter(|key| !keep(key)).cloned().collect();
        for key in &gone {
            jobs.remove(key);
        }
        gone
    }
}

/// The state of one job.
#[derive(Default)]
pub(crate) struct JobState {
    /// Uid of the StreamJob that this state is about.
    uid: String,
    /// Time of the first reconcile of the job in this run of the operator.
    first_seen: Option<Seconds>,
    /// Time until which the job is left alone after a panic.
    set_aside_until: Option<Seconds>,
    /// The spec as it was last validated.
    prepared: Option<Arc<Prepared>>,
    /// Group, kind and name of the workload that `target`, `ownership` and the refusals are about.
    workload: Option<(String, String)>,
    /// Time of the newest failure of each source that was counted in the metrics.
    counted_failures: HashMap<String, Seconds>,
    /// Memory of the decision core.
    pub(crate) core: Memory,
    /// Failed requests, and when they may be made again.
    pub(crate) attempts: Attempts,
    /// The last read of the workload of a `targetRef`.
    pub(crate) target: TargetCache,
    /// The owner of the workload's replica count.
    pub(crate) ownership: ReplicasOwnership,
    /// Objects that are known to be as they were last applied.
    pub(crate) applied: Applied,
    /// Pods that the cluster has refused to create.
    pub(crate) refusals: RefusalHistory,
    /// Pods that crash repeatedly.
    pub(crate) crash_loops: CrashLoops,
    /// Members of the consumer groups that are not workers of the job.
    pub(crate) strangers: Strangers,
    /// What the status and the events have reported.
    pub(crate) reported: ReportedStatus,
}

impl JobState {
    /// Starts from an empty state if the object is not the one that the state is about.
    pub(crate) fn reset_if_replaced(&mut self, object: &StreamJob, now: Seconds) {
        let uid = object.uid().unwrap_or_default();
        if self.uid == uid {
            return;
        }
        // The status of an earlier run of the operator provides a prior of the model and the counts of attainment,
        // nothing else.
        let prior = object.status.as_ref().map(learned::prior).unwrap_or_default();
        let mut core = Memory::with_prior(prior);
        if let Some(history) = object.status.as_ref().and_then(|status| learned::history(status, now)) {
            core.recall_history(&history);
        }
        *self = Self { uid, core, ..Self::default() };
    }

    /// Forgets everything that is known of a workload if the job names another one now (`group_kind`, `name`).
    pub(crate) fn reset_if_retargeted(&mut self, group_kind: String, name: &str) {
        let workload = Some((group_kind, name.to_owned()));
        if self.workload.is_some() && self.workload != workload {
            self.attempts.forget_workload();
            self.target = TargetCache::default();
            self.ownership = ReplicasOwnership::default();
            self.refusals = RefusalHistory::default();
        }
        self.workload = workload;
    }

    /// Forgets everything after a panic, which may have left the state inconsistent, and leaves the job alone until
    /// `until`. The next reconcile reads what was learned from the status, as after a restart.
    pub(crate) fn set_aside(&mut self, until: Seconds) {
        *self = Self { set_aside_until: Some(until), ..Self::default() };
    }

    /// Returns for how much longer the job is left alone after a panic.
    pub(crate) fn set_aside_for(&self, now: Seconds) -> Option<Duration> {
        self.set_aside_until.filter(|until| *until > now).map(|until| Duration::from_secs_f64((until - now).0))
    }

    /// Returns the time of the first reconcile of the job in this run of the operator.
    pub(crate) fn first_seen(&mut self, now: Seconds) -> Seconds {
        *self.first_seen.get_or_insert(now)
    }

    /// Returns the validated spec and the hashes of the bodies that follow from it. It is validated again only if it
    /// has changed.
    pub(crate) fn prepare(&mut self, object: &StreamJob) -> Result<Arc<Prepared>, Vec<Problem>> {
        let is_current = |prepared: &&Arc<Prepared>| {
            let (job, resume) = (&prepared.job, object.annotations().get(RESUME_ANNOTATION));
            job.generation.is_some() && job.generation == object.metadata.generation && job.resume.as_ref() == resume
        };
        if let Some(prepared) = self.prepared.as_ref().filter(is_current) {
            return Ok(Arc::clone(prepared));
        }
        let prepared = Arc::new(Prepared::new(validate::validate(object)?));
        self.prepared = Some(Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Returns whether a failure of a source was not counted yet, and remembers it. `at`: time of the failure.
    pub(crate) fn is_new_failure(&mut self, source: &str, at: Seconds) -> bool {
        self.counted_failures.insert(source.to_owned(), at) != Some(at)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The uid was kept over a panic, so that nothing was read back and the next status overwrote the attainment.
    #[test]
    fn learned_values_are_read_again_after_a_panic() {
        let job: StreamJob = serde_json::from_value(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": "orders", "namespace": "team", "uid": "u"},
            "spec": {"objective": {"latency": "10s"}, "maxReplicas": 9, "sources": []},
            "status": {"model": {"capacityPerWorker": 120, "confidence": "High"}},
        }))
        .unwrap();
        let mut state = JobState::default();
        state.reset_if_replaced(&job, Seconds(1000.0));
        let learned = state.core.model();
        assert_ne!(learned, Memory::default().model());
        state.set_aside(Seconds(1060.0));
        state.reset_if_replaced(&job, Seconds(1061.0));
        assert_eq!(state.core.model(), learned);
    }
}
