//! Makes sure that the workload of a job exists, belongs to this job alone and has its template, and that the
//! processing file exists. Every write is based on a live read.

use kube::ResourceExt as _;

use sluice_api::JOB_LABEL;
use sluice_api::conditions::reasons;
use sluice_api::v1alpha1::WorkloadKind;
use sluice_base::units::Seconds;
use sluice_policy::Mode;

use crate::apply::attempts::Request;
use crate::apply::build::{self, Prepared, WorkloadBody};
use crate::apply::compare::contains;
use crate::cause::ConditionCause;
use crate::context::Context;
use crate::error::{Blocked, Error};
use crate::job_state::JobState;
use crate::observe::live::{self, Workload};
use crate::validate::{Job, OwnedWorkload, Target};

/// Time between two comparisons of the processing file with the one in the cluster, while its content does not change.
const PROCESSING_PERIOD: Seconds = Seconds(600.0);

/// What is known of the objects that were applied for a job.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Generation of the workload whose spec was last compared with the wanted one.
    compared_generation: Option<i64>,
    /// Hash of the processing file in the cluster, and the time of its last comparison.
    processing_file: Option<(String, Seconds)>,
}

impl Applied {
    fn is_compared(&self, generation: Option<i64>) -> bool {
        self.compared_generation == generation
    }

    fn has_processing_file(&self, hash: &str, now: Seconds) -> bool {
        self.processing_file.as_ref().is_some_and(|(known, at)| known == hash && now - *at < PROCESSING_PERIOD)
    }
}

/// Makes sure that the workload exists, belongs to the job and has its template. `seen` is the workload in the cache.
pub(crate) async fn ensure(
    context: &Context,
    prepared: &Prepared,
    state: &mut JobState,
    seen: Option<Workload>,
    now: Seconds,
) -> Result<Workload, Blocked> {
    let job = &prepared.job;
    check_left_behind(context, job)?;
    let owned = match &job.target {
        Target::Owned(owned) => owned,
        Target::Existing { resource, name } => {
            let seen = seen.ok_or_else(|| {
                let message = format!(
                    "{} {name} does not exist in namespace {}: create it, or correct spec.targetRef",
                    resource.kind, job.key.namespace
                );
                blocked_by(reasons::TARGET_NOT_FOUND, message)
            })?;
            check_claim(context, job, &seen)?;
            return Ok(seen);
        }
    };
    if let Some(seen) = seen.as_ref().filter(|seen| is_current(prepared, owned, state, seen)) {
        state.attempts.record_success(Request::Workload);
        // Pods start without the file and get it later.
        ensure_processing(context, prepared, state, now).await;
        return Ok(seen.clone());
    }
    let present = seen.map(|seen| (seen.view.uid, seen.view.generation));
    let request_key = job.request_key(&format!("{:?} over {present:?}", prepared.workload_hash));
    if context.must_wait(&job.key, state, Request::Workload, &request_key, now) {
        return Err(Blocked::BackingOff);
    }
    let ensured = ensure_live(context, prepared, owned, state, now).await;
    context.record_outcome(&job.key, state, Request::Workload, request_key, ensured, now)
}

/// Reads the workload from the API server, and creates or applies it if necessary.
async fn ensure_live(
    context: &Context,
    prepared: &Prepared,
    owned: &OwnedWorkload,
    state: &mut JobState,
    now: Seconds,
) -> Result<Workload, Blocked> {
    let job = &prepared.job;
    let live = live::live_workload(context, job, now).await?;
    if let Some(live) = &live {
        check_owner(context, job, live)?;
        if live.view.being_deleted {
            return Err(blocked_by(
                reasons::WORKLOAD_TERMINATING,
                format!("the {} {} is being deleted; Sluice creates it again afterwards", kind(owned), job.key.name),
            ));
        }
    }
    ensure_processing(context, prepared, state, now).await;
    match live {
        Some(live) if is_current(prepared, owned, state, &live) => Ok(live),
        Some(live) => apply_body(context, job, state, &build::workload(job, owned), Some(&live)).await,
        None => {
            // The watch may be behind: for a deleted job a workload would be created and garbage collected repeatedly.
            if !live::job_still_exists(&context.client, job).await? {
                return Err(Blocked::Failed(Error::Gone));
            }
            create(context, job, owned, state).await
        }
    }
}

