//! Brings the workload to where it should be: its template, and its number of workers. Every write rests on a live look.

use futures::StreamExt as _;

use crate::api::conditions::reasons;
use crate::api::v1alpha1::{Mode, WorkloadKind};
use crate::policy::units::Seconds;
use crate::policy::{Decision, Partition};

use super::attempts::Request;
use super::build::{self, Prepared, WorkloadBody};
use super::compare::contains;
use super::context::{Context, JobState};
use super::error::Error;
use super::health::Verdict;
use super::lease::WRITE_TIMEOUT;
use super::leaving;
use super::observe::{self, PodFacts, Workload};
use super::replicas::{self, Standing, Step, Word};
use super::validate::{Job, OwnedWorkload, Target};

/// The processing file is compared with the cluster's this often, besides when it changes.
const PROCESSING_PERIOD: Seconds = Seconds(600.0);
/// Steps of one reconcile: take the field over, release it, write it; and a repeat when the object was modified.
const MOST_STEPS: usize = 5;
/// Pods that are marked at the same time.
const MARKS_AT_ONCE: usize = 8;

/// Why the workload is not as it should be.
#[derive(Debug)]
pub(super) enum Refused {
    /// A person must do something; the condition Ready says what.
    Trouble(Verdict),
    /// It is tried again.
    Error(Error),
    /// It has failed before, and waits for another attempt.
    Waits,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What scaling has come to.
#[derive(Debug)]
pub(super) struct Scaled {
    pub(super) standing: Standing,
    /// Workers before, if the number was changed.
    pub(super) from: Option<u32>,
}

/// What is to be done about the number of workers, and what that rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) decision: &'a Decision,
    pub(super) pods: &'a [PodFacts],
    pub(super) partitions: &'a [Partition],
}

/// Makes sure that the workload exists, is ours, and has the job's template. `seen` is what the cache shows.
pub(super) async fn ensure(
    context: &Context,
    prepared: &Prepared,
    state: &mut JobState,
    seen: Option<Workload>,
    now: Seconds,
) -> Result<Workload, Refused> {
    let job = &prepared.job;
    left_behind(context, job)?;
    let owned = match &job.target {
        Target::Owned(owned) => owned,
        Target::Existing { resource, name } => {
            let seen = seen.ok_or_else(|| {
                let message = format!(
                    "{} {name} does not exist in namespace {}: create it, or correct spec.targetRef",
                    resource.kind, job.key.namespace
                );
                trouble(reasons::TARGET_NOT_FOUND, message)
            })?;
            check_claim(context, job, &seen)?;
            return Ok(seen);
        }
    };
    if let Some(seen) = seen.as_ref().filter(|seen| is_current(prepared, owned, state, seen)) {
        state.attempts.succeeded(Request::Workload);
        // The pods start without the file; it comes to them later.
        ensure_processing(context, prepared, state, now).await;
        return Ok(seen.clone());
    }
    let present = seen.map(|seen| (seen.view.uid, seen.view.generation));
    let asked = job.asked(&format!("{:?} over {present:?}", prepared.workload_hash));
    if context.must_wait(&job.key, state, Request::Workload, &asked, now) {
        return Err(Refused::Waits);
    }
    let ensured = ensure_live(context, prepared, owned, state, now).await;
    context.note(&job.key, state, Request::Workload, asked, ensured, now)
}

/// Something is to be written, so this looks at what there is now.
async fn ensure_live(
    context: &Context,
    prepared: &Prepared,
    owned: &OwnedWorkload,
    state: &mut JobState,
    now: Seconds,
) -> Result<Workload, Refused> {
    let job = &prepared.job;
    let live = observe::live_workload(context, job, now).await?;
    if let Some(live) = &live {
        check_owner(context, job, live)?;
        if live.view.being_deleted {
            return Err(trouble(
                reasons::WORKLOAD_REJECTED,
                format!("the {} {} is being deleted; Sluice waits for its end", kind(owned), job.key.name),
            ));
        }
    }
    ensure_processing(context, prepared, state, now).await;
    match live {
        Some(live) if is_current(prepared, owned, state, &live) => Ok(live),
        Some(live) => apply_body(context, job, state, &build::workload(job, owned), Some(&live)).await,
        None => {
            // What is known of the job may be old: for one that is gone a workload would be made and collected, again and again.
            if !observe::is_there(&context.client, job).await? {
                return Err(Refused::Error(Error::Gone));
            }
            create(context, job, owned, state).await
        }
    }
}

