//! Changes the replica count to the decided one. Every write is based on a live read of the workload.

use futures::StreamExt as _;

use sluice_api::v1alpha1::WorkloadKind;
use sluice_base::units::Seconds;
use sluice_policy::{Decision, Partition};

use crate::apply::attempts::Request;
use crate::apply::build;
use crate::apply::ensure;
use crate::apply::ownership::{OwnershipState, Step};
use crate::apply::removal_order;
use crate::context::Context;
use crate::error::Blocked;
use crate::job_state::JobState;
use crate::lease::WRITE_TIMEOUT;
use crate::observe::live::{self, PodFacts, Workload};
use crate::validate::{Job, Target};

/// Maximum number of steps of one reconcile: take the field over, release it, write it, and a repeat if the object was
/// modified.
const MOST_STEPS: usize = 5;
/// Maximum number of pods that are marked at the same time.
const MARKS_AT_ONCE: usize = 8;

/// The result of scaling.
#[derive(Debug)]
pub(crate) struct Scaled {
    pub(crate) ownership: OwnershipState,
    /// Replica count before the change, if there was one.
    pub(crate) from: Option<u32>,
}

/// A decision about the replica count, and the observations on which it is based.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaleRequest<'a> {
    pub(crate) decision: &'a Decision,
    pub(crate) pods: &'a [PodFacts],
    pub(crate) partitions: &'a [Partition],
}

/// Changes the replica count to the decided one, one step of ownership at a time.
pub(crate) async fn scale(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    workload: &Workload,
    request: &ScaleRequest<'_>,
    now: Seconds,
) -> Result<Scaled, Blocked> {
    let ownership = state.ownership.observe(job, &workload.view, now);
    let step = state.ownership.next_step(job, &workload.view, request.decision.desired, ownership);
    if step == Step::Nothing {
        state.attempts.record_not_needed(Request::Scale, now);
        return Ok(Scaled { ownership, from: None });
    }
    let number = match &step {
        Step::Scale(write) => Some(write.replicas),
        Step::Release | Step::Nothing => None,
    };
    let request_key = job.request_key(&format!("{number:?} of {}", workload.view.uid));
    if context.must_wait(&job.key, state, Request::Scale, &request_key, now) {
        return Ok(Scaled { ownership, from: None });
    }
    let mut scaled = Scaled { ownership, from: None };
    let outcome = apply_steps(context, job, state, workload, request, &mut scaled, now).await;
    let outcome = context.record_outcome(&job.key, state, Request::Scale, request_key, outcome, now);
    // A replica count that was written is reported, whatever failed after it.
    if scaled.from.is_some() { Ok(scaled) } else { outcome.map(|()| scaled) }
}

/// Applies one step after another, each from a fresh read.
async fn apply_steps(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    workload: &Workload,
    request: &ScaleRequest<'_>,
    scaled: &mut Scaled,
    now: Seconds,
) -> Result<(), Blocked> {
    let decided_from = workload.view.desired;
    // The decision is based on the cache. If the workload has changed since, decide again instead of writing.
    let Some(mut current) = read_live(context, job, state, now).await? else { return Ok(()) };
    if current.view.uid != workload.view.uid || current.view.desired != decided_from {
        tracing::debug!(job = %job.key, "workload changed since the decision; deciding again");
        return Ok(());
    }
    let mut marked = false;
    for round in 1..MOST_STEPS {
        scaled.ownership = state.ownership.observe(job, &current.view, now);
        let step = state.ownership.next_step(job, &current.view, request.decision.desired, scaled.ownership);
        if step == Step::Nothing {
            break;
        }
        // Mark pods only once: the caches show the pods as they were before the marks.
        if let Some(to) = step_down(&current, &step)
            && !std::mem::replace(&mut marked, true)
        {
            mark_leaving(context, job, &current, to, request).await;
        }
        match apply_step(context, job, state, &current, &step).await {
            Ok(Some(before)) => scaled.from = Some(before),
            Ok(None) => {}
            // The object was modified since it was read (often only its status): read it again and repeat the step.
            Err(Blocked::Failed(error)) if error.category() == "conflict" => {
                if let Some(manager) = error.field_manager() {
                    state.ownership.record_conflict(manager);
                } else if round + 1 == MOST_STEPS {
                    return Err(error.into());
                }
            }
            Err(blocked) => return Err(blocked),
        }
        match read_live(context, job, state, now).await? {
            Some(live) => current = live,
            None => break,
        }
    }
    Ok(())
}

/// Reads the workload from the API server.
async fn read_live(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    now: Seconds,
) -> Result<Option<Workload>, Blocked> {
    let live = live::live_workload(context, job, now).await?;
    state.target.update_workload(live.as_ref());
    Ok(live)
}

/// Returns the replica count that a step writes, if it is smaller than the current one.
fn step_down(workload: &Workload, step: &Step) -> Option<u32> {
    match step {
        Step::Scale(write) if workload.view.desired.is_some_and(|desired| write.replicas < desired) => {
            Some(write.replicas)
        }
        _ => None,
    }
}

/// Marks the pods that should leave first, before the replica count is lowered. A failure only means that other pods
/// leave, so it does not prevent the write of the replica count.
async fn mark_leaving(context: &Context, job: &Job, workload: &Workload, to: u32, request: &ScaleRequest<'_>) {
    let Target::Owned(owned) = &job.target else { return };
    // A StatefulSet removes the pod with the highest ordinal; during a rollout two ReplicaSets remove pods
    // independently.
    if owned.workload.kind != WorkloadKind::Deployment || workload.view.rolling_out {
        return;
    }
    let marks = removal_order::marks(request.pods, request.partitions, to);
    let writes = futures::stream::iter(&marks).for_each_concurrent(MARKS_AT_ONCE, |mark| async move {
        if let Err(error) = context.applier.mark(&job.key.namespace, mark).await {
            tracing::info!(job = %job.key, pod = %mark.pod, category = error.category(), error = %error.explanation(), "failed to mark a leaving pod");
        }
    });
    if tokio::time::timeout(WRITE_TIMEOUT, writes).await.is_err() {
        tracing::info!(job = %job.key, timeout_seconds = WRITE_TIMEOUT.as_secs(), "timed out marking leaving pods");
    }
}

/// Applies one step. Returns the replica count before the step, if the step has changed it.
async fn apply_step(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    workload: &Workload,
    step: &Step,
) -> Result<Option<u32>, Blocked> {
    match step {
        Step::Nothing => Ok(None),
        Step::Release => {
            let Target::Owned(owned) = &job.target else { return Ok(None) };
            let body = build::workload(job, owned);
            ensure::apply_body(context, job, state, &body, Some(workload)).await?;
            Ok(None)
        }
        Step::Scale(write) => {
            let (resource, name) = live::target(context, job);
            context.applier.scale(&resource, &job.key.namespace, name, write).await?;
            state.ownership.record_write(write);
            Ok(workload.view.desired.filter(|before| *before != write.replicas))
        }
    }
}
