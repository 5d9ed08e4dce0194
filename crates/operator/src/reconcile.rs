//! One reconcile of a job: validate, observe, decide, apply, report. It never waits for a source.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use crate::serve::metrics::JobNumbers;
use sluice_api::StreamJob;
use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;
use sluice_signals::{JobKey, JobSamples};

use crate::apply::attempts::Request;
use crate::apply::ensure;
use crate::apply::scale::{self, ScaleRequest};
use crate::cause::ConditionCause;
use crate::context::Context;
use crate::error::{Blocked, Error};
use crate::job_state::JobState;
use crate::observe::live::{self, ObservedWorkload};
use crate::observe::observation::{self, WorkloadNumbers};
use crate::status::conditions::Facts;
use crate::status::facts::{self, JobSnapshot};
use crate::status::publish::publish;
use crate::validate::{Job, Target};
use crate::watch::unreadable;

/// Maximum time between two reconciles of a job, since no watch guarantees that it delivers every change.
const PERIOD: Duration = Duration::from_secs(15);

/// Time for which a job is left alone after its reconcile has panicked.
pub(crate) const SET_ASIDE: Seconds = Seconds(60.0);

/// Reconciles one `StreamJob`. A panic is a bug of the operator that this job has triggered: the job's status reports
/// it, the job is set aside for [`SET_ASIDE`], and the other jobs continue.
pub(crate) async fn reconcile(
    object: Arc<DeserializeGuard<StreamJob>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let _under_way = context.health.reconciling(context.clock.monotonic());
    let object = match object.0.as_ref() {
        Ok(object) => object,
        Err(error) => {
            unreadable::report(&context, &error.metadata, &error.error).await;
            return Err(Error::Unreadable(error.error.clone()));
        }
    };
    if let Ok(action) = AssertUnwindSafe(reconcile_object(object, &context)).catch_unwind().await {
        return Ok(action);
    }
    let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    context.metrics.reconcile_error("panicked");
    tracing::error!(job = %key, retry_in_seconds = SET_ASIDE.0, "reconcile panicked; this is a bug in Sluice");
    let entry = context.jobs.entry(&key);
    let mut state = entry.lock().await;
    let now = context.clock.now();
    state.set_aside(now + SET_ASIDE);
    // The code that panicked may panic here again.
    let published =
        AssertUnwindSafe(publish(&context, object, &key, &mut state, facts::after_panic(object), now)).catch_unwind();
    if published.await.is_err() {
        tracing::error!(job = %key, "writing the status panicked, too");
    }
    Ok(Action::requeue(Duration::from_secs_f64(SET_ASIDE.0)))
}

async fn reconcile_object(object: &StreamJob, context: &Context) -> Action {
    let started = context.clock.monotonic();
    let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    if object.metadata.deletion_timestamp.is_some() {
        // Owner references delete the workload. Only the state in memory remains to be dropped.
        context.signals.forget(&key);
        return Action::await_change();
    }
    let entry = context.jobs.entry(&key);
    let mut state = entry.lock().await;
    let now = context.clock.now();
    if let Some(wait) = state.set_aside_for(now) {
        return Action::requeue(wait);
    }
    state.reset_if_replaced(object, now);
    let action = if context.excluded.contains(&key.namespace) {
        report_excluded(context, object, &key, &mut state, now).await
    } else {
        reconcile_job(context, object, &key, &mut state).await
    };
    context.metrics.reconcile((context.clock.monotonic() - started).as_secs_f64());
    state.attempts.next_retry(now).map_or(action, |wait| Action::requeue(wait.min(PERIOD)))
}

/// Leaves a job of an excluded namespace as it is, and reports that in its status.
async fn report_excluded(
    context: &Context,
    object: &StreamJob,
    key: &JobKey,
    state: &mut JobState,
    now: Seconds,
) -> Action {
    context.signals.forget(key);
    let message = format!(
        "Sluice does nothing in the namespace {}: create the StreamJob in another namespace, or ask an administrator to remove this one from the operator's --exclude-namespaces (excludeNamespaces of its chart)",
        key.namespace
    );
    let trouble = ConditionCause { reason: reasons::NAMESPACE_EXCLUDED, message };
    let facts =
        Facts { generation: object.metadata.generation, workload_trouble: Some(trouble), ..facts::last_known(object) };
    publish(context, object, key, state, facts, now).await;
    Action::await_change()
}

