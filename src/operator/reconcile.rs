//! One reconcile: observe, validate, decide, build, apply, status. It never waits for a source.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use serde_json::json;

use crate::api::conditions::reasons;
use crate::api::status::{DecisionStatus, StreamJobStatus};
use crate::api::v1alpha1::Mode;
use crate::api::{JOB_LABEL, RESUME_ANNOTATION, StreamJob};
use crate::policy::units::Seconds;
use crate::policy::{self, Decision, Memory};
use crate::serve::metrics::JobNumbers;
use crate::signals::{JobKey, JobSamples};

use super::attempts::{Asked, Request};
use super::build::Prepared;
use super::claims::Rivals;
use super::context::{Context, JobState};
use super::error::Error;
use super::events::Start;
use super::health::Verdict;
use super::observe::{PodFacts, Seen, Workload};
use super::rollout::{self, Plan, Refused};
use super::status::Facts;
use super::validate::{Job, Problem, Target};
use super::{decide, events, health, learned, news, observe, pod_troubles, status, unreadable, validate};

/// A job is looked at this often even if nothing happens: no watch promises to deliver everything.
const PERIOD: Duration = Duration::from_secs(15);

/// A job whose reconcile has panicked is left alone for so long.
const SET_ASIDE: Seconds = Seconds(60.0);

/// Reconciles one `StreamJob`. A panic is a fault of ours that this one job has brought to light: it is told, the job is set
/// aside for a while, and the others go on.
pub(super) async fn reconcile(
    object: Arc<DeserializeGuard<StreamJob>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let _under_way = context.health.reconciling(context.clock.monotonic());
    let object = match object.0.as_ref() {
        Ok(object) => object,
        Err(error) => {
            unreadable::tell(&context, &error.metadata, &error.error).await;
            return Err(Error::Unreadable(error.error.clone()));
        }
    };
    if let Ok(action) = AssertUnwindSafe(reconcile_one(object, &context)).catch_unwind().await {
        return Ok(action);
    }
    let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    context.metrics.reconcile_error("panicked");
    tracing::error!(job = %key, "a reconcile has panicked, which is a fault of this program: the job is left as it is for {} s, the others go on", SET_ASIDE.0);
    let entry = context.jobs.entry(&key);
    let mut state = entry.lock().await;
    let now = context.clock.now();
    // What was in memory may be half of something; what was learned is in the status.
    *state = JobState { set_aside_until: Some(now + SET_ASIDE), uid: state.uid.clone(), ..JobState::default() };
    // Whatever has failed may fail here again.
    let told = AssertUnwindSafe(publish(&context, object, &key, &mut state, panicked(object), now)).catch_unwind();
    if told.await.is_err() {
        tracing::error!(job = %key, "and the status of the job cannot say so");
    }
    Ok(Action::requeue(Duration::from_secs_f64(SET_ASIDE.0)))
}

/// What the status says of a job that has brought a fault of ours to light.
fn panicked(object: &StreamJob) -> Facts<'static> {
    let message = format!(
        "the operator has failed on this StreamJob, which is a fault of Sluice: its workers go on as they are, and it is tried again every {} s; please report it with the operator's log",
        SET_ASIDE.0
    );
    let trouble = Verdict { reason: reasons::INTERNAL_ERROR, message };
    Facts { generation: object.metadata.generation, workload_trouble: Some(trouble), ..last_known(object) }
}

async fn reconcile_one(object: &StreamJob, context: &Context) -> Action {
    let started = context.clock.monotonic();
    let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    if object.metadata.deletion_timestamp.is_some() {
        // Owner references take the workers down; what is left of us is what we hold in memory.
        context.signals.forget(&key);
        return Action::await_change();
    }
    let entry = context.jobs.entry(&key);
    let mut state = entry.lock().await;
    let now = context.clock.now();
    if let Some(until) = state.set_aside_until.filter(|until| *until > now) {
        return Action::requeue(Duration::from_secs_f64((until - now).0));
    }
    start_anew_if_replaced(&mut state, object, now);
    let action = if context.excluded.contains(&key.namespace) {
        leave_out(context, object, &key, &mut state, now).await
    } else {
        pass(context, object, &key, &mut state).await
    };
    context.metrics.reconcile((context.clock.monotonic() - started).as_secs_f64());
    state.attempts.next(now).map_or(action, |wait| Action::requeue(wait.min(PERIOD)))
}