/// Checks that no workload of an earlier spec of this job still runs: its workers would read in the same consumer
/// group, and nothing would scale them. The CEL rules forbid such a change of the spec, but an older definition in the
/// cluster may have allowed it.
fn check_left_behind(context: &Context, job: &Job) -> Result<(), Blocked> {
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
                "the {kind} {name}, which this StreamJob created for an earlier spec, still runs: delete it to let the workers of the new spec start (kubectl -n {} delete {} {name}), or restore the earlier spec",
                job.key.namespace,
                kind.to_lowercase()
            );
            return Err(blocked_by(reasons::WORKLOAD_LEFT_BEHIND, message));
        }
    }
    Ok(())
}

/// Checks that no other StreamJob scales the target: the two would undo each other's writes forever.
fn check_claim(context: &Context, job: &Job, target: &Workload) -> Result<(), Blocked> {
    if job.settings.mode == Mode::Recommend {
        return Ok(());
    }
    if !context.jobs_listed.is_cancelled() {
        return Err(Blocked::BackingOff);
    }
    let (resource, name) = live::target(context, job);
    let runs_it = target.view.controller.as_ref().filter(|owner| owner.kind == "StreamJob" && owner.uid != job.uid);
    let other = match runs_it {
        Some(owner) => format!("StreamJob {}, which runs it", owner.name),
        None => match context.claims.rivals(&job.key).has_workload {
            Some(other) => format!("StreamJob {}", other.name),
            None => return Ok(()),
        },
    };
    let message = format!(
        "{} {name} is already scaled by {other}; this StreamJob does not scale it: delete one of the two, or change spec.targetRef",
        resource.kind
    );
    Err(blocked_by(reasons::TARGET_TAKEN, message))
}

fn kind(owned: &OwnedWorkload) -> String {
    build::workload_resource(owned.workload.kind).kind
}

/// Checks that a workload of the job's name belongs to the job. Sluice never changes one that does not.
fn check_owner(context: &Context, job: &Job, workload: &Workload) -> Result<(), Blocked> {
    if workload.view.is_controlled_by(&job.uid) {
        return Ok(());
    }
    let (resource, name) = live::target(context, job);
    let message = format!(
        "a {} named {name} exists and does not belong to this StreamJob: delete or rename it, or name it in spec.targetRef",
        resource.kind
    );
    Err(blocked_by(reasons::NAME_TAKEN, message))
}

/// Returns whether the workload belongs to the job and is as it was last applied.
fn is_current(prepared: &Prepared, owned: &OwnedWorkload, state: &mut JobState, workload: &Workload) -> bool {
    let (job, view) = (&prepared.job, &workload.view);
    // Without the label the caches would not contain it, and every reconcile would read it live.
    let is_labelled = workload.object.labels().get(JOB_LABEL) == Some(&job.key.name);
    if !view.is_controlled_by(&job.uid) || view.being_deleted || view.applied != prepared.workload_hash || !is_labelled
    {
        return false;
    }
    if state.applied.is_compared(view.generation) {
        return true;
    }
    // Another client may have edited it. The API server also normalises some values ("1000m" to "1"), which looks like
    // an edit. So each generation is compared once, and applied at most once.
    let same = contains(&workload.object.data["spec"], &build::workload(job, owned).body["spec"]);
    if same {
        state.applied.compared_generation = view.generation;
    }
    same
}

