//! What all reconciles share.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use kube::runtime::events::Recorder;
use tokio_util::sync::CancellationToken;

use crate::serve::Health;
use crate::serve::metrics::Metrics;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_signals::{JobKey, Signals};

use crate::apply::attempts::{NamespaceRefusals, Request, RequestKey};
use crate::apply::writer::Applier;
use crate::error::Blocked;
use crate::job_state::{JobState, Jobs};
use crate::observe::claims::Claims;
use crate::observe::kinds::Kinds;
use crate::observe::live::Caches;

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
    /// Namespaces whose jobs are left alone.
    pub(crate) excluded: Arc<BTreeSet<String>>,
    pub(crate) health: Health,
    /// Workloads and consumer groups that the jobs name; complete once all jobs are listed.
    pub(crate) claims: Claims,
    /// Cancelled once the watch has listed every job of the scope.
    pub(crate) jobs_listed: CancellationToken,
    pub(crate) kinds: Kinds,
    pub(crate) namespace_refusals: NamespaceRefusals,
}

impl Context {
    /// Returns whether a request that has failed before must wait. A request that was refused also waits for its
    /// namespace's budget of refusals, and spends one unit of it if it need not wait.
    pub(crate) fn must_wait(
        &self,
        job: &JobKey,
        state: &JobState,
        request: Request,
        request_key: &RequestKey,
        now: Seconds,
    ) -> bool {
        state.attempts.must_wait(request, request_key, now)
            || state.attempts.was_refused(request) && !self.namespace_refusals.try_spend(&job.namespace, now)
    }

    /// Records the outcome of a request, and returns it.
    pub(crate) fn record_outcome<T>(
        &self,
        job: &JobKey,
        state: &mut JobState,
        request: Request,
        request_key: RequestKey,
        outcome: Result<T, Blocked>,
        now: Seconds,
    ) -> Result<T, Blocked> {
        let was_refused = state.attempts.was_refused(request);
        match &outcome {
            Ok(_) => {
                state.attempts.record_success(request);
                if was_refused {
                    self.namespace_refusals.refund(&job.namespace, now);
                }
            }
            Err(Blocked::BackingOff) => {}
            Err(Blocked::Cause(cause)) => state.attempts.record_hindrance(request, request_key, cause.clone(), now),
            Err(Blocked::Failed(error)) => {
                state.attempts.record_failure(request, request_key, error, now);
                if error.is_refusal() && !was_refused {
                    self.namespace_refusals.try_spend(&job.namespace, now);
                }
                self.metrics.reconcile_error(error.category());
                tracing::warn!(%job, category = error.category(), error = %error, detail = %error.explanation(), "request to the API server failed");
            }
        }
        outcome
    }
}
