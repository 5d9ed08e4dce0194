//! Brings the number of workers to what was decided. Every write rests on a live look.

use futures::StreamExt as _;

use sluice_api::v1alpha1::WorkloadKind;
use sluice_base::units::Seconds;
use sluice_policy::Mode;
use sluice_policy::{Decision, Partition};

use crate::apply::attempts::Request;
use crate::apply::build;
use crate::apply::ensure;
use crate::apply::ownership::{self, Standing, Step, Word};
use crate::apply::removal_order;
use crate::context::{Context, JobState};
use crate::error::Refused;
use crate::lease::WRITE_TIMEOUT;
use crate::observe::live::{self, PodFacts, Workload};
use crate::validate::{Job, Target};

/// Steps of one reconcile: take the field over, release it, write it; and a repeat when the object was modified.
const MOST_STEPS: usize = 5;
/// Pods that are marked at the same time.
const MARKS_AT_ONCE: usize = 8;

/// What scaling has come to.
#[derive(Debug)]
pub(crate) struct Scaled {
    pub(crate) standing: Standing,
    /// Workers before, if the number was changed.
    pub(crate) from: Option<u32>,
}

/// What is to be done about the number of workers, and what that rests on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) decision: &'a Decision,
    pub(crate) pods: &'a [PodFacts],
    pub(crate) partitions: &'a [Partition],
}

/// Brings the number of workers to what was decided, one step of ownership at a time.
pub(crate) async fn scale(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    workload: &Workload,
    plan: &Plan<'_>,
    now: Seconds,
) -> Result<Scaled, Refused> {
    let standing = stand(job, state, workload, now);
    let step = next(job, state, workload, plan.decision, standing);
    if step == Step::Nothing {
        state.attempts.not_needed(Request::Scale, now);
        return Ok(Scaled { standing, from: None });
    }
    let number = match &step {
        Step::Scale(write) => Some(write.replicas),
        Step::Release | Step::Nothing => None,
    };
    let asked = job.asked(&format!("{number:?} of {}", workload.view.uid));
    if context.must_wait(&job.key, state, Request::Scale, &asked, now) {
        return Ok(Scaled { standing, from: None });
    }
    let mut scaled = Scaled { standing, from: None };
    let outcome = take_steps(context, job, state, workload, plan, &mut scaled, now).await;
    let outcome = context.note(&job.key, state, Request::Scale, asked, outcome, now);
    // A number that was written is told of, whatever failed after it.
    if scaled.from.is_some() { Ok(scaled) } else { outcome.map(|()| scaled) }
}

/// Takes one step after another, each from a fresh look.
async fn take_steps(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    workload: &Workload,
    plan: &Plan<'_>,
    scaled: &mut Scaled,
    now: Seconds,
) -> Result<(), Refused> {
    let decided_from = workload.view.desired;
    // The decision rests on the cache. If the workload has changed since, decide again rather than write.
    let Some(mut current) = live(context, job, state, now).await? else { return Ok(()) };
    if current.view.uid != workload.view.uid || current.view.desired != decided_from {
        tracing::debug!(job = %job.key, "the workload has changed since the decision; deciding again");
        return Ok(());
    }
    let mut marked = false;
    for round in 1..MOST_STEPS {
        scaled.standing = stand(job, state, &current, now);
        let step = next(job, state, &current, plan.decision, scaled.standing);
        if step == Step::Nothing {
            break;
        }
        // Once: what the caches show of the pods is older than the marks.
        if let Some(to) = step_down(&current, &step)
            && !std::mem::replace(&mut marked, true)
        {
            mark_leaving(context, job, &current, to, plan).await;
        }
        match take(context, job, state, &current, &step).await {
            Ok(Some(before)) => scaled.from = Some(before),
            Ok(None) => {}
            // Modified since it was read (its status, often): read again, and go on if nothing of ours has changed.
            Err(Refused::Error(error)) if error.category() == "conflict" => {
                if let Some(manager) = error.field_manager() {
                    state.conflict_with = Some(manager);
                } else if round + 1 == MOST_STEPS {
                    return Err(error.into());
                }
            }
            Err(refused) => return Err(refused),
        }
        match live(context, job, state, now).await? {
            Some(live) => current = live,
            None => break,
        }
    }
    Ok(())
}