/// A workload that this job made for an earlier spec must not go on beside another one: its workers read from the same group,
/// and nothing scales them. A spec cannot be changed so; an older definition in the cluster may have let it pass.
fn left_behind(context: &Context, job: &Job) -> Result<(), Refused> {
    for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet] {
        let resource = build::workload_resource(kind);
        let is_target = match &job.target {
            Target::Owned(owned) => owned.workload.kind == kind,
            Target::Existing { resource: target, name } => {
                target.group == "apps" && target.kind == resource.kind && *name == job.key.name
            }
        };
        let before = observe::cached(context, job, kind).filter(|_| !is_target);
        if before.is_some_and(|before| before.view.is_controlled_by(&job.uid) && !before.view.being_deleted) {
            let (kind, name) = (resource.kind, &job.key.name);
            let message = format!(
                "the {kind} {name}, which this StreamJob made for an earlier spec, still runs: delete it (kubectl -n {} delete {} {name}) once the workers of the new spec may take over, or put the spec back",
                job.key.namespace,
                kind.to_lowercase()
            );
            return Err(trouble(reasons::WORKLOAD_LEFT_BEHIND, message));
        }
    }
    Ok(())
}

/// A workload that another StreamJob has is left alone, or the two would undo each other's writes for ever.
fn check_claim(context: &Context, job: &Job, target: &Workload) -> Result<(), Refused> {
    if job.settings.mode == Mode::Recommend {
        return Ok(());
    }
    if !context.jobs_listed.is_cancelled() {
        return Err(Refused::Waits);
    }
    let (resource, name) = observe::target(context, job);
    let runs_it = target.view.controller.as_ref().filter(|owner| owner.kind == "StreamJob" && owner.uid != job.uid);
    let other = match runs_it {
        Some(owner) => format!("StreamJob {}, which runs it,", owner.name),
        None => match context.claims.rivals(&job.key).has_workload {
            Some(other) => format!("StreamJob {}", other.name),
            None => return Ok(()),
        },
    };
    let message = format!(
        "{other} scales {} {name} already, and this StreamJob leaves it alone: delete one of the two, or point spec.targetRef elsewhere",
        resource.kind
    );
    Err(trouble(reasons::TARGET_TAKEN, message))
}

fn kind(owned: &OwnedWorkload) -> String {
    build::workload_resource(owned.workload.kind).kind
}

/// A workload of our name that is not ours is never touched.
fn check_owner(context: &Context, job: &Job, workload: &Workload) -> Result<(), Refused> {
    if workload.view.is_controlled_by(&job.uid) {
        return Ok(());
    }
    let (resource, name) = observe::target(context, job);
    let message = format!(
        "a {} named {name} exists and does not belong to this StreamJob; it is left alone: delete or rename it, or point spec.targetRef at it",
        resource.kind
    );
    Err(trouble(reasons::NAME_TAKEN, message))
}

/// Whether the workload is ours and as it was last applied.
fn is_current(prepared: &Prepared, owned: &OwnedWorkload, state: &mut JobState, workload: &Workload) -> bool {
    let (job, view) = (&prepared.job, &workload.view);
    if !view.is_controlled_by(&job.uid) || view.being_deleted || view.applied != prepared.workload_hash {
        return false;
    }
    if state.compared_generation == view.generation {
        return true;
    }
    // Somebody may have edited it. The API server writes some values in another form ("1000m" as "1"), which looks
    // like an edit; so one apply settles a generation.
    let same = contains(&workload.object.data["spec"], &build::workload(job, owned).body["spec"]);
    if same {
        state.compared_generation = view.generation;
    }
    same
}