/// What there is of it stays as it is; its owner learns why.
async fn leave_out(context: &Context, object: &StreamJob, key: &JobKey, state: &mut JobState, now: Seconds) -> Action {
    context.signals.forget(key);
    let message = format!(
        "Sluice does nothing in the namespace {}: create the StreamJob in another, or have an administrator take this one out of the operator's --exclude-namespaces (excludeNamespaces of its chart)",
        key.namespace
    );
    let trouble = Verdict { reason: reasons::NAMESPACE_EXCLUDED, message };
    let facts = Facts { generation: object.metadata.generation, workload_trouble: Some(trouble), ..last_known(object) };
    publish(context, object, key, state, facts, now).await;
    Action::await_change()
}

fn start_anew_if_replaced(state: &mut JobState, object: &StreamJob, now: Seconds) {
    let uid = object.uid().unwrap_or_default();
    if state.uid != uid {
        // What an earlier run of the operator learned is a prior, and what it counted goes on. Nothing else is taken from the status.
        let prior = object.status.as_ref().map(learned::prior).unwrap_or_default();
        let mut memory = Memory::with_prior(prior);
        if let Some(history) = object.status.as_ref().and_then(|status| learned::history(status, now)) {
            memory.recall_history(&history);
        }
        *state = JobState { uid, memory, ..JobState::default() };
    }
}