/// The phases of a reconcile, in order.
async fn reconcile_job(context: &Context, object: &StreamJob, key: &JobKey, state: &mut JobState) -> Action {
    let now = context.clock.now();

    // Validate.
    let prepared = match state.prepare(object) {
        Ok(prepared) => prepared,
        Err(problems) => {
            // The workers keep running as they are. Nothing is measured for a spec that cannot be used.
            context.signals.forget(key);
            let facts =
                Facts { generation: object.metadata.generation, problems: &problems, ..facts::last_known(object) };
            publish(context, object, key, state, facts, now).await;
            return Action::await_change();
        }
    };
    let job = &prepared.job;
    let (resource, name) = live::target(context, job);
    state.reset_if_retargeted(format!("{}/{}", resource.group, resource.kind), name);

    // Observe.
    let ObservedWorkload { mut workload, pods } = match observe_workload(context, job, state, now).await {
        Ok(observed) => observed,
        Err(blocked) => {
            // Nothing is known of its workers, so there is no decision.
            if let Some(trouble) = cause_of(blocked, state) {
                publish(context, object, key, state, unread_target(object, job, trouble), now).await;
            }
            return Action::requeue(PERIOD);
        }
    };
    let pods_unknown = pods.is_none();
    let pods = pods.unwrap_or_default();
    context.signals.watch(key, live::hub_watch(job, &pods));
    let samples = context.signals.read(key).unwrap_or_default();
    count_failures(context, state, &samples);

    // Make sure that the workload exists, belongs to the job and has its template.
    let mut trouble = None;
    match ensure::ensure(context, &prepared, state, workload.take(), now).await {
        Ok(ensured) => workload = Some(ensured),
        Err(Blocked::Cause(cause)) => trouble = Some(cause),
        Err(Blocked::Failed(Error::Gone)) => return Action::requeue(PERIOD),
        Err(Blocked::Failed(_) | Blocked::BackingOff) => {}
    }

    // Decide.
    let desired = workload.as_ref().and_then(|workload| workload.view.desired);
    let before = context.clock.monotonic();
    let refusal =
        workload.as_ref().map(|workload| state.refusals.observe(&workload.view, &pods, now)).unwrap_or_default();
    let counted = workload.as_ref().and_then(|workload| workload.view.counted);
    let numbers = WorkloadNumbers { desired, granted: refusal.granted, pods_unknown, counted };
    let observation = observation::observation(job, numbers, &pods, &samples, now);
    let decision = sluice_policy::decide(&mut state.core, &observation, &job.settings);
    context.metrics.decision(decision.action, decision.reason, (context.clock.monotonic() - before).as_secs_f64());
    tracing::debug!(job = %key, desired, decision = decision.desired, reason = decision.reason.as_str(), message = %decision.message, "decided");

    // Apply.
    let mut ownership = None;
    let mut changed = None;
    if let (Some(workload), None) = (&workload, &trouble) {
        let request = ScaleRequest { decision: &decision, pods: &pods, partitions: &observation.partitions };
        let scaled = scale::scale(context, job, state, workload, &request, now).await;
        match scaled {
            Ok(scaled) => {
                ownership = Some(scaled.ownership);
                changed = scaled.from.and_then(|from| facts::decision_status(from, &decision, now));
            }
            Err(Blocked::Cause(cause)) => trouble = Some(cause),
            Err(Blocked::Failed(_) | Blocked::BackingOff) => {}
        }
    }
    let trouble = trouble.or_else(|| state.attempts.cause().cloned());
    let recommended = facts::recommendation(job, state, desired, &decision, now);

    // Report.
    let workload = workload.as_ref();
    let snapshot =
        JobSnapshot { job, pods: &pods, pods_unknown, workload, samples: &samples, decision: &decision, refusal };
    let facts = Facts {
        workload_trouble: trouble,
        is_not_scaled: workload.is_none(),
        ownership,
        changed: changed.or(recommended),
        ..facts::from_snapshot(context, object, state, &snapshot, now)
    };
    context.metrics.job(
        key,
        JobNumbers { target: job.settings.latency.0, replicas: facts.replicas, ready: facts.ready },
        &decision,
    );
    if !facts::is_quiet_restart(object, job, state, &facts, now) {
        publish(context, object, key, state, facts, now).await;
    }
    Action::requeue(PERIOD)
}

/// Returns the facts of a job whose target cannot be read.
fn unread_target<'a>(object: &StreamJob, job: &'a Job, trouble: ConditionCause) -> Facts<'a> {
    let message = "no measurement while the target cannot be read".to_owned();
    Facts {
        generation: job.generation,
        settings: Some(&job.settings),
        workload_trouble: Some(trouble),
        missing_signal: Some(ConditionCause { reason: reasons::NO_SIGNAL, message }),
        is_not_scaled: true,
        ..facts::last_known(object)
    }
}

/// Observes the job's workload and its pods: in the caches if the workload is the job's own.
async fn observe_workload(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    now: Seconds,
) -> Result<ObservedWorkload, Blocked> {
    if let Target::Owned(owned) = &job.target {
        return Ok(live::owned(context, job, owned.workload.kind));
    }
    if let Some(observed) = state.target.fresh(job, now) {
        return Ok(observed);
    }
    let request_key = job.request_key("");
    if context.must_wait(&job.key, state, Request::Target, &request_key, now) {
        return Err(Blocked::BackingOff);
    }
    let read = state.target.read(context, job, now).await;
    context.record_outcome(&job.key, state, Request::Target, request_key, read, now)
}

/// Returns what the status reports about a request that was not made or has failed.
fn cause_of(blocked: Blocked, state: &JobState) -> Option<ConditionCause> {
    match blocked {
        Blocked::Cause(cause) => Some(cause),
        Blocked::Failed(_) | Blocked::BackingOff => state.attempts.cause().cloned(),
    }
}

/// Counts each failure of a source once, however often it is read.
fn count_failures(context: &Context, state: &mut JobState, samples: &JobSamples) {
    for source in &samples.sources {
        let Some(failure) = &source.failure else { continue };
        if state.is_new_failure(&source.name, failure.at) {
            context.metrics.source_error(failure.category.as_str());
        }
    }
}