/// Creates the workload. The first apply contains the replica count: without it a Deployment would start one worker.
async fn create(
    context: &Context,
    job: &Job,
    owned: &OwnedWorkload,
    state: &mut JobState,
) -> Result<Workload, Blocked> {
    let (resource, _) = live::target(context, job);
    let body = build::workload(job, owned);
    let initial = owned.initial_replicas.max(scheduled_floor(job, context.clock.now()));
    let created = context.applier.workload(&resource, &job.key, &body.with(None, Some(initial))).await?;
    tracing::info!(job = %job.key, replicas = initial, "workload created");
    let created = Workload::from_object(std::sync::Arc::new(created));
    check_owner(context, job, &created)?;
    state.applied.compared_generation = created.view.generation;
    Ok(created)
}

/// Returns the floor of the active schedules, which applies at creation already. Later the decision core applies it.
fn scheduled_floor(job: &Job, now: Seconds) -> u32 {
    if job.settings.suspend || job.settings.pinned.is_some() {
        return 0;
    }
    sluice_policy::scheduled_floor(&job.settings.schedules, now).min(job.settings.max_replicas)
}

/// Applies the workload. `live`: the workload as it was last read.
pub(crate) async fn apply_body(
    context: &Context,
    job: &Job,
    state: &mut JobState,
    body: &WorkloadBody,
    live: Option<&Workload>,
) -> Result<Workload, Blocked> {
    let (resource, _) = live::target(context, job);
    let seen = live.map(|live| &live.object.metadata);
    // Until `sluice/scale` owns the replica count, every apply must contain it, or it drops to 1.
    let replicas =
        live.filter(|live| live.view.owners.workload && !live.view.owners.scale).and_then(|live| live.view.desired);
    let first = live.and_then(|live| body.with_strategy_of(&live.object.data));
    let prepared = match first {
        Some(first) => Some(context.applier.workload(&resource, &job.key, &first.with(seen, replicas)).await?),
        None => None,
    };
    let seen = prepared.as_ref().map_or(seen, |prepared| Some(&prepared.metadata));
    let applied = context.applier.workload(&resource, &job.key, &body.with(seen, replicas)).await?;
    let applied = Workload::from_object(std::sync::Arc::new(applied));
    state.applied.compared_generation = applied.view.generation;
    Ok(applied)
}

/// Writes the processing file if it differs. A failure is reported in the status and prevents nothing else.
async fn ensure_processing(context: &Context, prepared: &Prepared, state: &mut JobState, now: Seconds) {
    let (job, hash) = (&prepared.job, &prepared.processing_hash);
    if state.applied.has_processing_file(hash, now) {
        return;
    }
    let request_key = job.request_key(hash);
    if context.must_wait(&job.key, state, Request::Processing, &request_key, now) {
        return;
    }
    let written = write_processing(context, job).await;
    if context.record_outcome(&job.key, state, Request::Processing, request_key, written, now).is_ok() {
        state.applied.processing_file = Some((hash.clone(), now));
    }
}

async fn write_processing(context: &Context, job: &Job) -> Result<(), Blocked> {
    let body = build::processing(job);
    let name = build::processing_name(&job.key.name);
    let api =
        kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(context.client.clone(), &job.key.namespace);
    let live = live::read("read the processing file", api.get_opt(&name)).await?;
    if let Some(live) = &live {
        let is_ours =
            live.owner_references().iter().any(|owner| owner.uid == job.uid && owner.controller == Some(true));
        if !is_ours {
            let message =
                format!("a ConfigMap named {name} exists and does not belong to this StreamJob: delete or rename it");
            return Err(blocked_by(reasons::NAME_TAKEN, message));
        }
    }
    let live = live.map(|live| serde_json::json!(live)).unwrap_or_default();
    if !contains(&live["data"], &body["data"]) {
        context.applier.processing(&job.key.namespace, &name, &body).await?;
    }
    Ok(())
}

/// Returns an error that the condition Ready reports with this reason.
fn blocked_by(reason: &'static str, message: String) -> Blocked {
    Blocked::Cause(ConditionCause { reason, message })
}