/// The table of contents.
async fn pass(context: &Context, object: &StreamJob, key: &JobKey, state: &mut JobState) -> Action {
    let now = context.clock.now();
    let prepared = match prepare(object, state) {
        Ok(prepared) => prepared,
        Err(problems) => {
            // The workers go on as they are; nothing is measured for a spec that nobody can read.
            context.signals.forget(key);
            let facts = Facts { generation: object.metadata.generation, problems: &problems, ..last_known(object) };
            publish(context, object, key, state, facts, now).await;
            return Action::await_change();
        }
    };

    let job = &prepared.job;

    // Observe.
    let mut trouble = None;
    let seen = match look(context, job, state, now).await {
        Ok(seen) => seen,
        Err(refused) => {
            // Nothing is known of its workers, so nothing is decided.
            let trouble = trouble_of(refused, state);
            if trouble.is_some() {
                let last = last_known(object);
                let facts = Facts {
                    generation: job.generation,
                    settings: Some(&job.settings),
                    workload_trouble: trouble,
                    ..last
                };
                publish(context, object, key, state, facts, now).await;
            }
            return Action::requeue(PERIOD);
        }
    };
    let Seen { mut workload, pods } = seen;
    let pods_unknown = pods.is_none();
    let pods = pods.unwrap_or_default();
    context.signals.watch(key, observe::watch(job, &pods));
    let samples = context.signals.read(key).unwrap_or_default();
    count_failures(context, state, &samples);

    // Is it ours, and as it should be?
    match rollout::ensure(context, &prepared, state, workload.take(), now).await {
        Ok(ensured) => workload = Some(ensured),
        Err(Refused::Trouble(verdict)) => trouble = Some(verdict),
        Err(Refused::Error(Error::Gone)) => return Action::requeue(PERIOD),
        Err(Refused::Error(_) | Refused::Waits) => {}
    }

    // Decide.
    let desired = workload.as_ref().and_then(|workload| workload.view.desired);
    let before = context.clock.monotonic();
    let refusal = workload.as_ref().map(|workload| state.refusals.look(&workload.view, &pods, now)).unwrap_or_default();
    let counted = workload.as_ref().and_then(|workload| workload.view.counted);
    let wanted = decide::Wanted { desired, granted: refusal.granted, pods_unknown, counted };
    let observation = decide::observation(job, wanted, &pods, &samples, now);
    let decision = policy::decide(&mut state.memory, &observation, &job.settings);
    context.metrics.decision(decision.action, decision.reason, (context.clock.monotonic() - before).as_secs_f64());
    tracing::debug!(job = %key, desired, decision = decision.desired, reason = decision.reason.as_str(), message = %decision.message, "decided");

    // Apply.
    let mut standing = None;
    let mut changed = None;
    if let (Some(workload), None) = (&workload, &trouble) {
        let plan = Plan { decision: &decision, pods: &pods, partitions: &observation.partitions };
        let scaled = rollout::scale(context, job, state, workload, &plan, now).await;
        match scaled {
            Ok(scaled) => {
                standing = Some(scaled.standing);
                changed = scaled.from.and_then(|from| change(from, &decision, now));
            }
            Err(Refused::Trouble(verdict)) => trouble = Some(verdict),
            Err(Refused::Error(_) | Refused::Waits) => {}
        }
    }
    let trouble = trouble.or_else(|| state.attempts.trouble().cloned());
    let recommended = recommendation(job, state, desired, &decision, now);

    // Status.
    let facts = facts(job, &pods, workload.as_ref(), &samples, &decision, now);
    let begun = *state.begun.get_or_insert(now);
    let told = status::tells_of_strangers(object.status.as_ref());
    let strangers = match decision.explain.strangers {
        Some(_) => state.strangers.look(job, &pods, &samples, told, now),
        None => state.strangers.none(now),
    };
    let start = Start {
        workers: facts.failing.is_none()
            && facts.unschedulable.is_none()
            && !refusal.now
            && health::workers_start(&pods, begun, now),
        signals: health::signals_start(&samples, job.latency, begun, now),
    };
    let facts = Facts {
        contested: contested(context, job),
        pods_unknown,
        replicas: if pods_unknown { counted.unwrap_or(0) } else { facts.replicas },
        workload_trouble: trouble,
        refusal,
        crashing: state.crash_loops.look(&pods, now),
        strangers,
        start,
        standing,
        foreign_writer: state.conflict_with.clone(),
        changed: changed.or(recommended),
        ..facts
    };
    context.metrics.job(
        key,
        JobNumbers { target: job.settings.latency.0, replicas: facts.replicas, ready: facts.ready },
        &decision,
    );
    if !unheard(object, job, state, &facts, now) {
        publish(context, object, key, state, facts, now).await;
    }
    Action::requeue(PERIOD)
}

/// The job's workload and its pods: from the caches if the workload is our own.
async fn look(context: &Context, job: &Job, state: &mut JobState, now: Seconds) -> Result<Seen, Refused> {
    if let Target::Owned(owned) = &job.target {
        return Ok(observe::owned(context, job, owned.workload.kind));
    }
    if let Some(held) = state.existing.held(job, now) {
        return Ok(held);
    }
    let asked = job.asked("");
    if context.must_wait(&job.key, state, Request::Target, &asked, now) {
        return Err(Refused::Waits);
    }
    let mut existing = std::mem::take(&mut state.existing);
    let looked = existing.look(context, job, now).await;
    state.existing = existing;
    context.note(&job.key, state, Request::Target, asked, looked, now)
}

/// What there is to tell of a request that was not made, or has failed.
fn trouble_of(refused: Refused, state: &JobState) -> Option<Verdict> {
    match refused {
        Refused::Trouble(verdict) => Some(verdict),
        Refused::Error(_) | Refused::Waits => state.attempts.trouble().cloned(),
    }
}

/// Other jobs that name the same workload, or read from the same group.
fn contested(context: &Context, job: &Job) -> Option<Verdict> {
    let Rivals { want_workload, share_group, .. } = context.claims.rivals(&job.key);
    if !want_workload.is_empty() && job.settings.mode != Mode::Recommend {
        let message = format!(
            "Sluice decides the number of workers; {} also names this workload in spec.targetRef, and is ignored there: delete one, or point it elsewhere",
            named(&want_workload)
        );
        return Some(Verdict { reason: reasons::TARGET_CONTESTED, message });
    }
    let (group, others) = share_group?;
    let message = format!(
        "Sluice decides the number of workers; {} reads the same topic in the same consumer group, {group}: each is sized for all its records, although they share them: give each a group of its own",
        named(&others)
    );
    Some(Verdict { reason: reasons::SHARED_CONSUMER_GROUP, message })
}

