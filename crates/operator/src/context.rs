//! What reconciles share, and what is remembered of each job between two of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::Recorder;
use tokio_util::sync::CancellationToken;

use crate::serve::Health;
use crate::serve::metrics::Metrics;
use sluice_api::status::{DecisionStatus, StreamJobStatus};
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_policy::Memory;
use sluice_signals::{JobKey, Signals};

use crate::apply::attempts::{Asked, Attempts, NamespaceRefusals, Request};
use crate::apply::build::Prepared;
use crate::apply::ownership::ForeignWrites;
use crate::apply::refusal::Refusals;
use crate::apply::writer::Applier;
use crate::error::Refused;
use crate::observe::claims::Claims;
use crate::observe::kinds::Kinds;
use crate::observe::live::Caches;
use crate::observe::pod_troubles::CrashLoops;
use crate::observe::strangers::Strangers;
use crate::observe::target::Existing;
use crate::status::events::Withheld;

/// What all reconciles share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) caches: Caches,
    pub(crate) signals: Arc<dyn Signals>,
    pub(crate) applier: Applier,
    pub(crate) metrics: Metrics,
    pub(crate) recorder: Recorder,
    pub(crate) jobs: Jobs,
    /// Namespaces in which nothing is done for a job.
    pub(crate) excluded: Arc<BTreeSet<String>>,
    pub(crate) health: Health,
    /// What the jobs name, and who of them has it; complete once all jobs are listed.
    pub(crate) claims: Claims,
    /// The watch has listed every job of the scope.
    pub(crate) jobs_listed: CancellationToken,
    pub(crate) kinds: Kinds,
    pub(crate) namespace_refusals: NamespaceRefusals,
}

impl Context {
    /// Whether a request that has failed before is to wait. One that was refused waits for its namespace's budget too, and takes
    /// its part of that if it need not wait.
    pub(crate) fn must_wait(
        &self,
        job: &JobKey,
        state: &JobState,
        request: Request,
        asked: &Asked,
        now: Seconds,
    ) -> bool {
        state.attempts.waits(request, asked, now)
            || state.attempts.was_refused(request) && !self.namespace_refusals.take(&job.namespace, now)
    }

    /// Takes note of how a request went.
    pub(crate) fn note<T>(
        &self,
        job: &JobKey,
        state: &mut JobState,
        request: Request,
        asked: Asked,
        outcome: Result<T, Refused>,
        now: Seconds,
    ) -> Result<T, Refused> {
        let was_refused = state.attempts.was_refused(request);
        match &outcome {
            Ok(_) => {
                state.attempts.succeeded(request);
                if was_refused {
                    self.namespace_refusals.give_back(&job.namespace, now);
                }
            }
            Err(Refused::Waits) => {}
            Err(Refused::Trouble(verdict)) => state.attempts.hindered(request, asked, verdict.clone(), now),
            Err(Refused::Error(error)) => {
                state.attempts.failed(request, asked, error, now);
                if error.is_refusal() && !was_refused {
                    self.namespace_refusals.take(&job.namespace, now);
                }
                self.metrics.reconcile_error(error.category());
                tracing::warn!(%job, category = error.category(), error = %error, detail = %error.explanation(), "a request to the API server has failed");
            }
        }
        outcome
    }
}

/// What is remembered of each job. A job's entry is locked for the whole of its reconcile; jobs never wait for each
/// other.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<Mutex<HashMap<JobKey, Arc<tokio::sync::Mutex<JobState>>>>>);

impl Jobs {
    pub(crate) fn entry(&self, key: &JobKey) -> Arc<tokio::sync::Mutex<JobState>> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(jobs.entry(key.clone()).or_default())
    }

    /// Forgets every job that `keep` does not know, and returns which.
    pub(crate) fn sweep(&self, keep: impl Fn(&JobKey) -> bool) -> Vec<JobKey> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<JobKey> = jobs.keys().filter(|key| !keep(key)).cloned().collect();
        for key in &gone {
            jobs.remove(key);
        }
        gone
    }
}

/// What is remembered of one job.
#[derive(Default)]
pub(crate) struct JobState {
    /// Uid of the object that this is about: another object of the name starts anew.
    pub(crate) uid: String,
    pub(crate) memory: Memory,
    pub(crate) foreign: ForeignWrites,
    /// A field manager conflict was answered: who owns the field.
    pub(crate) conflict_with: Option<String>,
    /// The replicas of a workload that someone else made are ours.
    pub(crate) taken: bool,
    /// Kind and name of the workload that all this is about: of another one nothing is known.
    pub(crate) target: Option<(String, String)>,
    /// The number of workers that this run of the operator wrote last.
    pub(crate) last_written: Option<u32>,
    /// What was last seen of the workload of a `targetRef`.
    pub(crate) existing: Existing,
    /// The number was not 0 when last seen, and we have not written 0 since: a 0 that nobody owns is somebody else's.
    pub(crate) zero_is_foreign: bool,
    /// The spec as it was last understood.
    pub(crate) prepared: Option<Arc<Prepared>>,
    /// When this run of the operator first looked at it.
    pub(crate) begun: Option<Seconds>,
    /// The newest status, as written; what the cache shows may be older.
    pub(crate) status: Option<StreamJobStatus>,
    /// The conditions of a status whose write has failed: events have told of them.
    pub(crate) told_by_events: Option<Vec<Condition>>,
    /// The version of the object that this write made, until the cache shows it.
    pub(crate) written: Option<String>,
    /// Changes that no status tells of yet, for its write has failed; the newest first.
    pub(crate) untold: Vec<DecisionStatus>,
    /// The generation that the status calls unreadable.
    pub(crate) told_unreadable: Option<i64>,
    /// A reconcile has panicked: until then nothing is done.
    pub(crate) set_aside_until: Option<Seconds>,
    /// Requests that have failed, and when they may be made again.
    pub(crate) attempts: Attempts,
    /// Generation of the workload that was last compared with what it should be.
    pub(crate) compared_generation: Option<i64>,
    /// Hash of the processing file that is in the cluster, and when that was last looked at.
    pub(crate) processing: Option<(String, Seconds)>,
    /// Whether the cluster refuses to make more of its pods.
    pub(crate) refusals: Refusals,
    /// Pods that crash again and again.
    pub(crate) crash_loops: CrashLoops,
    /// Members of its consumer groups that are no workers of it.
    pub(crate) strangers: Strangers,
    /// Bad news that an ordinary start has.
    pub(crate) withheld: Withheld,
    /// What was last recommended, in mode Recommend.
    pub(crate) recommended: Option<u32>,
    /// The newest failure of each source that was counted.
    pub(crate) counted_failures: HashMap<String, Seconds>,
}