async fn live(context: &Context, job: &Job, state: &mut JobState, now: Seconds) -> Result<Option<Workload>, Refused> {
    let live = live::live_workload(context, job, now).await?;
    state.existing.note(live.as_ref());
    Ok(live)
}

/// The number of workers that a step writes, if it is a smaller one.
fn step_down(workload: &Workload, step: &Step) -> Option<u32> {
    match step {
        Step::Scale(write) if workload.view.desired.is_some_and(|desired| write.replicas < desired) => {
            Some(write.replicas)
        }
        _ => None,
    }
}

/// Before there are fewer workers, says which are to leave. Without that others leave, and nothing worse: a failure does
/// not keep the number from being written.
async fn mark_leaving(context: &Context, job: &Job, workload: &Workload, to: u32, plan: &Plan<'_>) {
    let Target::Owned(owned) = &job.target else { return };
    // A StatefulSet removes its highest number; in a roll-out there are two ReplicaSets, and each goes its own way.
    if owned.workload.kind != WorkloadKind::Deployment || workload.view.rolling_out {
        return;
    }
    let marks = removal_order::marks(plan.pods, plan.partitions, to);
    let writes = futures::stream::iter(&marks).for_each_concurrent(MARKS_AT_ONCE, |mark| async move {
        if let Err(error) = context.applier.mark(&job.key.namespace, mark).await {
            tracing::info!(job = %job.key, pod = %mark.pod, category = error.category(), error = %error.explanation(), "failed to say which worker leaves first");
        }
    });
    if tokio::time::timeout(WRITE_TIMEOUT, writes).await.is_err() {
        tracing::info!(job = %job.key, "failed to say in time which workers leave first");
    }
}

/// Who writes the number of workers now.
fn stand(job: &Job, state: &mut JobState, workload: &Workload, now: Seconds) -> Standing {
    let owners = &workload.view.owners;
    state.taken |= owners.scale;
    let zero = workload.view.desired == Some(0);
    state.zero_is_foreign |= !zero;
    let foreign = match job.target {
        // A 0 of ours has no owner either: an apply of 0 on /scale leaves the field out.
        _ if zero && !state.zero_is_foreign => false,
        Target::Owned(_) => !owners.scale && !owners.workload,
        // What we have written last is ours, whoever has taken the field since without a change.
        Target::Existing { .. } => state.taken && !owners.scale && workload.view.desired != state.last_written,
    };
    if let Some(other) = owners.others.first() {
        state.conflict_with = Some(other.clone());
    } else if !foreign {
        state.conflict_with = None;
    }
    let foreign = foreign || state.conflict_with.is_some() && !matches!(job.target, Target::Existing { .. });
    let word = Word { generation: job.generation, resume: job.resume.clone() };
    state.foreign.observe(foreign, workload.view.desired, &word, now)
}

fn next(job: &Job, state: &JobState, workload: &Workload, decision: &Decision, standing: Standing) -> Step {
    match &job.target {
        Target::Owned(_) => ownership::next(&workload.view, decision.desired, standing),
        Target::Existing { .. } if job.settings.mode == Mode::Recommend => Step::Nothing,
        Target::Existing { .. } => ownership::next_existing(&workload.view, decision.desired, standing, state.taken),
    }
}

/// Takes one step. Returns the number of workers before, if the step writes a number.
async fn take(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    workload: &Workload,
    step: &Step,
) -> Result<Option<u32>, Refused> {
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
            state.taken = true;
            state.last_written = Some(write.replicas);
            state.zero_is_foreign = write.replicas > 0;
            if write.force {
                state.conflict_with = None;
            }
            Ok(workload.view.desired.filter(|before| *before != write.replicas))
        }
    }
}