/// The first of these jobs, and how many more there are.
fn named(jobs: &[JobKey]) -> String {
    match jobs {
        [one] => format!("StreamJob {one}"),
        [first, rest @ ..] => format!("StreamJob {first} (and {} more)", rest.len()),
        [] => String::new(),
    }
}

/// The spec, parsed and checked, and what follows from it: again only where the spec is another.
fn prepare(object: &StreamJob, state: &mut JobState) -> Result<Arc<Prepared>, Vec<Problem>> {
    let same = |prepared: &&Arc<Prepared>| {
        let (job, resume) = (&prepared.job, object.annotations().get(RESUME_ANNOTATION));
        job.generation.is_some() && job.generation == object.metadata.generation && job.resume.as_ref() == resume
    };
    if let Some(prepared) = state.prepared.as_ref().filter(same) {
        return Ok(Arc::clone(prepared));
    }
    let prepared = Arc::new(Prepared::of(validate::validate(object)?));
    state.prepared = Some(Arc::clone(&prepared));
    Ok(prepared)
}

/// A restart is no news: what the operator before has told of the job holds until its sources and workers have had the time
/// to answer.
fn unheard(object: &StreamJob, job: &Job, state: &mut JobState, facts: &Facts<'_>, now: Seconds) -> bool {
    let begun = *state.begun.get_or_insert(now);
    let told = object.status.as_ref().is_some_and(|status| status.observed_generation == job.generation);
    let news = facts.workload_trouble.is_some() || facts.source_trouble.is_some() || facts.changed.is_some();
    told && facts.missing_signal.is_some() && !news && now - begun < health::stale_after(job.latency)
}

/// What a job's status says of its workers while its spec cannot be used.
fn last_known(object: &StreamJob) -> Facts<'static> {
    let status = object.status.clone().unwrap_or_default();
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    Facts { replicas: count(status.replicas), ready: count(status.ready_replicas), ..Facts::default() }
}

fn facts<'a>(
    job: &'a Job,
    pods: &[PodFacts],
    workload: Option<&Workload>,
    samples: &JobSamples,
    decision: &'a Decision,
    now: Seconds,
) -> Facts<'a> {
    let number = |wanted: fn(&&PodFacts) -> bool| u32::try_from(pods.iter().filter(wanted).count()).unwrap_or(u32::MAX);
    let selector = match &job.target {
        Target::Owned(_) => Some(format!("{JOB_LABEL}={}", job.key.name)),
        Target::Existing { .. } => workload.and_then(|workload| workload.view.selector.clone()),
    };
    Facts {
        generation: job.generation,
        settings: Some(&job.settings),
        selector,
        replicas: number(|pod| !pod.terminating),
        ready: number(|pod| pod.ready && !pod.terminating),
        decision: Some(decision),
        source_trouble: health::source_trouble(samples, job.latency, now),
        missing_signal: health::missing_signal(samples, pods, job.latency, now)
            .or_else(|| health::contradiction(decision))
            .or_else(|| health::unverifiable(decision)),
        signal_note: health::note(samples),
        rolling_out: workload.is_some_and(|workload| workload.view.rolling_out),
        unschedulable: pods.iter().find_map(|pod| pod.unschedulable.clone()),
        failing: pod_troubles::failing(pods, now),
        deadline_exceeded: workload.and_then(|workload| workload.view.deadline_exceeded.clone()),
        ..Facts::default()
    }
}

fn change(from: u32, decision: &Decision, now: Seconds) -> Option<DecisionStatus> {
    let to = decision.desired?;
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    Some(DecisionStatus {
        time: Time(super::timestamp(now)),
        from: count(from),
        to: count(to),
        reason: decision.reason.as_str().to_owned(),
        bound_by: decision.bound_by.as_str().to_owned(),
        message: decision.message.clone(),
    })
}