/// The first apply carries the number of workers: without it a Deployment would start one, whatever `minReplicas` says.
async fn create(
    context: &Context,
    job: &Job,
    owned: &OwnedWorkload,
    state: &mut JobState,
) -> Result<Workload, Refused> {
    let (resource, _) = observe::target(context, job);
    let body = build::workload(job, owned);
    let initial = owned.initial_replicas.max(scheduled_floor(job, context.clock.now()));
    let created = context.applier.workload(&resource, &job.key, &body.with(None, Some(initial))).await?;
    tracing::info!(job = %job.key, replicas = initial, "created the workload");
    let created = Workload::of(std::sync::Arc::new(created));
    check_owner(context, job, &created)?;
    state.compared_generation = created.view.generation;
    Ok(created)
}

/// At creation a schedule's floor holds already; the decision core takes over with the first look.
fn scheduled_floor(job: &Job, now: Seconds) -> u32 {
    if job.settings.suspend || job.settings.pinned.is_some() {
        return 0;
    }
    crate::policy::scheduled_floor(&job.settings.schedules, now).min(job.settings.max_replicas)
}

async fn apply_body(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    body: &WorkloadBody,
    live: Option<&Workload>,
) -> Result<Workload, Refused> {
    let (resource, _) = observe::target(context, job);
    let seen = live.map(|live| &live.object.metadata);
    // Until /scale owns the number it must be part of every apply, or the count drops to 1.
    let replicas =
        live.filter(|live| live.view.owners.workload && !live.view.owners.scale).and_then(|live| live.view.desired);
    let applied = context.applier.workload(&resource, &job.key, &body.with(seen, replicas)).await?;
    let applied = Workload::of(std::sync::Arc::new(applied));
    state.compared_generation = applied.view.generation;
    Ok(applied)
}

/// Writes the processing file if it is not as it should be. That it cannot be written keeps nothing else from being done; the
/// status says so.
async fn ensure_processing(context: &Context, prepared: &Prepared, state: &mut JobState, now: Seconds) {
    let (job, hash) = (&prepared.job, &prepared.processing_hash);
    if state.processing.as_ref().is_some_and(|(known, at)| known == hash && now - *at < PROCESSING_PERIOD) {
        return;
    }
    let asked = job.asked(hash);
    if context.must_wait(&job.key, state, Request::Processing, &asked, now) {
        return;
    }
    let written = write_processing(context, job).await;
    if context.note(&job.key, state, Request::Processing, asked, written, now).is_ok() {
        state.processing = Some((hash.clone(), now));
    }
}

async fn write_processing(context: &Context, job: &Job) -> Result<(), Refused> {
    let body = build::processing(job);
    let name = build::processing_name(&job.key.name);
    let api =
        kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(context.client.clone(), &job.key.namespace);
    let live = observe::read("read the processing file", api.get_opt(&name)).await?;
    if let Some(live) = &live {
        use kube::ResourceExt as _;
        let ours = live.owner_references().iter().any(|owner| owner.uid == job.uid && owner.controller == Some(true));
        if !ours {
            let message = format!(
                "a ConfigMap named {name} exists and does not belong to this StreamJob; it is left alone: delete or rename it"
            );
            return Err(trouble(reasons::NAME_TAKEN, message));
        }
    }
    let live = live.map(|live| serde_json::json!(live)).unwrap_or_default();
    if !contains(&live["data"], &body["data"]) {
        context.applier.processing(&job.key.namespace, &name, &body).await?;
    }
    Ok(())
}

/// Brings the number of workers to what was decided, one step of ownership at a time.
pub(super) async fn scale(
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
    context.note(&job.key, state, Request::Scale, asked, outcome, now).map(|()| scaled)
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
    let live = observe::live_workload(context, job, now).await?;
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
    let marks = leaving::marks(plan.pods, plan.partitions, to);
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
        Target::Owned(_) => replicas::next(&workload.view, decision.desired, standing),
        Target::Existing { .. } if job.settings.mode == Mode::Recommend => Step::Nothing,
        Target::Existing { .. } => replicas::next_existing(&workload.view, decision.desired, standing, state.taken),
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
            apply_body(context, job, state, &body, Some(workload)).await?;
            Ok(None)
        }
        Step::Scale(write) => {
            let (resource, name) = observe::target(context, job);
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

/// A verdict about the workload, for the condition Ready.
fn trouble(reason: &'static str, message: String) -> Refused {
    Refused::Trouble(Verdict { reason, message })
}
