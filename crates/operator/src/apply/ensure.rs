//! Makes sure that the workload of a job exists, is the job's alone, and has the job's template; and that the processing file is
//! there. Every write rests on a live look.

use kube::ResourceExt as _;

use sluice_api::JOB_LABEL;
use sluice_api::conditions::reasons;
use sluice_api::v1alpha1::WorkloadKind;
use sluice_base::units::Seconds;
use sluice_policy::Mode;

use crate::apply::attempts::Request;
use crate::apply::build::{self, Prepared, WorkloadBody};
use crate::apply::compare::contains;
use crate::context::{Context, JobState};
use crate::error::{Error, Refused};
use crate::observe::live::{self, Workload};
use crate::status::signals::Verdict;
use crate::validate::{Job, OwnedWorkload, Target};

/// The processing file is compared with the cluster's this often, besides when it changes.
const PROCESSING_PERIOD: Seconds = Seconds(600.0);

/// Makes sure that the workload exists, is ours, and has the job's template. `seen` is what the cache shows.
pub(crate) async fn ensure(
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
    let live = live::live_workload(context, job, now).await?;
    if let Some(live) = &live {
        check_owner(context, job, live)?;
        if live.view.being_deleted {
            return Err(trouble(
                reasons::WORKLOAD_TERMINATING,
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
            if !live::is_there(&context.client, job).await? {
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
        let before = live::cached(context, job, kind).filter(|_| !is_target);
        if before.is_some_and(|before| before.view.is_controlled_by(&job.uid) && !before.view.being_deleted) {
            let (kind, name) = (resource.kind, &job.key.name);
            let message = format!(
                "the {kind} {name}, which this StreamJob made for an earlier spec, still runs: delete it (kubectl -n {} delete {} {name}) when the workers of the new spec may start, or restore the earlier spec",
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
    let (resource, name) = live::target(context, job);
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
    let (resource, name) = live::target(context, job);
    let message = format!(
        "a {} named {name} exists and does not belong to this StreamJob; it is left alone: delete or rename it, or point spec.targetRef at it",
        resource.kind
    );
    Err(trouble(reasons::NAME_TAKEN, message))
}

/// Whether the workload is ours and as it was last applied.
fn is_current(prepared: &Prepared, owned: &OwnedWorkload, state: &mut JobState, workload: &Workload) -> bool {
    let (job, view) = (&prepared.job, &workload.view);
    // Without our label the caches do not see it: every look would be a live one.
    let is_labelled = workload.object.labels().get(JOB_LABEL) == Some(&job.key.name);
    if !view.is_controlled_by(&job.uid) || view.being_deleted || view.applied != prepared.workload_hash || !is_labelled
    {
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
    let (resource, _) = live::target(context, job);
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
    sluice_policy::scheduled_floor(&job.settings.schedules, now).min(job.settings.max_replicas)
}

pub(crate) async fn apply_body(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    body: &WorkloadBody,
    live: Option<&Workload>,
) -> Result<Workload, Refused> {
    let (resource, _) = live::target(context, job);
    let seen = live.map(|live| &live.object.metadata);
    // Until /scale owns the number it must be part of every apply, or the count drops to 1.
    let replicas =
        live.filter(|live| live.view.owners.workload && !live.view.owners.scale).and_then(|live| live.view.desired);
    let first = live.and_then(|live| body.with_strategy_of(&live.object.data));
    let prepared = match first {
        Some(first) => Some(context.applier.workload(&resource, &job.key, &first.with(seen, replicas)).await?),
        None => None,
    };
    let seen = prepared.as_ref().map_or(seen, |prepared| Some(&prepared.metadata));
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
    let live = live::read("read the processing file", api.get_opt(&name)).await?;
    if let Some(live) = &live {
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

/// A verdict about the workload, for the condition Ready.
fn trouble(reason: &'static str, message: String) -> Refused {
    Refused::Trouble(Verdict { reason, message })
}