/// In mode Recommend a new recommendation is told like a decision, though nothing is written.
fn recommendation(
    job: &Job,
    state: &mut JobState,
    desired: Option<u32>,
    decision: &Decision,
    now: Seconds,
) -> Option<DecisionStatus> {
    let (Some(desired), Some(wanted)) = (desired, decision.recommended) else { return None };
    if job.settings.mode != Mode::Recommend || job.settings.pinned.is_some() || job.settings.suspend {
        state.recommended = None;
        return None;
    }
    let last = state.recommended.replace(wanted);
    let news = last != Some(wanted) && (last.is_some() || wanted != desired);
    news.then(|| change(desired, &Decision { desired: Some(wanted), ..decision.clone() }, now)).flatten()
}

/// Each failed attempt of a source is counted once, whoever reads of it how often.
fn count_failures(context: &Context, state: &mut JobState, samples: &JobSamples) {
    for source in &samples.sources {
        let Some(failure) = &source.failure else { continue };
        let last = state.counted_failures.insert(source.name.clone(), failure.at);
        if last != Some(failure.at) {
            context.metrics.source_error(failure.category.as_str());
        }
    }
}

/// Writes the status and the events if there is something to say.
async fn publish(
    context: &Context,
    object: &StreamJob,
    key: &JobKey,
    state: &mut JobState,
    facts: Facts<'_>,
    now: Seconds,
) {
    let empty = StreamJobStatus::default();
    // What the cache shows may be older than what was last written; somebody else's edit is put right with the next write.
    let previous = state.status.as_ref().or(object.status.as_ref()).unwrap_or(&empty);
    let untold = std::mem::take(&mut state.untold);
    let facts = Facts { untold: &untold, ..facts };
    let mut next = status::build(previous, &facts, super::timestamp(now));
    let news = events::events(
        &previous.conditions,
        &next.conditions,
        facts.changed.as_ref(),
        facts.start,
        &mut state.withheld,
    );
    if !news::needs_write(previous, &next, facts.settings) {
        state.attempts.not_needed(Request::Status, now);
        events::publish(&context.recorder, object, news);
        return;
    }
    let generation = object.metadata.generation;
    let asked = Asked { spec: (generation, object.annotations().get(RESUME_ANNOTATION).cloned()), body: String::new() };
    if context.must_wait(key, state, Request::Status, &asked, now) {
        state.untold = still_untold(facts.changed, untold);
        return;
    }
    if let Some(settings) = facts.settings {
        next.attainment = learned::attainment(&state.memory, settings);
    }
    if let Some(change) = &facts.changed {
        tracing::info!(job = %key, from = change.from, to = change.to, reason = %change.reason, bound_by = %change.bound_by, "{}", change.message);
    }
    // The cache may still show what was there before our last write. Where it has skipped that version this one is refused,
    // and the next goes by the cache again.
    let seen = object.metadata.resource_version.as_ref();
    let version = state.written.take().filter(|written| Some(written) != seen);
    let body = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {
            "name": key.name, "namespace": key.namespace, "uid": object.uid(), "resourceVersion": version.as_ref().or(seen),
        },
        "status": next,
    });
    let written = context.applier.status(key, &body).await;
    events::publish(&context.recorder, object, news);
    match written {
        Ok(written) => {
            state.status = Some(next);
            state.written = written.metadata.resource_version;
            state.attempts.succeeded(Request::Status);
        }
        // Deleted in the meantime: nobody is left to tell.
        Err(error) if error.category() == "not_found" => {}
        Err(error) => {
            state.status = None;
            state.untold = still_untold(facts.changed, untold);
            // The context has told the log; nobody else is waiting for it.
            let _ = context.note(key, state, Request::Status, asked, Err::<(), _>(error.into()), now);
        }
    }
}

/// Changes that the next status has to tell of, the newest first.
fn still_untold(changed: Option<DecisionStatus>, untold: Vec<DecisionStatus>) -> Vec<DecisionStatus> {
    changed.into_iter().chain(untold).take(status::RECENT).collect()
}
